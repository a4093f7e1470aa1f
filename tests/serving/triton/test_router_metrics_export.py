from __future__ import annotations

from typing import Any, ClassVar

from ml_platform.serving.router_metrics import RouterMetrics
from ml_platform.serving.triton import router_metrics_export
from ml_platform.serving.triton.router_metrics_export import MetricsExport, samples


class Metric:
    """What Triton's metric does, as far as we use it."""

    def __init__(self, kind: str) -> None:
        self.kind, self.value = kind, 0.0

    def increment(self, by: float) -> None:
        assert self.kind == "counter"
        assert by > 0
        self.value += by

    def set(self, to: float) -> None:
        assert self.kind == "gauge"
        self.value = to


class Family:
    COUNTER, GAUGE = "counter", "gauge"
    made: ClassVar[dict[tuple[str, tuple[tuple[str, str], ...]], Metric]] = {}

    def __init__(self, name: str, description: str, kind: str) -> None:
        assert description.endswith(".")
        self.name, self.kind = name, kind

    def Metric(self, labels: dict[str, str]) -> Metric:  # noqa: N802 - Triton's name
        return Family.made.setdefault((self.name, tuple(labels.items())), Metric(self.kind))


class Pb:
    MetricFamily = Family


def values() -> dict[str, float]:
    return {name: metric.value for (name, _), metric in Family.made.items()}


def test_every_sample_belongs_to_a_family_and_counts_grow_by_what_was_added(monkeypatch):
    Family.made = {}
    export = MetricsExport(Pb, "credit_risk")
    metrics = RouterMetrics(requests=3, batches=2, rows=2, latency_us_sum=50, log_bytes=9, epoch=4, last_sync=0.0)
    metrics.decided[1, "primary", "approved"] += 2
    metrics.refused["amount", "range"] += 1
    metrics.flagged["term:unknown:flag"] += 1
    metrics.unavailable["log"] += 1
    export.update(metrics)
    metrics.requests, metrics.epoch, metrics.flipped = 5, 5, True
    metrics.route_refused = "torn"
    export.update(metrics)  # within a second: not yet
    assert values()["ml_platform_router_requests_total"] == 3
    export.update(metrics, now=True)
    found = values()
    assert found["ml_platform_router_requests_total"] == 5
    assert found["ml_platform_router_rows_total"] == 2
    assert found["ml_platform_router_latency_us_total"] == 50
    assert (found["ml_platform_router_epoch"], found["ml_platform_router_flipped"]) == (5, 1)
    assert found["ml_platform_router_route_refused"] == 1
    assert found["ml_platform_router_last_sync_timestamp_seconds"] > 0
    key = ("ml_platform_router_refused_total", (("model", "credit_risk"), ("field", "amount"), ("rule", "range")))
    assert Family.made[key].value == 1
    assert all(dict(labels)["model"] == "credit_risk" for _, labels in Family.made)


def test_what_has_happened_since_a_second_is_exported_with_the_next_batch(monkeypatch):
    Family.made = {}
    clock = [100.0]
    monkeypatch.setattr(router_metrics_export.time, "monotonic", lambda: clock[0])
    export = MetricsExport(Pb, "m")
    metrics = RouterMetrics(requests=1)
    export.update(metrics)
    metrics.requests = 2
    clock[0] = 100.9
    export.update(metrics)
    assert values()["ml_platform_router_requests_total"] == 1
    clock[0] = 101.0
    export.update(metrics)
    assert values()["ml_platform_router_requests_total"] == 2


def test_before_the_first_record_there_is_no_time_of_it() -> None:
    names: list[Any] = [name for name, _, _ in samples(RouterMetrics())]
    assert "last_sync_timestamp_seconds" not in names
    assert {"requests", "epoch", "flipped"} <= set(names)
