"""The closed loop under the real daemon: drift is planted in a simulated market, and comes back as a version.

Daemon and web server are processes; the test moves the clock, decides, signs, and once kills the daemon. Everything
else happens by itself: profile, alert, request, (approval,) training, (promotion,) alert closed; and nothing twice.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ml_platform import Platform, lifecycle
from ml_platform.registry.state import ModelState
from ml_platform.simulation import Drift, LendingMarket
from tests.conftest import missing
from tests.daemon_location import quick_risk
from tests.daemon_support import Dagster, deployed, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NAME = quick_risk.name
WHY = "tested by the suite"
SENSORS = ("reconcile", "drift_watch", "promotion_push", "label_watch", "freshness_watch")
DRIFT_FROM = date(2010, 5, 1)


def at(year: int, month: int) -> datetime:
    return datetime(year, month, 1, tzinfo=UTC)


@dataclass
class Story:
    """What happened, and where to look at it."""

    platform: Platform
    dagster: Dagster
    quiet: dict[str, dict[str, Any]]
    drifted: dict[str, dict[str, Any]]
    in_flight: str

    @property
    def known(self) -> ModelState:
        return self.platform.registry.state().model(NAME)

    def entries(self) -> Counter[str]:
        log = self.platform.registry
        return Counter(entry.kind for entry in log.entries(0, log.state().size))


def new_root(folder: Path, code: Path) -> Platform:
    """Version 1, trained as of April 2010, in production; the drift of the market begins in May."""
    platform = Platform.create(
        folder / "root",
        kind="replay",
        member_keys={"ada": ["ada@example.org"], "bob": ["bob@example.org"]},
        published_seed=b"1" * 32,
        starts_at=at(2010, 4),
    )
    LendingMarket(loans=36_000, drift=Drift(starts=DRIFT_FROM, strength=1.0)).write(folder / "market")
    for source in quick_risk.sources:
        lifecycle.land_source(platform, source, folder / "market" / f"{source.name}.parquet")
    lifecycle.build_candidate(platform, quick_risk, at(2010, 4), code=code)
    promote(platform, 1)
    return platform


def promote(platform: Platform, version: int) -> None:
    """Through all stages, as a person does it: the code folder has no history, so two keys must sign."""
    lifecycle.stage(platform, NAME, version, principal="ops", reason=WHY)
    for stage in ("canary", "production"):
        for person in ("ada", "bob"):
            key = platform.secrets.path("people") / person
            lifecycle.approve(platform, NAME, version, stage, key=key, reason=WHY)
        lifecycle.promote(platform, NAME, version, stage, principal="ops", reason=WHY)


def decide(platform: Platform, month: str) -> None:
    assert lifecycle.score_partition(platform, quick_risk, month).rows > 500


def watched(dagster: Dagster, window: str) -> bool:
    return bool(dagster.events(NAME, "drift_report", partition=window))


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    if find_spec("dagster_webserver") is None:
        missing("dagster-webserver is not installed (extra: dagster)")
    folder = tmp_path_factory.mktemp("loop")
    code = folder / "dagster" / "code"
    code.mkdir(parents=True)
    platform = new_root(folder, code)
    try:
        with deployed(folder / "dagster", platform.root / "settings.toml") as dagster:
            yield played(platform, dagster)
    finally:
        platform.registry.close()


def played(platform: Platform, dagster: Dagster) -> Story:
    def known() -> ModelState:
        return platform.registry.state().model(NAME)

    platform.replay.move(at(2010, 5))
    decide(platform, "2010-04")
    daemon = dagster.start_daemon()
    eventually("April to be watched", lambda: watched(dagster, "2010-04"), log=dagster.log)
    quiet = dagster.checks(NAME, "drift_report")

    platform.replay.move(at(2010, 6))
    decide(platform, "2010-05")
    eventually("a request", lambda: known().retrains, log=dagster.log)
    # Results are written one by one: wait for both.
    wanted = {"psi", "new_category"}
    eventually("May's report", lambda: wanted <= failed(dagster.checks(NAME, "drift_report")), log=dagster.log)
    drifted = dagster.checks(NAME, "drift_report")

    (request,) = known().retrains
    config = {"model": NAME, "request": request, "decision": "approve", "principal": "ada", "reason": WHY}
    dagster.launch("decide_retrain", config)
    eventually("the approval", lambda: known().retrains[request].status == "approved", log=dagster.log)

    platform.replay.move(at(2011, 2))
    flying = eventually("training", lambda: running(dagster, f"{NAME}_train"), log=dagster.log)
    dagster.kill(daemon)
    dagster.start_daemon()
    eventually("the request to be carried out", lambda: known().retrains[request].finished, log=dagster.log)

    promote(platform, 2)
    platform.replay.move(at(2011, 3))
    eventually("the alerts to be closed", lambda: not known().open_alerts, log=dagster.log)
    eventually("calm", lambda: idle(dagster), log=dagster.log)
    return Story(platform, dagster, quiet, drifted, flying)


def failed(checks: dict[str, dict[str, Any]]) -> set[str]:
    return {name for name, one in checks.items() if not one["success"]}


def running(dagster: Dagster, job: str) -> str | None:
    """The run of a job that is at work right now."""
    return next((one["runId"] for one in dagster.runs(job) if one["status"] == "STARTED"), None)


def idle(dagster: Dagster) -> bool:
    """Whether every run has ended and the newest window is watched and its route shown."""
    ended = all(one["status"] in {"SUCCESS", "FAILURE", "CANCELED"} for one in dagster.runs())
    return ended and watched(dagster, "2011-02") and bool(dagster.events(NAME, "performance_report"))


def test_the_quiet_month_raised_no_drift_and_the_drifted_one_did(story: Story) -> None:
    assert {"psi", "new_category", "score_psi"}.isdisjoint(failed(story.quiet))
    assert {"psi", "new_category"} <= failed(story.drifted)
    assert story.drifted["psi"]["severity"] == "WARN"
    assert "dti" in story.drifted["psi"]["description"]
    assert "term" in story.drifted["new_category"]["description"]
    assert story.drifted["schema"] == {"severity": "ERROR", "success": True, "description": "Nothing to raise."}


def test_profile_and_report_are_shown_with_their_pictures(story: Story) -> None:
    (profile,) = story.dagster.events(NAME, "data_profile", partition="2010-05")[:1]
    (report,) = story.dagster.events(NAME, "drift_report", partition="2010-05")[:1]
    assert "ml/versions" in {entry["label"] for entry in profile["metadataEntries"]}
    assert {"ml/plot_psi_v1", "ml/largest_psi_v1"} <= {entry["label"] for entry in report["metadataEntries"]}


def test_the_request_came_from_drift_was_approved_and_became_version_2(story: Story) -> None:
    (request,) = story.known.retrains.values()
    assert request.signals[0].trigger == "drift"
    assert request.decided_by == "ada"
    assert (request.outcome, request.version) == ("registered", 2)
    assert story.known.production == 2
    subjects = {story.known.alerts[alert].subject for alert in request.signals[0].alerts}
    assert {"term", "dti", "revol_util"} <= subjects


def test_the_alerts_that_asked_are_closed_by_the_retrained_version(story: Story) -> None:
    (request,) = story.known.retrains.values()
    assert {story.known.alerts[alert].cause for alert in request.alerts} == {"retrained"}
    others = [one for name, one in story.known.alerts.items() if name not in request.alerts]
    assert {one.cause for one in others} <= {"version_replaced", "recovered"}


def test_the_log_holds_each_step_once(story: Story) -> None:
    found = story.entries()
    once = ("retrain_requested", "retrain_decided", "retrain_started", "retrain_finished")
    assert {kind: found[kind] for kind in once} == dict.fromkeys(once, 1)
    assert (found["candidate_requested"], found["registered"]) == (2, 2), "version 1 was trained by hand"
    assert found["alert_raised"] == found["alert_closed"] == len(story.known.alerts)
    about = Counter((one.rule, one.subject, one.version) for one in story.known.alerts.values())
    assert set(about.values()) == {1}, "each stayed open until the version was replaced"
    assert set(story.known.versions) == {1, 2}


def test_each_run_was_asked_for_once_though_the_daemon_was_killed(story: Story) -> None:
    runs = story.dagster.runs()
    asked = [one for one in runs if "dagster/parent_run_id" not in one["tags"]]  # the others are Dagster's own retries
    keys = Counter(one["tags"]["dagster/run_key"] for one in asked if "dagster/run_key" in one["tags"])
    assert [key for key, count in keys.items() if count > 1] == []
    jobs = Counter(one["jobName"] for one in runs)
    for job in ("start_retrain", f"{NAME}_train", "finish_retrain", "decide_retrain"):
        assert jobs[job] == 1, jobs
    last = {one["tags"].get("dagster/run_key", one["runId"]): one["status"] for one in runs}
    assert set(last.values()) == {"SUCCESS"}
    (training,) = story.dagster.runs(f"{NAME}_train")
    assert training["runId"] == story.in_flight


def test_every_window_in_between_was_watched(story: Story) -> None:
    months = [f"{2010 + number // 12}-{number % 12 + 1:02d}" for number in range(3, 14)]
    assert [month for month in months if not watched(story.dagster, month)] == []


def test_the_log_and_the_graph_say_the_same(story: Story) -> None:
    shown = {
        noun: story.dagster.events(NAME, noun)[0]["tags"]["dagster/data_version"]
        for noun in ("production", "canary", "triton_repository")
    }
    assert shown == {"production": "v2", "canary": "none", "triton_repository": str(story.known.route.epoch)}
    candidate = story.known.version(2).candidate
    versions = story.dagster.events(NAME, "registered_version", partition=candidate)
    assert {one["tags"]["dagster/data_version"] for one in versions} == {"v2"}


def test_the_web_server_shows_the_whole_lineage(story: Story) -> None:
    graph = story.dagster.graph()

    def upstream(noun: str) -> set[str]:
        return {"/".join(one["path"]) for one in graph[f"{NAME}/{noun}"]["dependencyKeys"]}

    assert upstream("triton_repository") == {f"{NAME}/production", f"{NAME}/canary"}
    assert upstream("prediction_log") == {f"{NAME}/triton_repository", f"{NAME}/batch_predictions"}
    assert upstream("data_profile") == {f"{NAME}/prediction_log"}
    assert upstream("drift_report") == {f"{NAME}/data_profile"}
    assert upstream("performance_report") == {f"{NAME}/prediction_log", "sources/outcomes"}
    assert {one["groupName"] for key, one in graph.items() if key.startswith(NAME)} == {f"ml/{NAME}"}


@pytest.mark.parametrize("sensor", SENSORS)
def test_ticks_take_less_than_a_second_and_none_failed(story: Story, sensor: str) -> None:
    ticks = story.dagster.ticks(sensor)
    assert [one["error"] for one in ticks if one["error"]] == []
    taken = sorted(one["endTimestamp"] - one["timestamp"] for one in ticks if one["endTimestamp"])
    print(f"{sensor}: {len(taken)} ticks, median {statistics.median(taken):.3f} s, longest {taken[-1]:.3f} s")  # noqa: T201
    assert len(taken) >= 10
    assert statistics.median(taken) < 1.0
