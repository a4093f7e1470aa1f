"""Appending: one writer at a time, on a log that extends what was committed to before."""

from __future__ import annotations

import multiprocessing
import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ml_platform.core.errors import (
    ConcurrentTransition,
    Conflict,
    DeclarationError,
    IllegalTransition,
    NotFound,
    PlatformError,
    SettingsError,
    StorageFailed,
    Tampered,
)
from ml_platform.core.objects import ObjectStore
from ml_platform.registry import Registry
from ml_platform.registry.events import Event
from tests.registry.world import AT, Ticking, World


def closed(writer: str) -> Event:
    return Event("writer_closed", {"writer": writer, "last_seq": 0})


def requested(world: World, number: int) -> Event:
    body = {"candidate": world.candidate(number), "as_of": "2026-01-01T00:00:00.000000Z", "requested_by": "service"}
    digests = {"spec": "sha256:" + "0" * 64, "inputs": "sha256:" + "1" * 64}
    return Event("candidate_requested", {**body, **digests}, "credit_risk")


def rows(world: World) -> int:
    with sqlite3.connect(world.database) as connection:
        return connection.execute("select count(*) from entries").fetchone()[0]


def test_a_batch_is_written_as_a_whole_or_not_at_all(world: World) -> None:
    log = world.registry._log
    assert log.append([requested(world, 1), requested(world, 2)]) == [1, 2]
    with pytest.raises(Conflict):
        log.append([requested(world, 3), requested(world, 1)])
    assert rows(world) == log.refresh().size == 3
    assert log.append([requested(world, 3)]) == [3]
    assert log.append([]) == []
    assert world.registry.verify().ok


def test_the_precondition_sees_the_state_under_the_lock_and_can_refuse(world: World) -> None:
    log, seen = world.registry._log, []

    def refuse(state) -> None:
        seen.append(state.size)
        raise ConcurrentTransition("No.", next_step="None.")

    with pytest.raises(ConcurrentTransition):
        log.append([requested(world, 1)], refuse)
    assert (seen, rows(world)) == ([1], 1)


def test_an_error_of_any_kind_inside_the_lock_leaves_the_log_as_it_was(world: World) -> None:
    log = world.registry._log

    def fail(state, at):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        log.transact(fail)
    assert log.append([requested(world, 1)]) == [1]


def test_a_second_process_sees_what_the_first_wrote_and_goes_on_from_there(world: World) -> None:
    other = Registry.open(world.url, world.objects, **world.parts())
    assert world.version(1) == 1
    assert other.state().model("credit_risk").versions[1].stage == "trained"
    assert other._log.append([requested(world, 9)]) == [4]
    assert world.registry.state().size == 5
    assert world.registry.verify().ok
    other.close()


def test_recorded_at_never_goes_back(world: World) -> None:
    world.request(1)
    world.wall.forward(hours=-5)
    world.request(2)
    world.wall.forward(hours=6)
    world.request(3)
    times = [entry.recorded for entry in world.registry.entries()]
    assert times == [AT, AT, AT, AT + timedelta(hours=1)]


def test_a_wall_root_cannot_claim_another_time_and_a_replay_root_can(tmp_path: Path, world: World) -> None:
    past = datetime(2010, 1, 1, tzinfo=UTC)
    event = requested(world, 1)
    with pytest.raises(DeclarationError, match="effect"):
        world.registry._log.append([Event(event.kind, event.body, event.model, past)])
    replay = World(tmp_path / "replay", kind="replay", clock=Ticking(past))
    replay.request(1)
    assert [(entry.effective, entry.recorded) for entry in replay.registry.entries()] == [(past, AT), (past, AT)]


def test_state_at_shows_what_was_in_effect_and_what_was_known(tmp_path: Path) -> None:
    clock = Ticking(datetime(2010, 1, 1, tzinfo=UTC))
    world = World(tmp_path / "root", kind="replay", clock=clock)
    world.to_production(world.version(1))
    clock.forward(days=365)
    world.wall.forward(hours=1)
    world.to_production(world.version(2, baseline=(1, world.artifact(1))))
    state = world.registry.state

    def production(**when: datetime) -> int | None:
        models = state(**when).models
        return models["credit_risk"].production if models else None

    assert production() == 2
    assert production(at=datetime(2009, 12, 31, tzinfo=UTC)) is None
    assert production(at=datetime(2010, 6, 1, tzinfo=UTC)) == 1
    assert production(at=datetime(2011, 1, 1, tzinfo=UTC)) == 2
    assert production(known_at=AT) == 1
    assert production(at=datetime(2011, 1, 1, tzinfo=UTC), known_at=AT) == 1
    assert production(known_at=AT - timedelta(microseconds=1)) is None
    assert state(at=datetime(2010, 6, 1, tzinfo=UTC)).version("credit_risk", 1).stage == "production"


def test_a_log_without_genesis_takes_nothing(world: World, tmp_path: Path) -> None:
    parts = {**world.parts(), "signer": world.signer}
    (tmp_path / "other").mkdir()
    empty = Registry.open(
        f"sqlite:///{tmp_path / 'other' / 'db'}", ObjectStore(tmp_path / "other" / "store"), wall=parts["wall"]
    )
    with pytest.raises(NotFound):
        empty.checkpoint()
    with pytest.raises(SettingsError, match="key"):
        empty._log.append([closed("w")])
    assert empty.verify().size == 0


def test_the_same_genesis_again_changes_nothing_another_is_a_conflict(world: World) -> None:
    Registry.create(world.url, world.objects, world.genesis(), **world.parts()).close()
    assert rows(world) == 1
    with pytest.raises(Conflict):
        Registry.create(world.url, world.objects, {**world.genesis(), "seed_class": "private"}, **world.parts())


def test_without_the_logs_key_the_log_can_be_read_only(world: World) -> None:
    world.version(1)
    reader = world.reopen(signer=None)
    assert reader.state().model("credit_risk").versions
    assert reader.verify().ok
    with pytest.raises(SettingsError, match="read only"):
        world.request(2)


# -- checkpoints -----------------------------------------------------------------------------------------------------


def copy_of(world: World) -> Path:
    """A backup of the database, with everything committed in one file."""
    backup = world.folder / "backup.sqlite"
    with sqlite3.connect(world.database) as source, sqlite3.connect(backup) as target:
        source.backup(target)
    return backup


def restore(world: World, backup: Path) -> None:
    world.registry.close()
    for suffix in ("", "-wal", "-shm"):
        Path(f"{world.database}{suffix}").unlink(missing_ok=True)
    shutil.copy(backup, world.database)


def test_a_database_rolled_back_behind_a_checkpoint_stops_writes_and_says_so(world: World) -> None:
    world.version(1)
    backup = copy_of(world)
    world.move(1, "stage", "staging")
    restore(world, backup)
    with pytest.raises(Tampered, match="checkpoint of 6 entries: it was rolled back"):
        world.reopen().state()
    with pytest.raises(Tampered, match="rolled back"):
        world.request(2)
    assert rows(world) == 4
    report = world.registry.verify()
    assert report.status == "tampered"
    assert "truncated or rolled back" in report.statement


def test_the_signers_own_mark_remembers_when_the_store_was_rolled_back_too(world: World) -> None:
    world.version(1)
    backup = copy_of(world)
    shutil.copytree(world.folder / "store", world.folder / "store.backup")
    world.move(1, "stage", "staging")
    restore(world, backup)
    shutil.rmtree(world.folder / "store")
    shutil.move(world.folder / "store.backup", world.folder / "store")
    with pytest.raises(Tampered, match="rolled back"):
        world.reopen().state()


def test_a_database_swapped_under_a_running_process_stops_its_writes(world: World) -> None:
    world.version(1)
    backup = copy_of(world)
    registry, url = world.registry, world.url
    world.request(2)
    world.request(3)
    registry._database.close()  # its connections only; the log's memory stays
    for suffix in ("", "-wal", "-shm"):
        Path(f"{world.database}{suffix}").unlink(missing_ok=True)
    shutil.copy(backup, world.database)
    with pytest.raises(Tampered, match="rolled back"):
        world.request(4)
    assert url == world.url


def test_another_history_of_the_same_length_stops_writes(world: World) -> None:
    backup = copy_of(world)
    world.request(1)
    world.registry.checkpoint()
    restore(world, backup)
    shutil.move(world.folder / "high_water", world.folder / "high_water.kept")
    shutil.move(world.folder / "store" / "checkpoints" / "2", world.folder / "two")
    world.reopen()
    world.request(5)
    shutil.move(world.folder / "two", world.folder / "store" / "checkpoints" / "2")
    with pytest.raises(Tampered, match="not those"):
        world.registry.checkpoint()
    with pytest.raises(Tampered, match="not those"):
        world.reopen().state()


def test_the_signer_refuses_a_second_root_for_a_size(world: World) -> None:
    from ml_platform.registry.notes import Checkpoint

    made = world.registry.checkpoint()
    other = Checkpoint(made.origin, made.size, bytes(32))
    with pytest.raises(Tampered, match="not those"):
        world.signer.sign(other, lambda size: bytes(32))
    assert world.signer.high_water() == made


def test_a_checkpoint_that_the_log_did_not_sign_is_refused(world: World) -> None:
    path = world.folder / "store" / "checkpoints" / "9"
    path.write_bytes((world.folder / "store" / "checkpoints" / "1").read_bytes())
    with pytest.raises(Tampered, match="another size"):
        world.request(1)
    path.write_bytes(b"nonsense")
    with pytest.raises(Tampered):
        world.request(1)


def test_checkpoints_stay_and_the_same_size_is_signed_once(world: World) -> None:
    world.version(1)
    first = world.registry.checkpoint()
    assert world.registry.checkpoint() == first
    names = {path.name for path in (world.folder / "store" / "checkpoints").iterdir()}
    assert names == {"1", "4"}


def test_a_forged_entry_behind_the_newest_checkpoint_is_judged_before_anything_is_built_on_it(world: World) -> None:
    """Somebody with the database alone writes a well-formed registration and mends hashes and head."""
    from ml_platform.core.merkle import leaf_hash
    from ml_platform.registry.events import encode_entry
    from ml_platform.registry.sql import Database, Head, StoredEntry

    world.version(1)
    body = {**world.registry.entry(3).body, "version": 2, "artifact": world.artifact(2)}
    _, raw = encode_entry(Event("registered", body, "credit_risk"), index=4, recorded_at=AT)
    frontier = world.registry._log.tree.frontier().append(leaf_hash(raw))
    database = Database(world.url)
    with database.writing() as session:
        session.append([StoredEntry(4, raw, leaf_hash(raw))], Head(5, frontier.to_bytes(), frontier.root()))
    with pytest.raises(PlatformError):
        world.request(2)
    with pytest.raises(PlatformError):
        world.registry.checkpoint()
    report = world.registry.verify()
    assert (report.status, report.problems[0].entry) == ("tampered", 4)


# -- more than one process -------------------------------------------------------------------------------------------


def promote_in_a_process(folder: Path, version: int, seen: int | None, barrier, queue) -> None:
    world = World.__new__(World)
    World.__init__(world, folder)
    seen = world.registry.state().size if seen is None else seen
    barrier.wait()
    try:
        world.move(version, "promote", "production", seen_size=seen)
    except PlatformError as error:
        queue.put((version, type(error).__name__))
    else:
        queue.put((version, "won"))


@pytest.mark.parametrize("round_", range(3))
def test_of_two_promotions_at_once_one_wins_and_the_other_says_so(tmp_path: Path, round_: int) -> None:
    world = World(tmp_path / "root")
    world.to_canary(world.version(1))
    world.approve(1, "canary", "production")
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(2), context.Queue()
    work = [
        context.Process(target=promote_in_a_process, args=(world.folder, 1, None, barrier, queue)) for _ in range(2)
    ]
    for process in work:
        process.start()
    outcomes = sorted(queue.get(timeout=60)[1] for _ in work)
    for process in work:
        process.join()
    assert outcomes == ["ConcurrentTransition", "won"]
    assert world.registry.state().model("credit_risk").production == 1
    assert world.registry.verify().ok


def test_the_database_itself_holds_one_production_version(world: World) -> None:
    from ml_platform.registry.projection import Change
    from ml_platform.registry.sql import Database

    world.to_production(world.version(1))
    world.version(2)
    database = Database(world.url)
    with pytest.raises(ConcurrentTransition), database.writing() as session:
        session.apply([Change("stages", "update", {"model": "credit_risk", "version": 2, "stage": "production"})])
    with pytest.raises(IllegalTransition):
        world.move(2, "promote", "production")


def test_a_full_disk_changes_nothing_and_the_rerun_completes(world: World) -> None:
    world.version(1)

    def limit(connection, _record) -> None:
        pages = connection.execute("pragma page_count").fetchone()[0]
        connection.execute(f"pragma max_page_count = {pages}")

    from sqlalchemy import event

    engine = world.registry._database._engine
    engine.dispose()
    event.listen(engine, "connect", limit)
    with pytest.raises(StorageFailed, match="full"):
        world.registry._log.append([requested(world, number) for number in range(2, 200)])
    event.remove(engine, "connect", limit)
    engine.dispose()
    assert world.registry.state().size == 4
    assert world.registry._log.append([requested(world, number) for number in range(2, 200)])[-1] == 201
    assert world.registry.verify().ok
