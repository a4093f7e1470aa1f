"""The router's view: the newest good route, one look at the folder while nothing changed, and why a file is ignored."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from ml_platform.core.errors import NotFound, StorageFailed, Tampered
from ml_platform.registry import routefile
from ml_platform.registry.routefile import RouteFile
from ml_platform.registry.routefolder import RouteFolder
from tests.registry.routing import MODEL, after, allowed, arms, flip, signed
from tests.registry.test_route import unit
from tests.registry.test_routefolder import TWO, folder, turned


@pytest.fixture
def files(tmp_path: Path) -> RouteFolder:
    made = folder(tmp_path)
    made.write(TWO)
    return made


@pytest.fixture
def router(files: RouteFolder) -> RouteFile:
    return RouteFile(files)


def put(path: Path, raw: bytes) -> None:
    """As somebody else would: without our lock, but by a rename."""
    beside = path.with_name("beside")
    beside.write_bytes(raw)
    beside.replace(path)


def test_a_route_and_what_it_gives_to_the_record(router: RouteFile) -> None:
    now = router.current()
    assert (now.route, now.digest, now.epoch) == (TWO.route, TWO.digest, 1)
    assert (now.flip, now.flip_digest, now.refused) == (None, None, None)
    assert now.primary.version == 2
    assert now.versions == TWO.route.named
    assert now.arm_of(unit(1)).version == 2


def test_the_arms_of_a_canary_answer_their_units(files: RouteFolder) -> None:
    made = after(TWO, arms=arms(2, 3, 5_000))
    files.write(made)
    now = RouteFile(files).current()
    assert {now.arm_of(unit(number)).version for number in range(50)} == {2, 3}


def test_nothing_is_read_while_nothing_changed(files: RouteFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    later = RouteFile(files, clock_ns=lambda: time.time_ns() + 10**9)  # the change is older than the grain
    first = later.current()
    looked: list[Any] = []
    monkeypatch.setattr(routefile, "read_whole", looked.append)
    real = os.stat
    monkeypatch.setattr(routefile.os, "stat", lambda path: (looked.append(path), real(path))[1])
    for _ in range(5):
        assert later.current() is first
    assert looked == [os.fspath(files.folder)] * 5


def test_a_change_within_the_grain_of_the_clock_is_not_missed(files: RouteFolder) -> None:
    """Two changes in one tick leave the same time; the second is seen all the same."""
    router = RouteFile(files, clock_ns=lambda: files.folder.stat().st_mtime_ns + 1)
    router.current()
    was = files.folder.stat()
    turned(files, 1)
    os.utime(files.folder, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert router.current().primary.version == 1


def test_a_flip_and_the_route_that_ends_it(files: RouteFolder, router: RouteFile) -> None:
    router.current()
    made = turned(files, 1)
    now = router.current()
    assert (now.primary.version, now.flip, now.flip_digest, now.epoch) == (1, made, made.digest, 1)
    ends = after(TWO, arms=arms(1), allowed_rollbacks=allowed(2), supersedes_flip=made.digest)
    files.write(ends)
    now = router.current()
    assert (now.primary.version, now.flip, now.flip_digest, now.epoch, now.refused) == (1, None, None, 2, None)
    put(files.flip_path, made.raw)  # put back: it has ended
    assert (router.current().flip, router.current().refused) == (None, None)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (TWO.raw[:-10], "torn"),
        (b"", "torn"),
        (after(TWO, by="officer:ann").raw, "forged"),
        (after(TWO, model="churn").raw, "other_model"),
        (signed(salt="11" * 16).raw, "same_epoch_other_digest"),
        (after(signed(salt="11" * 16)).raw, "other_previous"),
    ],
)
def test_a_route_that_does_not_count_is_ignored_and_named(
    files: RouteFolder, router: RouteFile, raw: bytes, reason: str
) -> None:
    router.current()
    put(files.route_path, raw)
    for _ in range(3):
        now = router.current()
        assert now.route == TWO.route
        assert now.refused is not None
        assert now.refused.reason == reason
    assert router.refusals == {reason: 1}
    put(files.route_path, TWO.raw)
    assert router.current().refused is None


def test_an_old_route_is_refused_also_after_a_restart(files: RouteFolder, router: RouteFile) -> None:
    second = after(TWO, arms=arms(2, 3))
    files.write(second)
    router.current()
    put(files.route_path, TWO.raw)
    for one in (router, RouteFile(files)):
        now = one.current()
        assert now.route == second.route
        assert now.refused is not None
        assert now.refused.reason == "lower_epoch"


def test_a_router_remembers_what_the_writer_did_not(files: RouteFolder) -> None:
    """Somebody copies a good route into the folder; who followed it never goes back."""
    put(files.route_path, after(TWO).raw)
    assert RouteFile(files).current().epoch == 2
    put(files.route_path, TWO.raw)
    assert RouteFile(files).current().epoch == 2


def test_without_a_route_nothing_is_answered(tmp_path: Path) -> None:
    files = folder(tmp_path)
    with pytest.raises(NotFound, match="route"):
        RouteFile(files).current()
    files.folder.mkdir(parents=True)
    with pytest.raises(NotFound, match="route"):
        RouteFile(files).current()
    put(files.route_path, TWO.raw[:50])
    with pytest.raises(Tampered, match="torn"):
        RouteFile(files).current()


def test_a_router_waits_for_the_first_route(tmp_path: Path) -> None:
    files = folder(tmp_path)
    router = RouteFile.of(tmp_path, MODEL)
    with pytest.raises(NotFound, match="route"):
        router.current()
    files.write(TWO)
    assert router.current().epoch == 1


def test_when_the_files_vanish_the_last_good_route_stands(files: RouteFolder, router: RouteFile) -> None:
    router.current()
    files.route_path.unlink()
    now = router.current()
    assert (now.epoch, now.refused and now.refused.reason) == (1, "missing")
    aside = files.folder.rename(files.folder.with_name("aside"))
    for _ in range(3):
        now = router.current()
        assert (now.epoch, now.refused and now.refused.reason) == (1, "missing")
    aside.rename(files.folder)
    put(files.route_path, after(TWO).raw)
    assert (router.current().epoch, router.current().refused) == (2, None)


def test_a_flip_survives_its_file_but_not_a_later_one(files: RouteFolder, router: RouteFile) -> None:
    first = turned(files, 1)
    assert router.current().flip == first
    files.flip_path.unlink()
    now = router.current()
    assert (now.flip, now.refused and now.refused.reason) == (first, "flip_missing")
    second = flip(TWO, 2, counter=2)
    put(files.flip_path, second.raw)
    assert (router.current().primary.version, router.current().refused) == (2, None)
    put(files.flip_path, first.raw)
    now = router.current()
    assert (now.flip, now.refused and now.refused.reason) == (second, "flip_older")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"{", "flip_torn"),
        (flip(TWO, 3).raw, "flip_not_allowed"),
        (flip(TWO, 1, artifact=arms(2)[0].artifact).raw, "flip_not_allowed"),
    ],
)
def test_a_flip_that_does_not_count_is_ignored_and_named(
    files: RouteFolder, router: RouteFile, raw: bytes, reason: str
) -> None:
    router.current()
    put(files.flip_path, raw)
    now = router.current()
    assert (now.primary.version, now.flip, now.refused and now.refused.reason) == (2, None, reason)


def test_a_flip_holds_although_a_route_overlooked_it(files: RouteFolder, router: RouteFile) -> None:
    made = turned(files, 1)
    router.current()
    put(files.route_path, after(TWO).raw)
    for one in (router, RouteFile(files)):
        assert (one.current().epoch, one.current().flip) == (2, made)


def test_a_full_disk_keeps_the_old_route(files: RouteFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    router = RouteFile(files)
    router.current()
    put(files.route_path, after(TWO).raw)

    def full(*_: object) -> None:
        raise StorageFailed("The disk is full.", next_step="Free space.")

    monkeypatch.setattr(RouteFolder, "remember", full)
    now = router.current()
    assert (now.epoch, now.refused and now.refused.reason) == (1, "not_stored")
    monkeypatch.undo()
    assert (router.current().epoch, router.current().refused) == (2, None)


def test_a_damaged_memory_stops_a_router_that_starts(files: RouteFolder) -> None:
    (files.folder / "seen.json").write_bytes(b"{")
    with pytest.raises(Tampered):
        RouteFile(files).current()
