"""The loop through Dagster: drift is watched, a retrain is asked for, decided, waits for labels, and becomes a version.

Ticks are evaluated as the daemon does; the runs that they ask for are executed here. The daemon itself runs in
tests/test_daemon.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from ml_platform import lifecycle
from ml_platform.orchestration.watchers import Tick
from tests.orchestration.test_lifecycle_in_dagster import WHY, at, move, train

MONTHS = ("2010-01", "2010-02", "2010-03", "2010-04", "2010-05")


@dataclass
class Watcher:
    """One sensor with its cursor; run keys are honoured once, as Dagster does."""

    world: Any
    name: str
    cursor: str | None = None
    used: set[str] = field(default_factory=set)
    results: list[dg.ExecuteInProcessResult] = field(default_factory=list)

    def tick(self) -> list[dg.RunRequest]:
        sensor = self.world.defs.resolve_sensor_def(self.name)
        context = dg.build_sensor_context(
            instance=self.world.instance, cursor=self.cursor, resources={"ml_platform": self.world.resource}
        )
        found = sensor(context)
        if isinstance(found, dg.SkipReason):
            return []
        for addition in found.dynamic_partitions_requests or []:
            self.world.instance.add_dynamic_partitions(addition.partitions_def_name, addition.partition_keys)
        self.cursor = found.cursor
        fresh = [run for run in found.run_requests or [] if run.run_key not in self.used]
        self.used |= {str(run.run_key) for run in fresh}
        return fresh

    def carry_out(self) -> list[str]:
        """One tick and the runs that it asked for; their jobs."""
        asked = self.tick()
        for run in asked:
            how: dict[str, Any] = {"run_config": run.run_config, "tags": dict(run.tags)}
            if run.partition_key:
                how["partition_key"] = run.partition_key
            if run.asset_selection:
                how["asset_selection"] = run.asset_selection
            job = self.world.defs.resolve_job_def(run.job_name)
            self.results.append(job.execute_in_process(instance=self.world.instance, raise_on_error=False, **how))
        return [str(run.job_name) for run in asked]


@pytest.fixture(scope="module")
def decided(world) -> Any:
    """Version 1 in production; January to May 2010 decided in batch."""
    _, result = train(world, "small", at(2010, 1))
    assert result.success
    for stage in ("staging", "canary", "production"):
        move(world, 1, stage)
    world.platform.replay.move(at(2010, 6))
    for month in MONTHS:
        world.platform.replay.move(at(2010, 6))
        assert world.run("small_score_batch", partition_key=month).success
    return world


@pytest.fixture(scope="module")
def watched(decided) -> Watcher:
    watcher = Watcher(decided, "drift_watch")
    assert watcher.carry_out() == ["monitor"]
    return watcher


def test_a_finished_window_is_profiled_judged_and_shown(watched: Watcher) -> None:
    world = watched.world
    (profile,) = world.shown("small", "data_profile", partition="2010-05")
    assert profile.metadata["ml/versions"].value[0]["rows"] > 500
    (report,) = world.shown("small", "drift_report", partition="2010-05")
    assert "data:image/png;base64," in report.metadata["ml/plot_psi_v1"].value
    assert report.metadata["ml/largest_psi_v1"].value > 0.2
    assert "P2 new_category: term" in report.metadata["ml/finding"].value
    assert report.metadata["ml/alerts_raised"].value == len(report.metadata["ml/alerts"].value["raised"]) > 0
    assert report.metadata["ml/asked_for"].value.startswith("requested retrain-1-")
    found = {one.check_name: one for one in watched.results[0].get_asset_check_evaluations()}
    assert not found["new_category"].passed
    assert found["new_category"].severity == dg.AssetCheckSeverity.WARN
    assert found["new_category"].metadata["ml/severity"].value == "P2"
    assert found["schema"].passed


def test_the_drift_raised_an_alert_and_asked_for_a_retrain_once(watched: Watcher) -> None:
    known = watched.world.platform.registry.state().model("small")
    assert {"term"} <= {one.subject for one in known.alerts.values() if one.open}
    assert len(known.retrains) == 1
    size = watched.world.platform.registry.state().size
    assert watched.carry_out() == []
    assert watched.world.platform.registry.state().size == size


def test_decisions_that_arrive_later_are_watched_again(watched: Watcher) -> None:
    asked = Watcher(watched.world, "drift_watch", cursor=watched.cursor)
    assert asked.tick() == []
    seen = watched.cursor.replace('"2010-05"', '"2010-03"')
    late = Watcher(watched.world, "drift_watch", cursor=seen)
    runs = late.tick()
    assert [run.partition_key for run in runs] == ["2010-03", "2010-04", "2010-05"]
    assert json.loads(str(late.cursor))["small"][0] == "2010-05"
    assert {run.tags["dagster/max_retries"] for run in runs} == {"2"}, "asked for once, so Dagster tries again itself"


def test_many_windows_are_caught_up_with_a_few_a_tick(watched: Watcher) -> None:
    seen = watched.cursor.replace('"2010-05"', '"2009-11"')
    late = Watcher(watched.world, "drift_watch", cursor=seen)
    ticks = [[run.partition_key for run in late.tick()] for _ in range(4)]
    assert ticks == [["2009-11", "2009-12", "2010-01"], ["2010-02", "2010-03"], ["2010-04", "2010-05"], []]


def test_a_route_is_pushed_and_shown_even_where_no_server_runs(decided) -> None:
    watcher = Watcher(decided, "promotion_push")
    assert watcher.carry_out() == ["push_repositories"]
    assert watcher.carry_out() == []
    shown = decided.shown("small", "triton_repository")[-1]
    route = decided.platform.registry.state().model("small").route
    assert shown.tags["dagster/data_version"] == str(route.epoch)
    assert shown.metadata["ml/server"].value is False


def test_the_prediction_log_is_sealed_and_counted(decided) -> None:
    assert decided.run("seal").success
    shown = decided.shown("small", "prediction_log")[-1]
    log = lifecycle.prediction_log(decided.platform, "small")
    assert shown.metadata["ml/decisions"].value == log.decisions > 3_000
    assert shown.metadata["ml/modes"].value == {"batch": log.decisions}
    assert shown.tags["dagster/data_version"] == str(log.log_index)


def test_a_retrain_waits_for_a_person_then_for_labels_then_becomes_a_version(watched: Watcher) -> None:
    world, loop = watched.world, Watcher(watched.world, "label_watch")
    (one,) = world.platform.registry.state().model("small").retrains.values()
    assert "start_retrain" not in loop.carry_out(), "nobody has decided"
    config = {"model": "small", "request": one.request, "decision": "approve", "principal": "ada", "reason": WHY}
    assert world.run("decide_retrain", run_config={"ops": {"decide_retrain_op": {"config": config}}}).success
    assert "start_retrain" not in loop.carry_out(), "too few rows with the new term are mature"
    listed = lifecycle.list_retrains(world.platform, "small", world.models[1])[0]
    assert listed["status"] == "waiting for labels"
    world.platform.replay.move(datetime(2011, 8, 1, tzinfo=UTC))
    steps = [loop.carry_out() for _ in range(4)]
    assert [job for step in steps for job in step if job != "measure_performance"] == [
        "start_retrain",
        "small_train",
        "finish_retrain",
    ]
    done = world.platform.registry.state().model("small").retrains[one.request]
    assert (done.outcome, done.version) == ("registered", 2)
    assert world.versions("small", "registered_version", partition=done.candidate)[-1] == "v2"
    assert loop.carry_out() == []


def test_performance_is_measured_when_labels_are_mature(watched: Watcher) -> None:
    world = watched.world
    world.platform.replay.move(datetime(2011, 8, 1, tzinfo=UTC))
    Watcher(world, "label_watch").carry_out()
    windows = world.instance.get_materialized_partitions(dg.AssetKey(["small", "performance_report"]))
    assert windows
    newest = max(windows)
    shown = world.shown("small", "performance_report", partition=newest)[-1]
    assert shown.metadata["ml/window"].value == newest


def test_an_old_training_set_asks_for_a_retrain(watched: Watcher) -> None:
    world, model = watched.world, watched.world.models[1]
    assert lifecycle.is_stale(world.platform, model) is False, "version 2 is fresh, though nobody has promoted it"
    world.platform.replay.move(datetime(2013, 3, 1, tzinfo=UTC))
    watcher = Watcher(world, "freshness_watch")
    assert lifecycle.is_stale(world.platform, model)
    assert watcher.carry_out() == ["ask_retrain"]
    assert watcher.carry_out() == []
    asked = world.platform.registry.state().model("small").retrains
    assert any(signal.trigger == "freshness" for one in asked.values() for signal in one.signals)


def test_a_tick_looks_each_table_up_once() -> None:
    asked: list[str] = []

    def version(table: str) -> int | None:
        asked.append(table)
        return None if table == "none" else len(asked)

    tick = Tick(SimpleNamespace(lake=SimpleNamespace(version=version)), None)
    assert [tick.version(name) for name in ("a", "a", "none", "none", "b")] == [1, 1, None, None, 3]
    assert asked == ["a", "none", "b"]
