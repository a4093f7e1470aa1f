"""One tick of every sensor, with 30 models over a populated root: idle, and with work to ask for.

    python benchmarks/ticks.py [--models 30] [--versions 5] [--runs 30] [--json]

The root: versions with signed evaluations and one in production by a signed route for each model, 40 alerts raised and
closed, 100 sealed segments, 30 commits in each table of decisions; 300 runs in Dagster's own database. A tick is
evaluated as the code server does it, ``evaluate_tick``, the making of its context included; ``empty`` is a sensor of
one line, evaluated the same way in the same run. Work: every model has a new window, a new route, a request to train
again, a version past its freshness; the log is read from its beginning. What Dagster spends afterwards, in the
daemon, on what a tick asked for is measured beside: writing a run, and writing an event. Reach: every tick below 1 s.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

AS_OF, NOW = datetime(2010, 1, 1, tzinfo=UTC), datetime(2013, 6, 15, tzinfo=UTC)
DIGEST = "sha256:" + "ab" * 32
TIME = "2010-06-01T00:00:00.000000Z"
ALERTS, SEGMENTS, COMMITS, DAGSTER_RUNS = 20, 100, 30, 300
BY = {"principal": "ada", "reason": "As measured."}


def declared(count: int) -> list[Any]:
    from assets.credit_risk import credit_risk

    return [replace(credit_risk, name=f"model_{number}") for number in range(count)]


@dataclass
class Maker:
    """Fills a root by the registry's own writes; its gates say what their table says."""

    platform: Any

    @classmethod
    def new(cls, folder: Path) -> Maker:
        from ml_platform import Platform
        from ml_platform.registry import Registry
        from ml_platform.registry.evidence import Evidence

        people = {"ada": ["ada@example.org"], "bob": ["bob@example.org"]}
        made = Platform.create(folder, kind="replay", member_keys=people, published_seed=b"3" * 32, starts_at=AS_OF)
        made.registry.close()
        registry = Registry.open(
            made.settings.registry,
            made.objects,
            signer=made.secrets.log_signer(),
            clock=made.clock,
            evidence=Evidence(made.objects, lambda *_: ()),
        )
        return cls(replace(made, registry=registry))

    def version(self, model: Any, number: int) -> None:
        """A registered version that costs no training."""
        from ml_platform.core.digests import canonical_json, document_digest
        from ml_platform.lifecycle.requesting import Candidate, candidate_path
        from ml_platform.registry import EVALUATION_NAMESPACE, AuthorshipClaim, Registration, sign

        registry, objects, name = self.platform.registry, self.platform.objects, model.name
        spec = {"name": name, "gates": [], "approvals": {}}
        digest = document_digest("definition", spec)
        objects.create_same(f"definitions/{digest.removeprefix('sha256:')}.json", canonical_json(spec))
        key = f"20100101T000000Z_{number:012x}"
        asked = Candidate(name, key, AS_OF, digest, {}, {}, {}, None)
        objects.create(candidate_path(name, key, "request"), canonical_json(asked.to_json()))
        registry.candidate_requested(name, key, as_of=AS_OF, spec=digest, inputs=digest, requested_by="service")
        run, artifact = objects.put(f"run {name} {number}".encode()), document_digest("artifact", {name: number})
        known = registry.state().models.get(name)
        before = known.production if known else None
        held = None if before is None else known.version(before).digests.artifact
        evaluation = objects.put(
            canonical_json(
                {
                    "model": name,
                    "candidate": key,
                    "run_record": run,
                    "artifact": artifact,
                    "training_set": digest,
                    "table": objects.put(b"{}"),
                    "baseline": before and {"version": before, "artifact": held},
                }
            )
        )
        signature = sign(self.platform.secrets.evaluator(), evaluation.encode(), EVALUATION_NAMESPACE)
        registry.candidate_evaluated(name, key, run_record=run, evaluation=evaluation, signature=signature)
        registry.register(Registration(name, key, artifact, digest, digest, AuthorshipClaim("known"), "service"))

    def to_production(self, model: str) -> None:
        from ml_platform import lifecycle
        from ml_platform.registry import load_signer, sign

        lifecycle.stage(self.platform, model, 1, **BY)
        for to in ("canary", "production"):
            payload = self.platform.registry.payload(model, 1, action="promote", to=to, reason="Reviewed.")
            key = load_signer(self.platform.secrets.path("people") / "ada")
            self.platform.registry.approve(payload, sign(key, payload, "promote@ml-platform"))
            lifecycle.promote(self.platform, model, 1, to, **BY)

    def history(self, models: list[Any]) -> None:
        """Alerts and sealed segments, in large transactions; commits in the tables of decisions and of outcomes."""
        import pyarrow as pa

        from ml_platform.lifecycle.sources import source_table
        from ml_platform.model import plain_sources
        from ml_platform.registry.events import Event
        from ml_platform.serving.tables import predictions_table

        events = []
        for model in models:
            for number in range(ALERTS):
                alert = f"psi-{number}"
                body = {
                    "alert": alert, "rule": "psi", "severity": "P2", "version": 1, "window": "2010-05",
                    "subject": f"x{number}", "evidence": DIGEST,
                }  # fmt: skip
                events.append(Event("alert_raised", body, model.name, NOW))
                closed = {"alert": alert, "cause": "recovered", "actor": "service", "evidence": None}
                events.append(Event("alert_closed", closed, model.name, NOW))
        for number in range(SEGMENTS):
            segment = {
                "id": f"segment-{number}", "size": 100, "root": DIGEST, "models": [models[number % len(models)].name],
                "first_id": f"{number:036d}", "last_id": f"{number:036d}", "writer": f"writer-{number}",
                "first_seq": 0, "last_seq": 99, "counts": {"decisions": 100}, "min_decided_at": TIME,
                "max_decided_at": TIME,
            }  # fmt: skip
            events.append(Event("segments_sealed", {"segments": [segment]}, None, NOW))
        for start in range(0, len(events), 500):
            self.platform.registry._log.append(events[start : start + 500])
        row = pa.table({"prediction_id": ["0"]})
        for model in models:
            for _ in range(COMMITS):
                self.platform.lake.append(predictions_table(model.name), row)
        for source in plain_sources(models[0].label.outcome):
            self.platform.lake.append(source_table(source), row)
        self.platform.registry.checkpoint()

    def retrains(self, models: list[Any]) -> None:
        """A request to train again for each model, which may start."""
        from ml_platform.core.digests import canonical_json

        found = self.platform.objects.put(canonical_json({"usefulness": {"useful_from": TIME}, "meanwhile": "wait"}))
        for model in models:
            self.platform.registry.request_retrain(
                model.name, request="retrain-1", trigger="by_hand", mode="automatic", useful_from=AS_OF,
                evidence=found, requested_by="ada",
            )  # fmt: skip
        self.platform.registry.checkpoint()


@dataclass
class Taken:
    """Milliseconds of some evaluations, wall and processor, and what the last one asked for."""

    wall: list[float]
    processor: list[float]
    asked: str

    def row(self) -> dict[str, Any]:
        ordered = sorted(self.wall)
        return {
            "p50_ms": statistics.median(ordered),
            "p99_ms": ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))],
            "max_ms": ordered[-1],
            "processor_p50_ms": statistics.median(self.processor),
            "asked": self.asked,
        }


def evaluate(sensor: Any, context: Callable[[], Any], times: int) -> tuple[Taken, Any]:
    wall, processor = [], []
    for _ in range(times):
        gc.collect()
        start, busy = time.perf_counter(), time.process_time()
        found = sensor.evaluate_tick(context())
        wall.append((time.perf_counter() - start) * 1000)
        processor.append((time.process_time() - busy) * 1000)
    asked = f"{len(found.run_requests or [])} runs, {len(found.asset_events or [])} events"
    return Taken(wall, processor, asked), found


@dg.sensor(name="empty", job_name="monitor")
def empty(_context):
    return dg.SkipReason("Nothing.")


def measure(folder: Path, models: int, versions: int, times: int) -> dict[str, Any]:
    from ml_platform.orchestration import PlatformResource, definitions

    started = time.perf_counter()
    wanted, maker = declared(models), Maker.new(folder / "root")
    for model in wanted:
        for number in range(1, versions + 1):
            maker.version(model, number)
        maker.to_production(model.name)
    maker.platform.replay.move(NOW)
    maker.history(wanted)

    resource = PlatformResource(root=str(folder / "root"))
    defs = dg.Definitions.merge(definitions(wanted, resource), dg.Definitions(sensors=[empty]))
    repository = defs.get_repository_def()
    results: dict[str, Any] = {}
    (folder / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(folder / "dagster")) as instance:
        for number in range(DAGSTER_RUNS):
            tags = {"ml/retrain": f"old-{number}"}
            instance.add_run(dg.DagsterRun(job_name="start_retrain", run_id=_uuid(number), tags=tags))
        print(
            f"populated in {time.perf_counter() - started:.0f} s; log of {maker.platform.registry.state().size} entries"
        )

        def context(cursor: str | None) -> Any:
            return dg.SensorEvaluationContext(  # as the code server makes it
                instance_ref=instance.get_ref(),
                last_tick_completion_time=None,
                last_run_key=None,
                cursor=cursor,
                log_key=None,
                repository_name=None,
                repository_def=repository,
                instance=instance,
                resources={"ml_platform": resource},
            )

        def one(name: str, cursor: str | None, what: str) -> Any:
            taken, found = evaluate(repository.get_sensor_def(name), lambda: context(cursor), times)
            results[f"{name}, {what}"] = taken.row()
            return found

        results["empty"] = evaluate(repository.get_sensor_def("empty"), lambda: context(None), times)[0].row()
        reconcile = repository.get_sensor_def("reconcile")
        results["reconcile, first of a process"] = evaluate(reconcile, lambda: context(None), 1)[0].row()
        one("reconcile", None, "work")
        caught_up, cursor = _catch_up(reconcile, context, instance)
        results["reconcile, catching up"] = caught_up.row()
        cursors: dict[str, str | None] = {"reconcile": cursor}
        for name in ("drift_watch", "promotion_push", "freshness_watch", "label_watch"):
            cursors[name] = one(name, None, "work").cursor
        for name, seen in cursors.items():
            one(name, _idle(repository.get_sensor_def(name), context, seen), "idle")
        maker.retrains(wanted)
        one("label_watch", cursors["label_watch"], "retrains")
        results["Dagster writes a run"] = _writing_runs(instance, defs, times)
        results["Dagster writes an event"] = _writing_events(instance, times)
    return results


def _uuid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def _idle(sensor: Any, context: Callable[[str | None], Any], cursor: str | None) -> str | None:
    """The cursor at which a tick has nothing to say: it catches up in small portions."""
    for _ in range(200):
        _, found = evaluate(sensor, lambda seen=cursor: context(seen), 1)
        if not found.run_requests and not found.asset_events and found.skip_message:
            return cursor
        cursor = found.cursor
    raise SystemExit("a sensor never comes to rest")


def _catch_up(sensor: Any, context: Callable[[str | None], Any], instance: Any) -> tuple[Taken, str | None]:
    """reconcile from the beginning of the log until all of it is shown, each tick once."""
    cursor, ticks = None, list[Taken]()
    while True:
        at = cursor
        taken, found = evaluate(sensor, lambda at=at: context(at), 1)
        if found.skip_message and not found.asset_events and found.cursor == at:
            break
        ticks.append(taken)
        for event in found.asset_events:
            instance.report_runless_asset_event(event)
        cursor = found.cursor
    whole = Taken([one.wall[0] for one in ticks], [one.processor[0] for one in ticks], f"{len(ticks)} ticks")
    return whole, cursor


def _writing_runs(instance: Any, defs: Any, times: int) -> dict[str, Any]:
    job, taken = defs.resolve_job_def("start_retrain"), []
    how = {"ops": {"start_retrain_op": {"config": {"model": "model_0", "request": "measured"}}}}
    for _ in range(times):
        start = time.perf_counter()
        instance.create_run_for_job(job, run_config=how, tags={"ml/retrain": "measured"})
        taken.append((time.perf_counter() - start) * 1000)
    return Taken(taken, taken, "1 run").row()


def _writing_events(instance: Any, times: int) -> dict[str, Any]:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        instance.report_runless_asset_event(dg.AssetMaterialization("measured"))
        taken.append((time.perf_counter() - start) * 1000)
    return Taken(taken, taken, "1 event").row()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=30)
    parser.add_argument("--versions", type=int, default=5)
    parser.add_argument("--runs", type=int, default=30, help="evaluations of each")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        table = measure(Path(name), given.models, given.versions, given.runs)
    if given.json:
        print(json.dumps(table))
        return
    print(f"{'ms':<34} {'p50':>8} {'p99':>8} {'max':>8} {'processor':>10}  asked for")
    for name, row in table.items():
        numbers = " ".join(f"{row[column]:8.1f}" for column in ("p50_ms", "p99_ms", "max_ms"))
        print(f"{name:<34} {numbers} {row['processor_p50_ms']:10.1f}  {row['asked']}")
    ours = [row["max_ms"] for name, row in table.items() if "," in name]
    print(f"the longest tick: {max(ours):.0f} ms; reach < 1000 ms: {'reached' if max(ours) < 1000 else 'NOT REACHED'}")


if __name__ == "__main__":
    main()
