"""Runs a sealer in forked processes that die, or whose disk is full, at each step in turn; prints what was seen as JSON.

Started by test_online_sealing_crash.py in a fresh process: nothing that owns threads has run before a fork.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
from pathlib import Path

from ml_platform.core import delta as core_delta
from ml_platform.core import objects, subjects
from ml_platform.core.errors import Conflict, StorageFailed
from ml_platform.registry import registry
from ml_platform.serving import delta, online_plan, online_sealing, online_tables, online_writers
from ml_platform.serving.wal import frame
from ml_platform.training.artifact import Artifact
from tests.serving import crash_driver
from tests.serving.crash_driver import die_at, in_child
from tests.serving.online_support import (
    MODEL,
    NOON,
    WRITER,
    OnlineWorld,
    decisions,
    log_all,
    make_online,
    open_online,
    payloads,
    refusal,
    sealer,
)
from tests.serving.support import CONTRACT

ROWS = 24
SECOND = "router-" + "cd" * 16
crash_driver.EFFECTS[:] = [
    (objects.ObjectStore, "create"),
    (core_delta.Lake, "create"),
    (core_delta.Lake, "append"),
    (core_delta.Lake, "commit"),
    (subjects.Subjects, "seeds"),
    (delta.PartitionWriter, "_close"),
    (online_plan.Plan, "write"),
    (online_tables, "commit_files"),
    (online_tables, "store_segment"),
    (registry.Registry, "seal_segments"),
    (registry.Registry, "close_writer"),
    (online_sealing, "_remove"),
    (online_writers.WriterFolder, "remove"),
    (Path, "unlink"),
]


def prepare(folder: Path, parts: Path) -> None:
    """A root in which two dead writers left decisions on two dates, refusals, and one a torn tail."""
    online = make_online(folder / "template", {path.name: path.read_bytes() for path in parts.iterdir()})
    late = NOON.replace(hour=23, minute=59, second=59, microsecond=990_000)
    made = decisions(online, ROWS, decided_at=late)
    log_all(online, [refusal(1), *made[:15], refusal(2), *made[15:]], files=3)
    log_all(online, decisions(online, 5, writer=SECOND), writer=SECOND)
    newest = max((online.root / "wal" / MODEL / WRITER).glob("*.wal"))
    with newest.open("ab") as stream:
        stream.write(frame(payloads(made[:1])[0])[:50])
    (folder / "artifact").write_text(online.world.artifact.digest)
    assert CONTRACT.digest == online.world.artifact.contract.digest


def at(root: Path, folder: Path) -> OnlineWorld:
    return open_online(root, Artifact((folder / "artifact").read_text(), {}))


def copied(folder: Path, name: str) -> Path:
    root = folder / name
    if not root.exists():
        shutil.copytree(folder / "template", root)
    return root


def state(online: OnlineWorld) -> list[str]:
    """Everything that readers can see, but for table versions and the times of the log's entries."""
    names = [f"{MODEL}/{name}" for name in ("predictions", "predictions_personal", "quarantine")]
    rows = [repr(row) for name in [*names, "index/entities"] for row in online.world.lake.read(name).to_pylist()]
    index = online.world.lake.read("index/segments").drop_columns(["predictions_version", "personal_version"])
    rows += [repr(row) for row in index.to_pylist()]
    return sorted(rows) + sorted(repr(one) for one in online.sealed())


def check(online: OnlineWorld, folder: Path) -> None:
    """After the rerun everything is there once and proven, and nothing is left to seal."""
    sealer(online).run()
    assert state(online) == json.loads((folder / "expected").read_text())
    assert online.proven() == ROWS + 5
    writers = online.log.state().writers
    assert writers[WRITER].closed
    assert writers[SECOND].closed
    assert not [path for path in (online.root / "wal").rglob("*") if path.is_file() and path.name != "seal.lock"]
    assert not list((online.root / "lake").rglob("*.unfinished"))
    assert sealer(online).run().idle


def killed(folder: Path) -> list[int]:
    codes: list[int] = []
    for step in range(500):
        root = folder / f"step-{step:03d}"

        def doomed(root: Path = root, step: int = step) -> None:
            online = at(copied(folder, root.name), folder)
            die_at(step)
            sealer(online).run()

        code = in_child(doomed)
        if code == 0:
            break
        codes.append(code)
        if in_child(lambda root=root: check(at(root, folder), folder)) != 0:  # type: ignore[misc]
            codes.append(step + 1000)
        shutil.rmtree(root)
    return codes


def full(folder: Path) -> list[list[int]]:
    """File size limits as small disks: [limit, exit code] of each."""
    found: list[list[int]] = []
    for limit in (1, 1_000, 4_000, 9_000, 12_000, 16_000, 24_000, 40_000, 100_000):
        root = copied(folder, f"limit-{limit}")

        def starved(root: Path = root, limit: int = limit) -> None:
            online = at(root, folder)
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                sealer(online).run()
            except StorageFailed:
                os._exit(7)

        found.append([limit, in_child(starved)])
        if in_child(lambda root=root: check(at(root, folder), folder)) != 0:  # type: ignore[misc]
            found.append([limit, 1000])
    return found


def together(folder: Path) -> list[int]:
    """Exit codes of four sealers that start at once: 0 sealed or found nothing, 6 another was at work."""
    root = copied(folder, "together")
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                sealer(at(root, folder)).run()
                code = 0
            except Conflict:
                code = 6
            finally:
                os._exit(code)
        children.append(child)
    codes = [os.WEXITSTATUS(os.waitpid(child, 0)[1]) for child in children]
    if in_child(lambda: check(at(root, folder), folder)) != 0:
        codes.append(1000)
    return codes


def main() -> None:
    mode, folder, parts = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])

    def reference() -> None:
        online = at(copied(folder, "reference"), folder)
        sealer(online).run()
        (folder / "expected").write_text(json.dumps(state(online)))

    assert in_child(lambda: prepare(folder, parts)) == 0
    assert in_child(reference) == 0
    sys.stdout.write(json.dumps({"killed": killed, "full": full, "together": together}[mode](folder)))


if __name__ == "__main__":
    main()
