"""Runs a batch in forked processes that die, or whose disk is full, at each step in turn; prints what was seen as JSON.

Started by test_batch_crash.py in a fresh process: nothing that owns threads has run before a fork.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import deltalake  # noqa: F401 - loaded once, before the forks
import lightgbm  # noqa: F401 - likewise
import obstore  # noqa: F401 - likewise
import onnxruntime  # noqa: F401 - likewise
import pyarrow as pa

from ml_platform.core import delta as core_delta
from ml_platform.core import objects, subjects
from ml_platform.core.errors import NotFound, StorageFailed
from ml_platform.serving import batch, delta, lookup, sealing, spool
from ml_platform.serving.segment import load_segment, load_tiles
from tests.serving.support import World, loans, make_world
from tests.serving.test_preparing import with_values

ROWS, BAD = 130, 3
WRITER = "batch-" + "ab" * 16
EFFECTS: list[tuple[Any, str]] = [
    (objects.ObjectStore, "create"),
    (core_delta.Lake, "create"),
    (core_delta.Lake, "append"),
    (subjects.Subjects, "seeds"),
    (spool.Spool, "append"),
    (delta.PartitionWriter, "_close"),
    (sealing, "commit_files"),
    (sealing, "store_segment"),
    (batch, "write_marker"),
]


def table() -> pa.Table:
    return with_values(loans(ROWS), "grade", dict.fromkeys(range(BAD), "Z"))


def in_child(body: Callable[[], None]) -> int:
    """The exit code of a forked process, or minus the signal that ended it."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            body()
            code = 0
        except BaseException:  # noqa: BLE001 - the child's exit code is what counts
            traceback.print_exc()
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def die_at(step: int) -> None:
    """Lets the process be killed right after its n-th effect; before the first for n = 0."""
    seen = 0

    def wrapped(effect: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            nonlocal seen
            seen += 1
            mine = seen
            if step == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            result = effect(*given, **named)
            if mine == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for owner, name in EFFECTS:
        setattr(owner, name, wrapped(getattr(owner, name)))


def run(world: World) -> batch.BatchResult:
    """A run whose proposed writer is known, so that two worlds can be compared."""
    proposed = batch._proposed
    batch._proposed = lambda job, revision: replace(proposed(job, revision), writer=WRITER)  # type: ignore[assignment]
    try:
        return batch.score_partition(world.job(chunk_rows=50), world.parts(table()))
    finally:
        batch._proposed = proposed


def state(world: World) -> list[str]:
    """Everything that readers can see, in an order of its own."""
    names = ("credit_risk/predictions", "credit_risk/predictions_personal", "credit_risk/quarantine")
    rows = [repr(row) for name in names for row in world.lake.read(name).to_pylist()]
    rows += [repr(row) for name in ("index/entities",) for row in world.lake.read(name).to_pylist()]
    segments = world.lake.read("index/segments").to_pylist()
    return sorted(rows) + [row["root"] for row in segments]


def visible(world: World) -> int:
    """How many records a reader finds although there is no marker."""
    if not world.lake.exists("credit_risk/predictions"):
        return 0
    found = 0
    for text in world.lake.read("credit_risk/predictions").column("prediction_id").to_pylist()[::30]:
        try:
            lookup.RecordReader(world.lake, world.objects).find(text)
            found += 1
        except NotFound:
            continue
    return found


def check(world: World, folder: Path) -> None:
    """Before the rerun nothing is seen; after it all is complete, equal to an undisturbed run, and proven."""
    if not world.objects.exists("batch/credit_risk/2010-05/0/commit.json"):
        assert visible(world) == 0
    result = run(world)
    assert (result.rows, result.accepted, result.refused) == (ROWS, ROWS - BAD, BAD)
    assert state(world) == json.loads((folder / "expected").read_text())
    tree = load_tiles(world.objects, load_segment(world.objects, str(result.segment_id)))
    assert all(tree.index(leaf) == index for leaf, index in world.leaves())
    assert run(world) == result
    left = [path for path in (world.root / "scratch").rglob("*") if path.is_file() and path.name != "lock"]
    left += list((world.root / "lake").rglob("*.unfinished"))
    assert left == [], left


def world_at(folder: Path, parts: Path) -> World:
    return make_world(folder, {path.name: path.read_bytes() for path in parts.iterdir()})


def killed(folder: Path, parts: Path) -> list[int]:
    codes: list[int] = []
    for step in range(500):
        root = folder / f"step-{step:03d}"

        def doomed(root: Path = root, step: int = step) -> None:
            world = world_at(root, parts)
            die_at(step)
            run(world)

        code = in_child(doomed)
        if code == 0:
            break
        codes.append(code)
        if in_child(lambda root=root: check(world_at(root, parts), folder)) != 0:  # type: ignore[misc]
            codes.append(step + 1000)
    return codes


def full(folder: Path, parts: Path) -> list[list[int]]:
    """File size limits as small disks: [limit, exit code] of each."""
    found: list[list[int]] = []
    for limit in (1, 1_000, 4_000, 9_000, 12_000, 16_000, 24_000, 40_000):
        root = folder / f"limit-{limit}"
        assert in_child(lambda root=root: world_at(root, parts) and None) == 0  # type: ignore[misc]

        def starved(root: Path = root, limit: int = limit) -> None:
            world = world_at(root, parts)
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                run(world)
            except StorageFailed:
                os._exit(7)

        code = in_child(starved)
        found.append([limit, code])
        if in_child(lambda root=root: check(world_at(root, parts), folder)) != 0:  # type: ignore[misc]
            found.append([limit, 1000])
    return found


def device(folder: Path, parts: Path) -> list[list[int]]:
    """A device of its own, filled up to so many bytes: [free bytes, exit code] of each."""
    found: list[list[int]] = []
    for free in (4_096, 32_768, 65_536, 131_072, 262_144, 524_288, 1_048_576, 2_097_152, 8_388_608):
        place = folder / f"device-{free}"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)], check=True)
        root = place / "root"
        assert in_child(lambda root=root: world_at(root, parts) and None) == 0  # type: ignore[misc]
        left = os.statvfs(place)
        ballast = place / "ballast"
        ballast.write_bytes(bytes(left.f_bavail * left.f_frsize - free))

        def starved(root: Path = root) -> None:
            try:
                run(world_at(root, parts))
            except StorageFailed:
                os._exit(7)

        found.append([free, in_child(starved)])
        ballast.unlink()
        if in_child(lambda root=root: check(world_at(root, parts), folder)) != 0:  # type: ignore[misc]
            found.append([free, 1000])
        subprocess.run(["umount", str(place)], check=True)
    return found


def main() -> None:
    mode, folder, parts = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])

    def reference() -> None:
        world = world_at(folder / "reference", parts)
        run(world)
        (folder / "expected").write_text(json.dumps(state(world)))

    assert in_child(reference) == 0
    sys.stdout.write(json.dumps({"killed": killed, "full": full, "device": device}[mode](folder, parts)))


if __name__ == "__main__":
    main()
