"""From drift to a version: asked once, decided by a person, carried out once, whatever is killed between."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml_platform import Model, Monitor, Platform, at_least
from ml_platform.core.digests import parse_canonical
from ml_platform.core.errors import ApprovalMissing, Conflict, DataError, NotFound
from ml_platform.lifecycle import build_candidate, land_source
from ml_platform.lifecycle.retrain_queries import list_retrains, ready_retrains, retrain_state
from ml_platform.lifecycle.retrain_runs import finish_retrain, run_retrain, start_retrain
from ml_platform.lifecycle.retraining import decide_retrain, request_retrain, watch_retrains
from ml_platform.monitoring.retrain import Retraining
from tests.lifecycle import tiny
from tests.lifecycle.conftest import AS_OF

MODEL = replace(
    tiny.late_parcel, monitor=Monitor(critical=["depot"], retraining=Retraining(min_rows=40, min_positives=1))
)
APRIL = datetime(2026, 4, 1, tzinfo=UTC)


def parcels_from_the_east(days: int, start: datetime = tiny.AS_OF) -> pa.Table:
    """Ten a day from a depot that the version never saw."""
    rows = days * 10
    return pa.table(
        {
            "parcel_id": pa.array(range(10_000, 10_000 + rows), pa.int64()),
            "sent_at": pa.array(
                [start + timedelta(days=number // 10) for number in range(rows)], pa.timestamp("us", "UTC")
            ),
            "weight": [float(number % 29 + 1) for number in range(rows)],
            "depot": ["east"] * rows,
        }
    )


def arrivals_of(parcels: pa.Table) -> pa.Table:
    sent = parcels.column("sent_at").to_pylist()
    return pa.table(
        {
            "parcel_id": parcels.column("parcel_id"),
            "late": pa.array([int(weight > 20) for weight in parcels.column("weight").to_pylist()], pa.int64()),
            "known_at": pa.array([at + timedelta(days=3) for at in sent], pa.timestamp("us", "UTC")),
        }
    )


@pytest.fixture(scope="module")
def first_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parcels")
    (folder / "code").mkdir()
    (folder / "code" / "model.py").write_text("# a team's code\n")
    platform = tiny.new_root(folder / "root")
    build_candidate(platform, MODEL, tiny.AS_OF, code=folder / "code")
    platform.registry.close()
    return folder


@pytest.fixture
def code(first_version: Path) -> Path:
    return first_version / "code"


@pytest.fixture
def platform(first_version: Path, tmp_path: Path) -> Iterator[Platform]:
    shutil.copytree(first_version / "root", tmp_path / "root")
    opened = Platform.local(tmp_path / "root")
    yield opened
    opened.registry.close()


def drifted(platform: Platform, *, days: int = 6, alert: str = "drift-depot", rule: str = "new_category") -> str:
    """Parcels from the east arrive in March, and monitoring says so on the tenth."""
    rows = parcels_from_the_east(days)
    for source, table in ((tiny.parcels, rows), (tiny.arrivals, arrivals_of(rows))):
        file = platform.root.parent / f"east-{source.name}.parquet"
        pq.write_table(table, file)
        land_source(platform, source, file)
    platform.replay.move(datetime(2026, 3, 10, tzinfo=UTC))
    return raised(platform, alert, rule=rule)


def raised(platform: Platform, alert: str, *, rule: str = "new_category", subject: str | None = "depot") -> str:
    platform.registry.raise_alert(
        "late_parcel", alert=alert, rule=rule, severity="P2", version=1, window="2026-03", subject=subject,
        evidence=platform.objects.put(alert.encode()),
    )  # fmt: skip
    return alert


def test_a_drift_becomes_a_request_that_waits_for_labels_and_says_from_when_on(platform: Platform) -> None:
    alert = drifted(platform)
    asked = request_retrain(platform, MODEL, trigger="drift", alerts=(alert,), requested_by="drift_watch")
    assert asked.outcome == "requested"
    # The 40th parcel from the east is sent on the fourth day and matures ten days on.
    assert asked.useful_from == "2026-03-14T00:00:00.000000Z"
    (listed,) = list_retrains(platform, "late_parcel", MODEL)
    assert (listed["status"], listed["mode"], listed["requested_by"]) == (
        "waiting for approval",
        "queued",
        "drift_watch",
    )
    assert listed["population"] == {"feature": "depot", "new_categories": 1, "since": None}
    assert listed["meanwhile"]["action"] == "refuse"
    decide_retrain(platform, "late_parcel", str(asked.request), "approved", principal="bob", reason="Worth it")
    assert list_retrains(platform, "late_parcel", MODEL)[0]["status"] == "waiting for labels"
    platform.replay.move(datetime(2026, 3, 14, tzinfo=UTC))
    assert list_retrains(platform, "late_parcel", MODEL)[0]["status"] == "ready"


def test_the_log_holds_no_reason_and_no_category(platform: Platform) -> None:
    alert = drifted(platform)
    request_retrain(platform, MODEL, trigger="drift", alerts=(alert,))
    request_retrain(platform, MODEL, reason="The depot in the east has opened", requested_by="ada")
    said = [str(entry.body) for entry in platform.registry.entries() if entry.kind.startswith("retrain_")]
    assert len(said) == 2
    assert not any("east" in text for text in said)
    signals = retrain_state(
        platform, "late_parcel", ready := list_retrains(platform, "late_parcel")[0]["request"]
    ).signals
    assert ready
    reasons = [parse_canonical(platform.objects.get(signal.evidence))["reason"] for signal in signals]
    assert reasons == [None, "The depot in the east has opened"]


def test_asking_again_changes_nothing_and_other_reasons_are_merged(platform: Platform) -> None:
    alert = drifted(platform)
    first = request_retrain(platform, MODEL, trigger="drift", alerts=(alert,))
    size = platform.registry.state().size
    again = request_retrain(platform, MODEL, trigger="drift", alerts=(alert,))
    assert (again.outcome, again.request) == ("known", first.request)
    assert platform.registry.state().size == size
    other = raised(platform, "decay-1", rule="accuracy", subject=None)
    merged = request_retrain(platform, MODEL, trigger="performance", alerts=(other,))
    assert (merged.outcome, merged.request) == ("merged", first.request)
    assert [one["trigger"] for one in list_retrains(platform, "late_parcel")[0]["signals"]] == ["drift", "performance"]


def test_too_few_rows_give_no_date_until_enough_have_come(platform: Platform) -> None:
    alert = drifted(platform, days=2)
    asked = request_retrain(platform, MODEL, trigger="drift", alerts=(alert,))
    assert asked.useful_from is None
    assert asked.assessment["usefulness"]["projected_from"] is not None
    decide_retrain(platform, "late_parcel", str(asked.request), "approved", principal="bob", reason="Worth it")
    platform.replay.move(APRIL)
    assert list_retrains(platform, "late_parcel", MODEL)[0]["status"] == "waiting for labels"
    assert ready_retrains(platform, MODEL) == []
    more = parcels_from_the_east(3, start=datetime(2026, 3, 12, tzinfo=UTC))
    more = more.set_column(0, "parcel_id", pa.array(range(20_000, 20_000 + more.num_rows), pa.int64()))
    pq.write_table(more, platform.root.parent / "more.parquet")
    land_source(platform, tiny.parcels, platform.root.parent / "more.parquet")
    assert ready_retrains(platform, MODEL) == [asked.request]


def test_the_date_is_entered_as_soon_as_enough_rows_have_come_and_then_stands(platform: Platform) -> None:
    alert = drifted(platform, days=2)
    (asked,) = watch_retrains(platform, MODEL)
    assert (asked.outcome, asked.useful_from) == ("requested", None)
    assert watch_retrains(platform, MODEL) == []
    more = parcels_from_the_east(3, start=datetime(2026, 3, 12, tzinfo=UTC))
    more = more.set_column(0, "parcel_id", pa.array(range(20_000, 20_000 + more.num_rows), pa.int64()))
    pq.write_table(more, platform.root.parent / "more.parquet")
    land_source(platform, tiny.parcels, platform.root.parent / "more.parquet")
    platform.replay.move(datetime(2026, 3, 20, tzinfo=UTC))
    (dated,) = watch_retrains(platform, MODEL)
    assert (dated.outcome, dated.request, dated.useful_from) == ("merged", asked.request, "2026-03-23T00:00:00.000000Z")
    size = platform.registry.state().size
    assert watch_retrains(platform, MODEL) == []
    assert platform.registry.state().size == size
    decide_retrain(platform, "late_parcel", str(asked.request), "rejected", principal="bob", reason="No")
    (listed,) = list_retrains(platform, "late_parcel", MODEL)
    assert listed["useful_from"] == dated.useful_from
    assert retrain_state(platform, "late_parcel", str(asked.request)).alerts == (alert,)


def test_a_request_by_hand_needs_a_reason_and_waits_for_no_labels(platform: Platform) -> None:
    with pytest.raises(ApprovalMissing, match="reason"):
        request_retrain(platform, MODEL, reason="  ")
    asked = request_retrain(platform, MODEL, reason="A new depot opens in May", requested_by="ada")
    assert (asked.outcome, asked.useful_from, asked.assessment["population"]) == ("requested", None, None)
    decide_retrain(platform, "late_parcel", str(asked.request), "approved", principal="bob", reason="Yes")
    assert ready_retrains(platform, MODEL) == [asked.request]


def test_an_unknown_alert_or_model_is_refused_and_nothing_is_written(platform: Platform) -> None:
    size = platform.registry.state().size
    with pytest.raises(NotFound, match="alert"):
        request_retrain(platform, MODEL, trigger="drift", alerts=("never-raised",))
    with pytest.raises(NotFound):
        request_retrain(platform, replace(MODEL, name="stranger"), reason="?")
    with pytest.raises(NotFound):
        list_retrains(platform, "stranger")
    assert platform.registry.state().size == size


def test_nothing_starts_before_a_person_agrees_and_before_it_is_useful(platform: Platform, code: Path) -> None:
    alert = drifted(platform)
    request = str(request_retrain(platform, MODEL, trigger="drift", alerts=(alert,)).request)
    with pytest.raises(ApprovalMissing, match="decision"):
        start_retrain(platform, MODEL, request, code=code)
    with pytest.raises(Conflict, match="not started"):
        finish_retrain(platform, MODEL, request, code=code)
    with pytest.raises(ApprovalMissing):
        decide_retrain(platform, "late_parcel", request, "approved", principal="bob", reason="")
    decide_retrain(platform, "late_parcel", request, "approved", principal="bob", reason="Yes")
    with pytest.raises(DataError, match="labels"):
        start_retrain(platform, MODEL, request, code=code)
    assert not [entry for entry in platform.registry.entries() if entry.kind == "retrain_started"]


def test_a_rejected_request_is_closed_and_its_alerts_do_not_ask_again(platform: Platform, code: Path) -> None:
    alert = drifted(platform)
    request = str(request_retrain(platform, MODEL, trigger="drift", alerts=(alert,)).request)
    index = decide_retrain(platform, "late_parcel", request, "rejected", principal="bob", reason="The depot closes")
    assert decide_retrain(platform, "late_parcel", request, "rejected", principal="bob", reason="Again") == index
    platform.replay.move(datetime(2026, 6, 1, tzinfo=UTC))
    assert request_retrain(platform, MODEL, trigger="drift", alerts=(alert,)).outcome == "known"
    with pytest.raises(Conflict, match="closed"):
        start_retrain(platform, MODEL, request, code=code)
    assert list_retrains(platform, "late_parcel")[0]["status"] == "rejected"


def test_the_cool_down_says_until_when(platform: Platform) -> None:
    first, second = drifted(platform), raised(platform, "drift-weight", rule="psi", subject="weight")
    request = str(request_retrain(platform, MODEL, trigger="drift", alerts=(first,)).request)
    decide_retrain(platform, "late_parcel", request, "rejected", principal="bob", reason="No")
    asked = request_retrain(platform, MODEL, trigger="drift", alerts=(second,))
    assert (asked.outcome, asked.until, asked.request) == ("refused", "2026-04-09T00:00:00.000000Z", None)
    platform.replay.move(datetime(2026, 4, 9, tzinfo=UTC))
    assert request_retrain(platform, MODEL, trigger="drift", alerts=(second,)).outcome == "requested"


def test_a_watcher_asks_for_what_training_can_answer_and_once(platform: Platform) -> None:
    assert watch_retrains(platform, MODEL) == []
    alert = drifted(platform)
    raised(platform, "schema-1", rule="schema", subject=None)
    (asked,) = watch_retrains(platform, MODEL, requested_by="drift_watch")
    assert (asked.outcome, asked.trigger) == ("requested", "drift")
    assert retrain_state(platform, "late_parcel", str(asked.request)).alerts == (alert,)
    size = platform.registry.state().size
    assert watch_retrains(platform, MODEL) == []
    assert platform.registry.state().size == size


def test_a_model_that_declares_never_is_asked_for_by_people_only(platform: Platform) -> None:
    model = replace(MODEL, monitor=replace(MODEL.monitor, retrain="never"))
    alert = drifted(platform)
    assert watch_retrains(platform, model) == []
    assert request_retrain(platform, model, trigger="drift", alerts=(alert,)).outcome == "refused"
    assert request_retrain(platform, model, reason="I insist", requested_by="ada").outcome == "requested"


def started(platform: Platform, code: Path) -> str:
    alert = drifted(platform)
    request = str(request_retrain(platform, MODEL, trigger="drift", alerts=(alert,)).request)
    decide_retrain(platform, "late_parcel", request, "approved", principal="bob", reason="Yes")
    platform.replay.move(APRIL)
    return request


def test_a_request_becomes_a_version_and_a_rerun_of_any_step_changes_nothing(platform: Platform, code: Path) -> None:
    request = started(platform, code)
    made = run_retrain(platform, MODEL, request, code=code)
    assert (made.outcome, made.version) == ("registered", 2)
    size = platform.registry.state().size
    assert start_retrain(platform, MODEL, request, code=code).key == made.candidate
    assert finish_retrain(platform, MODEL, request, code=code) == made
    assert run_retrain(platform, MODEL, request, code=code) == made
    assert platform.registry.state().size == size
    assert platform.registry.verify().ok
    kinds = [entry.kind for entry in platform.registry.entries() if entry.kind.startswith("retrain_")]
    assert kinds == ["retrain_requested", "retrain_decided", "retrain_started", "retrain_finished"]
    assert ready_retrains(platform, MODEL) == []
    assert list_retrains(platform, "late_parcel")[0]["status"] == "registered"


class Killed(BaseException):
    """The process ends here: nothing catches it."""


def kill_after(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
    real: Callable[..., object] = getattr(owner, name)

    def once(*given: object, **named: object) -> object:
        real(*given, **named)
        raise Killed

    monkeypatch.setattr(owner, name, once)


@pytest.mark.parametrize(
    "step", ["create", "request_candidate", "start", "build", "train", "evaluate", "register", "finish"]
)
def test_after_a_kill_behind_each_step_the_run_goes_on_with_the_same_candidate(
    platform: Platform, code: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    from ml_platform.core.objects import ObjectStore
    from ml_platform.lifecycle import retrain_runs
    from ml_platform.registry.registry import Registry

    request = started(platform, code)
    owner, name = {
        "create": (ObjectStore, "create"),
        "request_candidate": (retrain_runs, "request_candidate"),
        "start": (Registry, "start_retrain"),
        "build": (retrain_runs, "build_training_set"),
        "train": (retrain_runs, "train_candidate"),
        "evaluate": (retrain_runs, "evaluate_candidate"),
        "register": (retrain_runs, "register_candidate"),
        "finish": (Registry, "finish_retrain"),
    }[step]
    with monkeypatch.context() as patched:
        kill_after(patched, owner, name)
        with pytest.raises(Killed):
            run_retrain(platform, MODEL, request, code=code)
    # Hours later: the candidate is still the one of the first attempt.
    platform.replay.move(APRIL + timedelta(hours=5))
    assert ready_retrains(platform, MODEL) == ([] if step == "finish" else [request])
    made = run_retrain(platform, MODEL, request, code=code)
    assert (made.outcome, made.version) == ("registered", 2)
    state = platform.registry.state().model("late_parcel")
    assert len(state.candidates) == 2
    for kind in ("retrain_started", "retrain_finished", "registered"):
        assert sum(entry.kind == kind for entry in platform.registry.entries()) == (2 if kind == "registered" else 1)


def test_a_candidate_that_fails_its_gate_ends_the_request_as_refused(platform: Platform, code: Path) -> None:
    strict = replace(MODEL, gates=[at_least("auc", 0.999999)])
    request = started(platform, code)
    made = run_retrain(platform, strict, request, code=code)
    assert (made.outcome, made.version) == ("refused", None)
    assert "auc" in made.why
    assert list_retrains(platform, "late_parcel")[0]["status"] == "refused"


def test_a_candidate_without_enough_data_ends_the_request_as_failed(platform: Platform, code: Path) -> None:
    request = started(platform, code)
    empty = replace(MODEL, split=replace(MODEL.split, test=0.999))
    assert run_retrain(platform, empty, request, code=code).outcome == "failed"


def test_a_version_that_has_grown_old_asks_by_itself(platform: Platform, code: Path) -> None:
    model = replace(MODEL, monitor=Monitor(retrain="automatic", freshness="30d"))
    promoted(platform)
    platform.replay.move(tiny.AS_OF + timedelta(days=30) - timedelta(microseconds=1))
    assert watch_retrains(platform, model) == []
    platform.replay.move(tiny.AS_OF + timedelta(days=30))
    (asked,) = watch_retrains(platform, model, requested_by="freshness_watch")
    assert (asked.trigger, asked.outcome, asked.useful_from) == ("freshness", "requested", None)
    assert ready_retrains(platform, model) == [asked.request]  # automatic: nobody need agree
    assert watch_retrains(platform, model) == []


def promoted(platform: Platform) -> None:
    """Version 1 in production, by the log alone."""
    from ml_platform.lifecycle import approve, stage

    stage(platform, "late_parcel", 1, principal="ada", reason="Passed")
    for to in ("canary", "production"):
        for person in ("ada", "bob"):  # nobody can say who wrote the code: two approve
            approve(platform, "late_parcel", 1, to, key=platform.secrets.path("people") / person, reason="Reviewed")
        platform.registry.transition("late_parcel", 1, "promote", to=to, actor="ada", reason="Reviewed")


def test_the_sixty_month_loans_of_the_market_ask_in_2010_and_are_trained_on_in_2011(
    landed: Platform, quick: Model, tmp_path: Path
) -> None:
    """The whole loop on the simulated market: request, approval, training, registration."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "model.py").write_text("# the code of a team\n")
    build_candidate(landed, quick, AS_OF, code=folder)
    landed.replay.move(datetime(2010, 7, 1, tzinfo=UTC))
    landed.registry.raise_alert(
        "quick", alert="drift-term-2010-06", rule="new_category", severity="P2", version=1, window="2010-06",
        subject="term", evidence=landed.objects.put(b"report"),
    )  # fmt: skip
    (asked,) = watch_retrains(landed, quick, requested_by="drift_watch")
    assert str(asked.useful_from).startswith("2011-06-")
    request = str(asked.request)
    decide_retrain(landed, "quick", request, "approved", principal="bob", reason="As soon as labels are there")
    (listed,) = list_retrains(landed, "quick", quick)
    assert (listed["status"], listed["meanwhile"]["action"]) == ("waiting for labels", "flag")
    with pytest.raises(DataError, match="labels"):
        run_retrain(landed, quick, request, code=folder)
    landed.replay.move(datetime(2011, 7, 1, tzinfo=UTC))
    made = run_retrain(landed, quick, request, code=folder)
    assert (made.outcome, made.version) == ("registered", 2)
    assert made.candidate.startswith("20110701T")
    assert landed.registry.verify().ok
