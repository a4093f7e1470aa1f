"""Crashes and full disks: what was answered is recorded, what is not recorded was not answered."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ml_platform.core.ids import id_text
from ml_platform.serving.online_record import LoggedDecision, decode
from ml_platform.serving.router_answers import Answer, Rejection
from ml_platform.serving.wal import read_frames
from tests.serving.router_support import (
    MODEL,
    OnlineRoot,
    contract_of,
    decisions,
    first_parts,
    logged,
    make_online_root,
    plain,
    refusals,
    second_parts,
)


@pytest.fixture(scope="module")
def both_parts() -> tuple[dict[str, bytes], dict[str, bytes]]:
    return first_parts(), second_parts()


@pytest.fixture
def world(tmp_path: Path, both_parts: tuple[dict[str, bytes], dict[str, bytes]]) -> OnlineRoot:
    made = make_online_root(tmp_path / "root", *both_parts)
    made.routes.write(made.route())
    return made


def killed(world: OnlineRoot, *, after: int, threads: int) -> list[tuple[str | None, int]]:
    """Runs a router under load and kills it after so many batches; what it had said until then."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.serving.router_driver", str(world.root), str(threads)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(after)]
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.read().splitlines(keepends=True)
    process.wait()
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL
    return [(said, loan) for line in lines if line.endswith(b"\n") for said, loan in json.loads(line)]


@pytest.mark.parametrize(("after", "threads"), [(1, 1), (25, 3), (60, 2)])
def test_every_answer_before_a_kill_is_in_the_log_exactly_once(world: OnlineRoot, after: int, threads: int) -> None:
    said = killed(world, after=after, threads=threads)
    records = decisions(world.root)
    ids = Counter(id_text(one.header.prediction_id) for one in records)
    assert set(ids.values()) <= {1}
    loans = {id_text(one.header.prediction_id): one.section.keys[0][1] for one in records}
    assert all(loans[answered] == loan for answered, loan in said if answered is not None)
    assert len(refusals(world.root)) >= sum(answered is None for answered, _ in said)
    assert [one.header.seq for one in records] == list(range(len(records)))
    (lock,) = world.root.glob("wal/*/*/lock")
    with lock.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the sealer adopts what it left


def test_a_router_after_a_crash_has_a_log_of_its_own(world: OnlineRoot) -> None:
    said = killed(world, after=3, threads=1)
    before = logged(world.root)
    router = world.router()
    (answer,) = router.handle([plain(1)])
    router.close()
    assert isinstance(answer, Answer)
    assert len(list((world.root / "wal" / MODEL).iterdir())) == 2
    assert len(logged(world.root)) == len(before) + 1
    assert len({one.header.writer for one in decisions(world.root)}) == 2
    assert len(said) >= 3


def test_a_tail_torn_anywhere_costs_no_record_before_it(world: OnlineRoot) -> None:
    router = world.router()
    sizes, path = [0], next(world.root.glob("wal/*/*/*.wal"))
    for loan in range(3):
        router.handle([plain(loan), plain(loan + 10)])
        sizes.append(router.metrics.log_bytes)
    raw = path.read_bytes()[: sizes[-1]]
    router.close()
    for cut in range(sizes[-1], sizes[2], -37):
        path.write_bytes(raw[:cut])
        found = read_frames(path)
        whole = [decode(one, contract_of) for one in found.frames]
        assert [one.header.seq for one in whole if isinstance(one, LoggedDecision)] == list(range(len(whole)))
        assert len(whole) >= 4 if cut < sizes[-1] else len(whole) == 6
        end = sum(8 + len(one) for one in found.frames)
        assert found.torn_bytes == len(raw[end:cut].rstrip(b"\0"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "root" / "wal"
    folder.mkdir(parents=True)
    if (
        os.getuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], check=False).returncode
    ):
        pytest.skip("mounting a small disk needs root; test_wal.py has a file size limit")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_a_503_for_the_whole_batch_and_service_goes_on_when_there_is_room(
    small_disk: Path, tmp_path: Path, both_parts: tuple[dict[str, bytes], dict[str, bytes]]
) -> None:
    world = make_online_root(tmp_path / "root", *both_parts)
    world.routes.write(world.route())
    router = world.router()
    answered: list[str] = []
    batches = 0
    while True:
        found = router.handle([plain(loan) for loan in range(8)])
        batches += 1
        if isinstance(found[0], Rejection):
            break
        answered += [text for one in found if isinstance(one, Answer) for text in one.prediction_ids]
        assert batches < 1000
    assert {(one.unavailable, one.rule) for one in found if isinstance(one, Rejection)} == {(True, "log")}
    assert len(found) == 8
    assert [id_text(one.header.prediction_id) for one in decisions(world.root)] == answered
    (path,) = small_disk.glob("*/*/*.wal")
    assert read_frames(path).torn_bytes == 0
    subprocess.run(["mount", "-o", "remount,size=1m", small_disk], check=True)
    found = router.handle([plain(loan) for loan in range(8)])
    answered += [text for one in found if isinstance(one, Answer) for text in one.prediction_ids]
    router.close()
    records = decisions(world.root)
    assert [id_text(one.header.prediction_id) for one in records] == answered
    assert [one.header.seq for one in records] == list(range(len(answered)))


def test_old_log_files_are_completed_without_a_request(world: OnlineRoot) -> None:
    router = world.router()
    router.handle([plain(1)])
    router._parts.log._limits = (1 << 30, 0.0)  # any age is old enough
    (folder,) = (world.root / "wal" / MODEL).iterdir()
    for _ in range(1000):
        if len(list(folder.glob("*.wal"))) == 2:
            break
        router._closed.wait(0.02)
    assert len(list(folder.glob("*.wal"))) == 2
    router.close()
