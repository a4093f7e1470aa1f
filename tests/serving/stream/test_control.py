"""Routes by topic at a real broker: applied between batches by every worker, and what is no good changes nothing."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ml_platform.registry.routefolder import RouteFolder
from ml_platform.serving.online_record import LoggedDecision
from tests.serving.stream.support import StreamRoot, done, produce, running, values, wait_for, work


def elsewhere(root: StreamRoot, folder: Path) -> StreamRoot:
    """Another machine: the same settings, pinned key and object store, and no route."""
    shutil.copytree(root.root, folder, ignore=shutil.ignore_patterns("store"))
    (folder / "store").symlink_to(root.root / "store")
    shutil.rmtree(folder / "serving" / "routes", ignore_errors=True)
    settings = replace(root.base.settings, root=folder)
    return replace(root, base=replace(root.base, settings=settings), routes=RouteFolder.of(folder, root.model))


def test_a_route_reaches_workers_on_other_machines_within_a_second_and_splits_no_batch(
    stream_root: Callable[..., StreamRoot], tmp_path: Path
) -> None:
    root = stream_root()
    other = elsewhere(root, tmp_path / "other")
    root.announce(root.first.raw)
    streams = [other.open("a", largest=20), elsewhere(root, tmp_path / "third").open("b", largest=20)]
    threads = [running(one) for one in streams]
    produce(root, [values(loan) for loan in range(1, 201)])
    wait_for(lambda: done(root))
    second = root.route(root.first, arms=root.base.arms(2), allowed_rollbacks=root.base.allowed(1))
    root.announce(second.raw)
    started = time.monotonic()
    wait_for(lambda: all(one.control.applied == 2 for one in streams))
    assert time.monotonic() - started < 10  # the figure is the benchmark's; this only says that it comes by itself
    produce(root, [values(loan) for loan in range(201, 401)])
    wait_for(lambda: done(root))
    for one, thread in zip(streams, threads, strict=True):
        one.stop.set()
        thread.join()
        one.close()
    written = root.written()
    written.check(root, 400)
    # The first version's schema lacks a field of the second's contract: these are refused by version 2, in its epoch.
    decided = {one.header.epoch for one in written.decisions}
    assert decided == {1}
    assert {one.version for one in written.refusals} == {2}
    assert len(written.refusals) == 200


def test_a_message_that_is_no_good_changes_nothing_and_is_told(stream_root: Callable[..., StreamRoot]) -> None:
    root = stream_root(partitions=1)
    said: list[str] = []
    second = root.route(root.first)
    root.routes.write(second)
    stream = root.open(said=said)
    stream.control.follow(stream.stop)
    forged = root.route(second, by="evaluator")
    bad = {
        "torn": second.raw[:-20],
        "forged": forged.raw,
        "other_model": root.base.route(second, model="somebody_else").raw,
        "lower_epoch": root.first.raw,
        "same_epoch_other_digest": root.route(root.first, salt="11" * 16).raw,
        "other_previous": root.route(forged, epoch=3).raw,
    }
    for raw in bad.values():
        root.announce(raw)
    root.announce(b"")
    wait_for(lambda: sum(stream.control.refused.values()) == len(bad) + 1)
    assert dict(stream.control.refused) == dict.fromkeys(bad, 1) | {"torn": 2}
    assert len(said) == len(bad) + 1
    produce(root, [values(1)])
    work(stream, 1)
    good = root.route(second)
    root.announce(good.raw)
    wait_for(lambda: stream.control.applied == 1)
    produce(root, [values(2)])
    work(stream, 2)
    stream.close()
    found = [one.header.epoch for one in root.written().decisions if isinstance(one, LoggedDecision)]
    assert found == [2, 3]


def test_a_worker_that_starts_reads_a_topic_of_any_age_to_its_end(
    stream_root: Callable[..., StreamRoot], tmp_path: Path
) -> None:
    root = stream_root(partitions=1)
    routes = [root.first]
    for _ in range(4):
        routes.append(root.route(routes[-1]))
    for one in routes:
        root.announce(one.raw)
        root.announce(root.route(one, by="evaluator").raw)
    said: list[str] = []
    late = elsewhere(root, tmp_path / "late")
    produce(root, [values(1)])
    stream = late.open(said=said)
    work(stream, 1)
    stream.close()
    assert stream.control.refused == {"forged": 5}
    assert len(said) == 5
    (record,) = root.written().decisions
    assert (record.header.epoch, record.header.route_digest) == (5, routes[-1].digest)


def test_a_local_rollback_holds_for_workers_of_its_root_and_no_stale_route_ends_it(
    stream_root: Callable[..., StreamRoot],
) -> None:
    from datetime import UTC, datetime

    root = stream_root(partitions=1)
    second = root.route(root.first, arms=root.base.arms(2), allowed_rollbacks=root.base.allowed(1))
    root.routes.write(second)
    stream = root.open()
    stream.control.follow(stream.stop)
    flip = root.routes.turn(1, principal="officer:ann", reason_digest="sha256:" + "0" * 64, at=datetime.now(UTC))
    root.announce(root.route(second, arms=root.base.arms(2)).raw)
    wait_for(lambda: stream.control.refused["supersedes_flip"] == 1)
    produce(root, [values(1)])
    work(stream, 1)
    stream.close()
    (record,) = root.written().decisions
    assert (record.header.version, record.header.flip_digest) == (1, flip.digest)
