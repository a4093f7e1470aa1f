"""A router decides by the route, records before it answers, and says what it cannot do."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml_platform.core.errors import NotFound, ServerUnavailable, StorageFailed
from ml_platform.core.objects import ObjectStore
from ml_platform.core.rows import encode_row, micros
from ml_platform.core.subjects import Subjects
from ml_platform.serving import router as router_module
from ml_platform.serving.lookup import id_bytes
from ml_platform.serving.preparing import Preparer
from ml_platform.serving.router import Router
from ml_platform.serving.router_answers import Answer, Rejection
from ml_platform.serving.scorer import Scorer
from ml_platform.serving.scoring import quarantine_index
from ml_platform.serving.wal import frame, read_frames
from ml_platform.training.artifact import load_artifact
from tests.registry.world import AT, ROOT_ID
from tests.serving.router_support import (
    FIRST,
    MODEL,
    NOW_US,
    SECOND,
    SEED,
    OnlineRoot,
    Store,
    decisions,
    first_parts,
    logged,
    make_online_root,
    plain,
    refusals,
    request,
    second_parts,
)
from tests.serving.support import END

REASON = "sha256:" + "0" * 64


@pytest.fixture(scope="session")
def both_parts() -> tuple[dict[str, bytes], dict[str, bytes]]:
    return first_parts(), second_parts()


@pytest.fixture
def world(tmp_path: Path, both_parts: tuple[dict[str, bytes], dict[str, bytes]]) -> OnlineRoot:
    made = make_online_root(tmp_path / "root", *both_parts)
    made.routes.write(made.route())
    return made


@pytest.fixture
def router(world: OnlineRoot) -> Any:
    made = world.router()
    yield made
    made.close()


def answers(found: list[Answer | Rejection]) -> list[Answer]:
    assert all(isinstance(one, Answer) for one in found), found
    return found  # type: ignore[return-value]


def rejection(found: list[Answer | Rejection]) -> Rejection:
    (one,) = found
    assert isinstance(one, Rejection)
    return one


def test_an_answer_says_what_the_record_says(world: OnlineRoot, router: Router) -> None:
    found = answers(router.handle([plain(number) for number in range(20)]))
    records = decisions(world.root)
    assert [one.header.seq for one in records] == list(range(20))
    for answer, record in zip(found, records, strict=True):
        header, section = record.header, record.section
        assert [id_bytes(answer.prediction_ids[0])] == [header.prediction_id]
        assert (answer.versions, answer.epoch) == ([1], 1)
        assert answer.outputs["score"].dtype == np.float32
        assert answer.outputs["score"].tolist() == [[section.outputs[0]]]
        assert answer.decisions == [section.decision]
        assert answer.reasons == [section.reasons]
        assert (section.decision == "declined") == bool(section.reasons)
    assert {one.section.decision for one in records} == {"approved", "declined"}


def test_the_record_is_what_the_contract_and_the_version_make_of_the_request(world: OnlineRoot, router: Router) -> None:
    """The slow way: tables, the batch's preparer, the whole matrix."""
    import pyarrow as pa

    loans = list(range(12))
    router.handle([plain(number) for number in loans])
    table = pa.table(
        {
            "loan_id": loans,
            "applied_at": pa.array([NOW_US - 1_000_000] * 12, pa.timestamp("us", "UTC")),
            "amount": [float(number % 7) for number in loans],
            "income": [40.0 + number % 11 for number in loans],
            "term": [36] * 12,
            "grade": ["AB"[number % 2] for number in loans],
        }
    )

    def features(contract: Any, rows: pa.Table) -> pa.Table:
        values, _ = Store().lookup(contract, lambda name: rows.column(name).to_pylist(), [0] * 12)
        age = pa.array([3_600_000_000] * 12)
        return pa.table(
            {"rate": values[0], "age_rate": age, "region": pa.array(values[1], pa.string()), "age_region": age}
        )

    prepared = Preparer(FIRST, (0, NOW_US), features).prepare(table)
    decided = Scorer.load(ObjectStore(world.settings.objects), world.artifacts[1]).decide(prepared.matrix)
    for row, record in enumerate(decisions(world.root)):
        section = record.section
        assert section.keys == (("i64", loans[row]),)
        assert section.ages_us == (3_600_000_000, 3_600_000_000)
        numbers = [value for kind, value in section.features if kind == "f32"]
        places = [place for place, item in enumerate(FIRST.fields) if item.kind == "number"]
        assert numbers == prepared.matrix[row, places].tolist()
        assert section.outputs == (decided.outputs["score"][row],)
        assert section.reasons == decided.reasons.lists[decided.reasons.codes[row]]


def test_the_header_names_route_version_clock_and_writer(world: OnlineRoot, router: Router) -> None:
    router.handle([plain(1)])
    (record,) = decisions(world.root)
    header = record.header
    (folder,) = (world.root / "wal" / MODEL).iterdir()
    assert header.writer == folder.name
    assert header.writer.startswith("router-")
    assert len(header.writer) == len("router-") + 32
    assert (header.root_id, header.model, header.version) == (ROOT_ID, MODEL, 1)
    assert (header.mode, header.role, header.decision_of_record) == ("online", "primary", True)
    assert (header.contract_digest, header.artifact_digest) == (FIRST.digest, world.artifacts[1])
    assert (header.route_digest, header.epoch, header.flip_digest) == (world.route().digest, 1, None)
    assert (header.clock, header.decided_at_us) == ("replay", micros(END))
    assert (header.supersedes, header.pair_of) == (None, None)
    assert 0 <= (header.latency_us or 0) < 60_000_000
    assert len(record.salt) == 32


def test_salts_and_ids_are_never_twice_the_same(world: OnlineRoot, router: Router) -> None:
    for _ in range(3):
        router.handle([plain(1)] * 5)
    records = decisions(world.root)
    assert len({one.salt for one in records}) == len({one.header.prediction_id for one in records}) == 15


def test_a_batch_is_one_append(world: OnlineRoot, router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    appended: list[int] = []
    append = router._parts.log.append
    monkeypatch.setattr(router._parts.log, "append", lambda frames: (appended.append(len(frames)), append(frames))[1])
    router.handle([plain(1), plain(2), plain(3, amount=None)])
    assert appended == [3]
    assert router.handle([]) == []
    assert appended == [3]


def test_no_answer_before_its_record_is_durable(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    append = router._parts.log.append
    made = router_module.answers_of
    monkeypatch.setattr(router._parts.log, "append", lambda frames: (append(frames), order.append("durable"))[0])
    monkeypatch.setattr(router_module, "answers_of", lambda *given: (order.append("answers"), made(*given))[1])
    router.handle([plain(1)])
    assert order == ["durable", "answers"]


def test_a_refused_request_is_recorded_by_field_and_rule_and_the_others_are_decided(
    world: OnlineRoot, router: Router
) -> None:
    found = router.handle([plain(1), plain(2, grade=np.array([[b"secret"]], object)), plain(3)])
    assert isinstance(found[0], Answer)
    assert isinstance(found[2], Answer)
    bad = rejection(found[1:2])
    assert (bad.unavailable, bad.field, bad.rule) == (False, "grade", "unknown")
    assert "secret" not in bad.text
    (record,) = refusals(world.root)
    assert [(one.field, one.rule, one.kind) for one in record.refusals] == [("grade", "unknown", "an unknown category")]
    assert (record.version, record.contract_digest, record.decided_at_us) == (1, FIRST.digest, micros(END))
    subjects = Subjects(world.root / "subjects" / "subjects.sqlite", root_seed=SEED)
    row_key = encode_row([("i64", 2), ("us", NOW_US - 1_000_000)])
    assert record.row_index == quarantine_index(subjects.seeds("loan", [b""])[0], MODEL, row_key)
    assert b"secret" not in b"".join(path.read_bytes() for path in world.root.rglob("*.wal"))
    assert [one.header.seq for one in decisions(world.root)] == [0, 1]


def test_all_rows_of_a_request_are_decided_or_none(world: OnlineRoot, router: Router) -> None:
    def rows(*singles: dict[str, Any]) -> dict[str, Any]:
        return {name: np.concatenate([one[name] for one in singles]) for name in singles[0]}

    good = answers(router.handle([rows(plain(1), plain(2), plain(3))]))[0]
    assert [len(good.decisions), len(good.prediction_ids), *good.outputs["score"].shape] == [3, 3, 3, 1]
    bad = rejection(router.handle([rows(plain(1), plain(2, amount=np.array([[-1.0]])))]))
    assert (bad.field, bad.rule) == ("amount", "range")
    assert len(decisions(world.root)) == 3
    assert len(refusals(world.root)) == 1


def test_without_a_route_nothing_is_decided_until_there_is_one(
    tmp_path: Path, both_parts: tuple[dict[str, bytes], dict[str, bytes]]
) -> None:
    world = make_online_root(tmp_path / "root", *both_parts)
    router = world.router()
    bad = rejection(router.handle([plain(1)]))
    assert (bad.unavailable, bad.rule) == (True, "route")
    assert logged(world.root) == []
    world.routes.write(world.route())
    answers(router.handle([plain(1)]))
    assert [one.header.seq for one in decisions(world.root)] == [0]
    router.close()


def test_a_root_that_never_had_a_route_opens_no_router(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('kind = "wall"\n')
    from ml_platform.core.settings import load_settings

    with pytest.raises(NotFound, match=r"pinned\.json"):
        Router.open(load_settings(tmp_path / "settings.toml"), MODEL)
    assert not (tmp_path / "wal").exists()


def test_arms_with_other_contracts_check_by_their_own(world: OnlineRoot, router: Router) -> None:
    """Version 2 knows no grade C and wants a debt; version 1 has stored features. A client sends both versions' fields."""
    route = world.route(world.route(), arms=world.arms(1, 2))
    world.routes.write(route)
    c = np.array([[b"C"]], object)
    found = router.handle([request(number, grade=c) for number in range(40)])
    arm = {number: router._served.routed.arm_of(encode_row([("i64", number)])) for number in range(40)}  # type: ignore[union-attr]
    assert {one.arm for one in arm.values()} == {"primary", "canary"}
    for number, one in enumerate(found):
        assert isinstance(one, Answer if arm[number].version == 1 else Rejection)
    assert {one.refusals[0].field for one in refusals(world.root)} == {"grade"}
    assert {one.version for one in refusals(world.root)} == {2}
    found = answers(router.handle([request(number) for number in range(40)]))
    assert [one.versions for one in found] == [[arm[number].version] for number in range(40)]
    by_arm = {one.header.role: one.header for one in decisions(world.root)}
    assert by_arm["canary"].contract_digest == SECOND.digest
    assert (by_arm["canary"].version, by_arm["canary"].decision_of_record) == (2, True)
    assert by_arm["primary"].contract_digest == FIRST.digest
    missing = router.handle([plain(number) for number in range(40)])
    assert {one.field for one in missing if isinstance(one, Rejection)} == {"debt"}
    seqs = [one.header.seq for one in decisions(world.root)]
    assert seqs == list(range(len(seqs)))


def test_rows_of_one_request_are_answered_by_several_arms_in_their_order(world: OnlineRoot, router: Router) -> None:
    world.routes.write(world.route(world.route(), arms=world.arms(1, 2)))
    single = [request(number) for number in range(12)]
    whole = {name: np.concatenate([one[name] for one in single]) for name in single[0]}
    one_by_one = answers(router.handle(single))
    (at_once,) = answers(router.handle([whole]))
    assert len(set(at_once.versions)) == 2
    assert at_once.versions == [one.versions[0] for one in one_by_one]
    assert at_once.decisions == [one.decisions[0] for one in one_by_one]
    assert at_once.outputs["score"].tolist() == [one.outputs["score"].tolist()[0] for one in one_by_one]
    assert at_once.reasons == [one.reasons[0] for one in one_by_one]
    keys = {one.header.prediction_id: one.section.keys[0][1] for one in decisions(world.root)}
    assert [keys[id_bytes(text)] for text in at_once.prediction_ids] == list(range(12))

    whole["grade"] = np.array([[b"C"]] * 12, object)  # version 2 refuses its rows: version 1's are not recorded
    before = len(decisions(world.root))
    assert rejection(router.handle([whole, single[0]][:1])).field == "grade"
    assert len(decisions(world.root)) == before
    whole["term"] = np.array([[60]] * 12)
    row = at_once.versions.index(1)  # alone, it is version 1's to decide, after the other request's rows were left out
    alone = request(row, term=np.array([[60]]))
    found = router.handle([whole, alone])
    assert isinstance(found[0], Rejection)
    assert isinstance(found[1], Answer)
    (record,) = decisions(world.root)[before:]
    assert found[1].outputs["score"].tolist() == [[record.section.outputs[0]]]
    assert (record.section.keys, record.section.flags) == ((("i64", row),), ("term:unknown:flag",))
    assert router.metrics.flagged == {"term:unknown:flag": 1}


def test_a_broken_request_is_the_primarys_to_refuse(world: OnlineRoot, router: Router) -> None:
    world.routes.write(world.route(world.route(), arms=world.arms(1, 2)))
    found = router.handle([request(number, loan_id=None) for number in range(5)])
    assert {one.field for one in found if isinstance(one, Rejection)} == {"loan_id"}
    assert {one.version for one in refusals(world.root)} == {1}


def test_a_flip_is_followed_at_once_loads_nothing_and_is_in_the_record(
    world: OnlineRoot, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = world.route(world.route(), arms=world.arms(2), allowed_rollbacks=world.allowed(1))
    world.routes.write(route)
    assert answers(router.handle([request(1)]))[0].versions == [2]
    monkeypatch.setattr(Scorer, "load", lambda *given, **named: pytest.fail("a flip loads nothing"))
    flip = world.routes.turn(1, principal="officer:ann", reason_digest=REASON, at=AT)
    assert answers(router.handle([request(1)]))[0].versions == [1]
    last = decisions(world.root)[-1].header
    assert (last.flip_digest, last.route_digest, last.role) == (flip.digest, route.digest, "primary")
    assert router.metrics.flipped
    following = world.route(route, arms=world.arms(2), allowed_rollbacks=world.allowed(1), supersedes_flip=flip.digest)
    world.routes.write(following)
    assert answers(router.handle([request(1)]))[0].versions == [2]
    assert (decisions(world.root)[-1].header.flip_digest, router.metrics.epoch) == (None, 3)
    assert not router.metrics.flipped


def put(path: Path, raw: bytes) -> None:
    """As an attacker or a crash would leave it: without our lock."""
    beside = path.with_name("beside")
    beside.write_bytes(raw)
    beside.replace(path)


def test_a_torn_forged_or_stale_route_is_ignored_and_reported(world: OnlineRoot, router: Router) -> None:
    first = world.route()
    second = world.route(first)
    world.routes.write(second)
    router.handle([plain(1)])
    third = world.route(second)
    for raw, reason in (
        (third.raw[:-10], "torn"),
        (world.route(second, by="officer:ann").raw, "forged"),
        (first.raw, "lower_epoch"),
        (world.route(first, salt="11" * 16).raw, "same_epoch_other_digest"),
    ):
        put(world.routes.route_path, raw)
        answers(router.handle([plain(1)]))
        assert decisions(world.root)[-1].header.route_digest == second.digest
        assert router.metrics.route_refused == reason
    again = world.router()
    answers(again.handle([plain(1)]))
    assert again.metrics.epoch == 2
    again.close()
    put(world.routes.route_path, third.raw)
    router.handle([plain(1)])
    assert (router.metrics.epoch, router.metrics.route_refused) == (3, None)


def test_a_version_that_cannot_be_loaded_leaves_the_last_good_route_in_force(
    world: OnlineRoot, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(router_module.time, "monotonic", lambda: now[0])
    listing = load_artifact(ObjectStore(world.settings.objects), world.artifacts[2]).parts["model.onnx"]
    (stored,) = [path for path in (world.root / "store").rglob("*") if path.is_file() and path.read_bytes() == listing]
    stored.write_bytes(listing[:-1] + b"x")
    world.routes.write(world.route(world.route(), arms=world.arms(2)))
    assert answers(router.handle([plain(1)]))[0].versions == [1]
    assert (router.metrics.route_refused, router.metrics.epoch) == ("not_loaded", 1)
    stored.write_bytes(listing)
    assert answers(router.handle([plain(1)]))[0].versions == [1]
    now[0] += 1.0
    assert answers(router.handle([request(1)]))[0].versions == [2]
    assert (router.metrics.route_refused, router.metrics.epoch) == (None, 2)


def test_a_request_never_sets_the_replay_clock(world: OnlineRoot, router: Router) -> None:
    late = micros(END + timedelta(days=1))
    bad = rejection(router.handle([plain(1, applied_at=np.array([[late]]))]))
    assert (bad.field, bad.rule) == ("applied_at", "future")
    answers(router.handle([plain(1)]))
    assert decisions(world.root)[-1].header.decided_at_us == micros(END)
    world.move(END + timedelta(days=1))
    answers(router.handle([plain(1, applied_at=np.array([[late]])), plain(2, applied_at=None)]))
    assert [one.header.decided_at_us for one in decisions(world.root)[-2:]] == [late, late]
    assert decisions(world.root)[-1].section.request_time_us == late
    (world.root / "clock").unlink()
    bad = rejection(router.handle([plain(1)]))
    assert (bad.unavailable, bad.rule) == (True, "clock")


def test_a_wall_root_decides_now(tmp_path: Path, both_parts: tuple[dict[str, bytes], dict[str, bytes]]) -> None:
    world = make_online_root(tmp_path / "root", *both_parts, kind="wall")
    world.routes.write(world.route())
    router = world.router()
    before = router_module.wall_us()
    answers(router.handle([plain(1, applied_at=None)]))
    router.close()
    (record,) = decisions(world.root)
    assert before <= record.header.decided_at_us <= record.header.recorded_at_us <= router_module.wall_us()
    assert (record.header.clock, record.section.request_time_us) == ("wall", record.header.decided_at_us)


def test_a_store_that_cannot_answer_makes_the_request_unavailable(world: OnlineRoot) -> None:
    class Away:
        def lookup(self, contract: Any, column: Any, times_us: Any) -> Any:
            raise StorageFailed("The online store is away.", next_step="Mend it.")

    for features in (Away(), None):  # None: the root's own store, where nothing was published
        router = world.router(features=features)
        bad = rejection(router.handle([plain(1)]))
        assert (bad.unavailable, bad.rule) == (True, "features")
        assert router.metrics.unavailable == {"features": 1}
        router.close()
    assert logged(world.root) == []


def test_another_executor_gives_the_scores_and_its_absence_a_503(world: OnlineRoot) -> None:
    asked: list[tuple[int, tuple[int, ...]]] = []

    def executor(version: int, matrix: Any) -> Any:
        asked.append((version, matrix.shape))
        if len(asked) > 1:
            raise ServerUnavailable("Version 1 does not answer.", field="version", next_step="Roll back.")
        return np.full(len(matrix), 0.75, np.float32)

    router = world.router(executor=executor)
    found = answers(router.handle([plain(1), plain(2)]))
    assert asked == [(1, (2, len(FIRST.fields)))]
    assert [one.outputs["score"].tolist() for one in found] == [[[0.75]], [[0.75]]]
    assert {one.decisions[0] for one in found} == {"declined"}
    bad = router.handle([plain(1), plain(2, amount=None)])
    assert [one.rule for one in bad if isinstance(one, Rejection)] == ["version", "missing"]
    assert [one.unavailable for one in bad if isinstance(one, Rejection)] == [True, False]
    assert (len(decisions(world.root)), len(refusals(world.root))) == (2, 1)
    router.close()


def test_a_score_that_is_no_number_is_no_decision(world: OnlineRoot) -> None:
    router = world.router(executor=lambda version, matrix: np.full(len(matrix), np.nan, np.float32))
    assert rejection(router.handle([plain(1)])).unavailable
    assert decisions(world.root) == []
    router.close()


def test_what_cannot_be_recorded_is_not_answered_and_no_number_is_lost(
    world: OnlineRoot, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(router.handle([plain(1)]))

    def full(frames: Any) -> None:
        raise StorageFailed("Writing the log failed.", field="wal", next_step="Free space.")

    with monkeypatch.context() as patched:
        patched.setattr(router._parts.log, "append", full)
        found = router.handle([plain(1), plain(2, amount=None), plain(3)])
    assert [(one.unavailable, one.rule) for one in found if isinstance(one, Rejection)] == [(True, "log")] * 3
    assert router.metrics.unavailable == {"log": 3}
    assert router.metrics.rows == 1
    answers(router.handle([plain(1)]))
    assert [one.header.seq for one in decisions(world.root)] == [0, 1]


def test_what_is_counted(world: OnlineRoot, router: Router) -> None:
    unknown = np.array([[60]])
    router.handle([plain(1), plain(2, term=unknown), plain(3, amount=None), plain(4, amount=None, income=None)])
    router.handle([plain(5)])
    metrics = router.metrics
    assert (metrics.requests, metrics.batches, metrics.rows, metrics.largest_batch) == (5, 2, 3, 4)
    assert sum(metrics.decided.values()) == 3
    assert {(version, arm) for version, arm, _ in metrics.decided} == {(1, "primary")}
    assert {decision for _, _, decision in metrics.decided} <= {"approved", "declined"}
    assert metrics.refused == {("amount", "missing"): 2}
    assert metrics.flagged["term:unknown:flag"] == 1
    assert metrics.log_bytes == sum(
        len(frame(one)) for path in world.root.rglob("*.wal") for one in read_frames(path).frames
    )
    assert metrics.last_sync is not None
    assert metrics.last_sync_age(metrics.last_sync + 2.5) == 2.5
    assert replace(metrics, last_sync=None).last_sync_age(1.0) is None
    assert metrics.latency_us_sum == sum(one.header.latency_us or 0 for one in decisions(world.root))
    assert (metrics.epoch, metrics.flipped, metrics.route_refused) == (1, False, None)


def test_several_threads_share_one_gap_free_log(world: OnlineRoot, router: Router) -> None:
    def work(mark: int) -> None:
        for number in range(10):
            answers(router.handle([plain(100 * mark + number), plain(mark)]))

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.header.seq for one in decisions(world.root)] == list(range(80))


def test_a_closed_router_gives_its_log_away_and_answers_nothing(world: OnlineRoot, router: Router) -> None:
    import fcntl

    answers(router.handle([plain(1)]))
    router.close()
    (lock,) = world.root.glob("wal/*/*/lock")
    with lock.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert rejection(router.handle([plain(1)])).rule == "log"
