"""A router's counters on Triton's own metrics endpoint, as ``ml_platform_router_…`` with the label ``model``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

from ml_platform.serving.router_metrics import RouterMetrics

__all__ = ["MetricsExport", "samples"]

_PREFIX: Final = "ml_platform_router_"
_EVERY_SECONDS: Final = 1.0  # each call crosses into the server: not for every batch
_COUNTERS: Final = {
    "requests": "Requests that reached the router.",
    "batches": "Batches that the server made of them.",
    "rows": "Decisions, each recorded.",
    "decided": "Decisions by version, arm and decision.",
    "refused": "Requests refused by the contract, by field and rule.",
    "flagged": "Decisions with a flag, by field, rule and policy.",
    "unavailable": "Requests answered with 503, by cause.",
    "latency_us": "Microseconds from a batch's arrival to its record, summed over decisions.",
    "log_bytes": "Bytes written to the write-ahead log.",
}
_GAUGES: Final = {
    "epoch": "Epoch of the route that is followed.",
    "flipped": "1 while a local rollback outranks the route.",
    "route_refused": "1 while a route file lies there that is not followed.",
    "last_sync_timestamp_seconds": "When the last record became durable, in seconds since 1970.",
}

Sample = tuple[str, dict[str, str], float]


def samples(metrics: RouterMetrics) -> Iterator[Sample]:
    """Every sample: short name, labels, value."""
    for name in ("requests", "batches", "rows", "log_bytes"):
        yield name, {}, float(getattr(metrics, name))
    yield "latency_us", {}, float(metrics.latency_us_sum)
    for (version, arm, decision), count in list(metrics.decided.items()):
        yield "decided", {"version": str(version), "arm": arm, "decision": decision}, float(count)
    for (field, rule), count in list(metrics.refused.items()):
        yield "refused", {"field": field, "rule": rule}, float(count)
    for flag, count in list(metrics.flagged.items()):
        yield "flagged", {"flag": flag}, float(count)
    for cause, count in list(metrics.unavailable.items()):
        yield "unavailable", {"cause": cause}, float(count)
    yield "epoch", {}, float(metrics.epoch)
    yield "flipped", {}, float(metrics.flipped)
    yield "route_refused", {}, float(metrics.route_refused is not None)
    age = metrics.last_sync_age(time.monotonic())
    if age is not None:
        yield "last_sync_timestamp_seconds", {}, time.time() - age


class MetricsExport:
    """Registers the families when the router is loaded, and brings them up to date about once a second.

    Args:
        pb: Triton's Python backend module.
        model: name of the router in the server.
    """

    def __init__(self, pb: Any, model: str) -> None:
        self._model = model
        self._families: dict[str, Any] = {}
        for texts, kind in ((_COUNTERS, pb.MetricFamily.COUNTER), (_GAUGES, pb.MetricFamily.GAUGE)):
            for name, text in texts.items():
                ending = "_total" if texts is _COUNTERS else ""
                self._families[name] = pb.MetricFamily(name=f"{_PREFIX}{name}{ending}", description=text, kind=kind)
        self._known: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[Any, float]] = {}
        self._due = 0.0

    def update(self, metrics: RouterMetrics, *, now: bool = False) -> None:
        """Exports what has changed, if a second has passed since the last time or ``now``."""
        clock = time.monotonic()
        if clock < self._due and not now:
            return
        self._due = clock + _EVERY_SECONDS
        for name, labels, value in samples(metrics):
            key = (name, tuple(labels.items()))
            metric, before = self._known.get(key, (None, 0.0))
            if metric is None:
                metric = self._families[name].Metric(labels={"model": self._model, **labels})
            if name in _GAUGES:
                metric.set(value)
            elif value > before:
                metric.increment(value - before)
            self._known[key] = (metric, value)
