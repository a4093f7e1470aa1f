"""A version beside the one that decides: each decision once, whatever is killed, and nobody waits for it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread

import numpy as np
import numpy.typing as npt
import pytest

from ml_platform import Platform, at_least, category, lifecycle, number
from ml_platform.core.errors import Conflict, DataError, NotFound, Tampered
from ml_platform.governance import trace, trace_entity
from ml_platform.lifecycle import shadow
from ml_platform.lifecycle.shadow import shadow_follow, shadow_once
from ml_platform.lifecycle.shadow_cursor import ShadowCursor, cursor_path, shadow_lock
from ml_platform.lifecycle.shadow_pairs import shadow_report
from ml_platform.serving.building import Decided
from ml_platform.serving.wal import WalWriter
from tests.lifecycle import tiny
from tests.lifecycle.two_versions import FIRST, NAME, Log, make_root, parcels


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shadow")
    make_root(folder).registry.close()
    return folder


@pytest.fixture
def platform(made: Path, tmp_path: Path) -> Iterator[Platform]:
    shutil.copytree(made / "root", tmp_path / "root")
    opened = Platform.local(tmp_path / "root")
    yield opened
    opened.registry.close()


@pytest.fixture
def log(platform: Platform) -> Iterator[Log]:
    opened = Log(platform)
    yield opened
    opened.close()


def decided(platform: Platform, log: Log, rows: int, first: int = 100_000) -> list[bytes]:
    return log.decide(1, parcels(first, rows, platform.clock.now()))


def pairs(platform: Platform) -> list[str]:
    """The decisions beside which the shadow has recorded, as its sealed records say."""
    import pyarrow.dataset as ds

    lifecycle.seal_once(platform)
    rows = platform.lake.read("late_parcel/predictions", columns=["pair_of"], where=ds.field("role") == "shadow")
    return sorted(str(text) for text in rows.column(0).to_pylist())


def texts(ids: list[bytes]) -> list[str]:
    from ml_platform.core.ids import id_text

    return sorted(map(id_text, ids))


def test_every_decision_gets_one_pair_sealed_or_not(platform: Platform, log: Log) -> None:
    sealed = decided(platform, log, 40)
    lifecycle.seal_once(platform)
    logged = decided(platform, log, 20, first=200_000)
    made = shadow_once(platform, NAME)
    assert (made["version"], made["taken"], made["pairs"]) == (2, 60, 60)
    assert pairs(platform) == texts(sealed + logged)
    again = shadow_once(platform, NAME)
    assert (again["taken"], again["pairs"]) == (0, 60)
    assert platform.registry.verify().ok


def test_the_shadow_scores_as_the_version_does_and_its_records_decide_nothing(platform: Platform, log: Log) -> None:
    import pyarrow.dataset as ds

    from ml_platform.serving import Scorer
    from tests.lifecycle.two_versions import looked_up
    from tests.serving.online_support import sections

    table = parcels(100_000, 30, platform.clock.now())
    log.decide(1, table)
    shadow_once(platform, NAME, 2)
    lifecycle.seal_once(platform)
    scorer = Scorer.load(platform.objects, platform.registry.state().version(NAME, 2).digests.artifact)
    window = (platform.clock.now() - timedelta(days=1), platform.clock.now() + timedelta(days=1))
    wanted = {one.keys[0][1]: one for one in sections(scorer, looked_up, window, table)}
    headers = platform.lake.read("late_parcel/predictions", where=ds.field("role") == "shadow").to_pylist()
    assert {(row["version"], row["decision_of_record"], row["route_digest"], row["epoch"]) for row in headers} == {
        (2, False, None, None)
    }
    ids = [row["prediction_id"] for row in headers]
    rows = platform.lake.read("late_parcel/predictions_personal", where=ds.field("prediction_id").isin(ids)).to_pylist()
    assert len(rows) == 30
    for row in rows:
        expected = wanted[row["key_parcel_id"]]
        assert row["output_score"] == expected.outputs[0]
        assert (row["decision"], row["reasons"]) == (expected.decision, [])
        assert row["number_weight"] == expected.features[0][1] or row["category_depot"] == expected.features[0][1]


def test_a_shadow_is_never_the_answer_for_an_entity_nor_among_its_decisions(platform: Platform, log: Log) -> None:
    (made,) = texts(decided(platform, log, 1))
    shadow_once(platform, NAME)
    for _ in ("logged", "sealed"):
        assert trace_entity(platform, NAME, {"parcel_id": 100_000}).prediction_id == made
        assert [one["prediction_id"] for one in lifecycle.list_decisions(platform, NAME)["decisions"]] == [made]
        both = lifecycle.list_decisions(platform, NAME, shadows=True)
        assert both["found"] == 2
        assert sorted(one["role"] for one in both["decisions"]) == ["primary", "shadow"]
        (beside,) = [one["prediction_id"] for one in both["decisions"] if one["role"] == "shadow"]
        assert trace(platform, beside).to_json()["prediction"]["pair_of"] == made
        lifecycle.seal_once(platform)


def test_the_report_tells_how_far_the_two_agree(platform: Platform, log: Log) -> None:
    decided(platform, log, 300)
    assert shadow_report(platform, NAME, 2)["pairs"] == 0
    shadow_once(platform, NAME)
    waiting = shadow_report(platform, NAME, 2)
    lifecycle.seal_once(platform)
    sealed = shadow_report(platform, NAME, 2)
    assert waiting == sealed
    assert (sealed["pairs"], sealed["waiting"], sealed["not_comparable"]) == (300, 0, 0)
    assert sum(sealed["changes"].values()) == sealed["disagreements"]
    gaps = sealed["score_difference"]
    assert gaps["p01"] <= gaps["p50"] <= gaps["p99"]
    assert gaps["mean"] != 0
    with pytest.raises(NotFound):
        shadow_report(platform, NAME, 9)


def test_what_was_decided_before_the_version_was_there_is_passed_over_unless_asked_for(
    platform: Platform, log: Log
) -> None:
    decided(platform, log, 10)
    later = platform.clock.now() + timedelta(days=1)
    platform.replay.move(later)
    new = decided(platform, log, 5, first=200_000)
    assert shadow_once(platform, NAME, since=later)["pairs"] == 5
    assert pairs(platform) == texts(new)


def test_a_living_writers_newest_file_is_not_yet_durable_and_waits(platform: Platform) -> None:
    slow = Log(platform, "router-" + "cd" * 16)
    slow.wal._limits = (1 << 30, 3600.0)
    decided(platform, slow, 10)
    assert shadow_once(platform, NAME)["taken"] == 0
    slow.close()
    assert shadow_once(platform, NAME)["taken"] == 10


def test_the_versions_own_decisions_and_other_shadows_are_not_shadowed(platform: Platform, log: Log) -> None:
    log.decide(2, parcels(300_000, 7, platform.clock.now()), role="canary")
    decided(platform, log, 3)
    made = shadow_once(platform, NAME, 2)
    assert (made["taken"], made["pairs"], made["own"]) == (10, 3, 7)
    assert shadow_once(platform, NAME, 2)["taken"] == 0


def test_a_version_that_needs_what_records_do_not_hold_is_counted_and_not_guessed(
    platform: Platform, log: Log, made: Path
) -> None:
    more = replace(
        FIRST,
        features=[replace(tiny.sending, derived={"heavy": "weight * 2"}), *FIRST.features[1:]],
        label=replace(FIRST.label, rows=replace(tiny.sending, derived={"heavy": "weight * 2"})),
        decision=replace(FIRST.decision, reasons={**FIRST.decision.reasons, "heavy": "The weight"}),
    )
    lifecycle.build_candidate(platform, more, tiny.AS_OF, code=made / "code")
    decided(platform, log, 12)
    found = shadow_once(platform, NAME, 3)
    assert (found["taken"], found["pairs"], found["not_comparable"]) == (12, 0, 12)
    report = shadow_report(platform, NAME, 3)
    assert (report["pairs"], report["not_comparable"]) == (0, 12)


def test_rows_that_only_the_shadow_refuses_are_counted(platform: Platform, log: Log, made: Path) -> None:
    narrow = replace(tiny.sending, columns=[number("weight", range=(0, 25)), category("depot")])
    strict = replace(
        FIRST,
        features=[narrow, *FIRST.features[1:]],
        label=replace(FIRST.label, rows=narrow),
        gates=[at_least("auc", 0.2)],
    )
    lifecycle.build_candidate(platform, strict, tiny.AS_OF, code=made / "code")
    table = parcels(100_000, 60, platform.clock.now())
    heavy = sum(weight > 25 for weight in table.column("weight").to_pylist())
    log.decide(1, table)
    found = shadow_once(platform, NAME, 3)
    assert 0 < heavy < 60
    assert (found["refused"], found["pairs"], found["not_comparable"]) == (heavy, 60 - heavy, 0)


class Hangs:
    def decide(self, matrix: npt.NDArray[np.float32]) -> Decided:
        time.sleep(3600)
        raise AssertionError(matrix)


class Fails:
    def decide(self, matrix: npt.NDArray[np.float32]) -> Decided:
        raise DataError("A score is not a finite number.", field="score", next_step=f"Mend it ({len(matrix)}).")


@pytest.mark.parametrize(("version", "count"), [(Hangs, "timed_out"), (Fails, "failed")])
def test_a_version_that_hangs_or_fails_is_counted_and_given_up_after_three_batches(
    platform: Platform, log: Log, version: type, count: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "BATCH", 5)
    decided(platform, log, 20)
    with pytest.raises(DataError, match="3 batches in a row"):
        shadow_once(platform, NAME, load=version, limit_seconds=1.0)
    cursor = ShadowCursor.read(cursor_path(platform.root, NAME, 2))
    assert cursor is not None
    assert cursor.counts[count] == 15
    assert not list((platform.root / "wal" / NAME).glob("shadow-*"))
    assert shadow_once(platform, NAME)["pairs"] == 5  # a mended one goes on with the next decision


class Killed(BaseException):
    pass


@pytest.mark.parametrize("step", ["append", "cursor"])
@pytest.mark.parametrize("sealed", [False, True])
def test_after_a_kill_behind_each_step_no_decision_is_missed_and_none_is_paired_twice(
    platform: Platform, log: Log, monkeypatch: pytest.MonkeyPatch, step: str, sealed: bool
) -> None:
    monkeypatch.setattr(shadow, "BATCH", 16)
    ids = decided(platform, log, 40)
    owner, name = {"append": (WalWriter, "append"), "cursor": (ShadowCursor, "write")}[step]
    real: Callable[..., object] = getattr(owner, name)
    calls = 0

    def second(*given: object, **named: object) -> None:
        nonlocal calls
        calls += 1
        real(*given, **named)
        if calls == 2:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, second)
        with pytest.raises(Killed):
            shadow_once(platform, NAME)
    if sealed:
        lifecycle.seal_once(platform)
    # A writer whose name comes first has logged meanwhile: the interrupted batch is not the next one now.
    first = Log(platform, "router-" + "00" * 16)
    ids += decided(platform, first, 10, first=300_000)
    first.close()
    found = shadow_once(platform, NAME)
    assert found["pairs"] == 50
    assert pairs(platform) == texts(ids)


def test_removing_the_cursor_repeats_nothing(platform: Platform, log: Log) -> None:
    ids = decided(platform, log, 12)
    shadow_once(platform, NAME)
    cursor_path(platform.root, NAME, 2).unlink()
    assert shadow_once(platform, NAME)["pairs"] == 12
    assert pairs(platform) == texts(ids)


def test_a_cursor_that_is_none_is_refused(platform: Platform, log: Log) -> None:
    decided(platform, log, 1)
    shadow_once(platform, NAME)
    cursor_path(platform.root, NAME, 2).write_bytes(b'{"format":"other"}')
    with pytest.raises(Tampered, match="cursor"):
        shadow_once(platform, NAME)


def test_one_process_shadows_a_version(platform: Platform) -> None:
    with shadow_lock(cursor_path(platform.root, NAME, 2)), pytest.raises(Conflict, match="Another process"):
        shadow_once(platform, NAME)


def test_a_capped_rate_takes_that_many_at_a_time(platform: Platform, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    decided(platform, log, 9)
    waited: list[float] = []
    monkeypatch.setattr(Event, "wait", lambda _, seconds=None: bool(waited.append(seconds)))
    assert shadow_once(platform, NAME, rate=4.0)["taken"] == 9
    assert len(waited) == 3
    assert all(0 <= seconds <= 1 for seconds in waited)
    with pytest.raises(DataError, match="rate"):
        shadow_once(platform, NAME, rate=0.0)


def test_following_goes_on_as_decisions_come_and_ends_when_told(platform: Platform, log: Log) -> None:
    stop, said, enough = Event(), [], Event()

    def heard(document: dict[str, int]) -> None:
        said.append(document["pairs"])
        if document["pairs"] >= 12:
            enough.set()

    done: list[dict[str, int]] = []
    thread = Thread(target=lambda: done.append(
        shadow_follow(Platform.local(platform.root), NAME, stop=stop, every_seconds=0.02, said=heard)
    ))  # fmt: skip
    thread.start()
    try:
        decided(platform, log, 6)
        decided(platform, log, 6, first=200_000)
        assert enough.wait(60)
    finally:
        stop.set()
        thread.join(60)
    assert done[0]["pairs"] == 12
    assert said[-1] == 12


def test_without_a_version_in_staging_or_canary_one_must_be_named(platform: Platform) -> None:
    lifecycle.archive(platform, NAME, 2, principal="ada", reason="Not wanted")
    with pytest.raises(NotFound, match="staging or canary"):
        shadow_once(platform, NAME)
    with pytest.raises(NotFound):
        shadow_once(platform, NAME, 9)
