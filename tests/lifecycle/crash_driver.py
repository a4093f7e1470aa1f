"""Makes a candidate a version in forked processes that die, or whose disk is full, at each step; prints JSON.

Started by test_registration_crash.py in a fresh process: nothing that owns threads has run before a fork.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import deltalake  # noqa: F401 - loaded once, before the forks
import duckdb  # noqa: F401 - likewise
import lightgbm  # noqa: F401 - likewise
import obstore  # noqa: F401 - likewise
import onnx  # noqa: F401 - likewise
import onnxruntime  # noqa: F401 - likewise

import ml_platform.lifecycle.candidates
from ml_platform import Platform
from ml_platform.core import delta, objects, subjects
from ml_platform.core.errors import StorageFailed
from ml_platform.registry import checkpoints, sql
from tests.lifecycle.tiny import AS_OF, late_parcel, new_root
from tests.serving.crash_driver import in_child

EFFECTS: list[tuple[Any, str]] = [
    (objects.ObjectStore, "create"),
    (delta.Lake, "create"),
    (delta.Lake, "append"),
    (subjects.Subjects, "seeds"),
    (sql.Session, "append"),
    (sql.Session, "apply"),
    (checkpoints, "write_atomically"),
]
FULL, MEGABYTE = 7, 1 << 20


def die_at(step: int) -> None:
    """Lets the process be killed right after its n-th effect; before the first for n = 0."""
    seen = 0

    def count() -> None:
        nonlocal seen
        seen += 1
        if seen == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrapped(effect: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            if step == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            result = effect(*given, **named)
            count()
            return result

        return call

    for owner, name in EFFECTS:
        setattr(owner, name, wrapped(getattr(owner, name)))
    committing = sql.Database.writing

    @contextmanager
    def committed(database: sql.Database) -> Iterator[sql.Session]:
        with committing(database) as session:
            yield session
        count()

    sql.Database.writing = committed  # type: ignore[method-assign]


def run(root: Path) -> None:
    platform = Platform.local(root)
    ml_platform.lifecycle.candidates.build_candidate(platform, late_parcel, AS_OF, code=root.parent / "code")
    platform.registry.close()


def state(root: Path) -> dict[str, Any]:
    """Everything that the log and the store say; where entries lie in time and what ran where is not in it."""
    platform = Platform.local(root)
    entries = [[entry.kind, entry.model, entry.body] for entry in platform.registry.entries()]
    report = platform.registry.verify()
    assert report.ok, report
    names = [str(meta) for meta in platform.objects.list("")]
    platform.registry.close()
    return {"entries": json.loads(json.dumps(entries)), "objects": sorted(names)}


def check(root: Path, folder: Path) -> None:
    """Before the rerun the log is a whole prefix; after it log and store are those of an undisturbed run."""
    expected = json.loads((folder / "expected").read_text())
    before = state(root)
    assert before["entries"] == expected["entries"][: len(before["entries"])]
    assert set(before["objects"]) <= set(expected["objects"]) | _checkpoint(before)
    run(root)
    after = state(root)
    assert after["entries"] == expected["entries"]
    assert set(after["objects"]) == set(expected["objects"]) | _checkpoint(before)
    run(root)
    assert state(root)["entries"] == expected["entries"]


def _checkpoint(before: dict[str, Any]) -> set[str]:
    """A checkpoint of an earlier size may stay: it is still true."""
    return {name for name in before["objects"] if name.startswith("checkpoints/")}


def fresh(template: Path, root: Path) -> Path:
    root.mkdir(parents=True)
    shutil.copytree(template, root / "root")
    code = root / "code"
    code.mkdir()
    (code / "model.py").write_text("# the code of a team\n")
    return root / "root"


def killed(folder: Path, template: Path) -> list[int]:
    codes: list[int] = []
    for step in range(500):
        root = fresh(template, folder / f"step-{step:03d}")

        def doomed(root: Path = root, step: int = step) -> None:
            die_at(step)
            run(root)

        code = in_child(doomed)
        if code == 0:
            break
        codes.append(code)
        if in_child(lambda root=root: check(root, folder)) != 0:  # type: ignore[misc]
            codes.append(step + 1000)
        shutil.rmtree(root.parent)
    return codes


def full(folder: Path, template: Path) -> list[list[int]]:
    """A device of its own, filled up to so many bytes: [free bytes, exit code] of each."""
    found: list[list[int]] = []
    for free in (4_096, 16_384, 32_768, 65_536, 98_304, 131_072, 196_608, 262_144):
        device = folder / f"device-{free}"
        device.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(device)], check=True)
        root = fresh(template, device / "root")
        left = os.statvfs(device)
        ballast = device / "ballast"
        ballast.write_bytes(bytes(left.f_bavail * left.f_frsize - free))

        def starved(root: Path = root) -> None:
            try:
                run(root)
            except StorageFailed:
                os._exit(FULL)

        found.append([free, in_child(starved)])
        ballast.unlink()
        if in_child(lambda root=root: check(root, folder)) != 0:  # type: ignore[misc]
            found.append([free, 1000])
        subprocess.run(["umount", str(device)], check=True)
    return found


def main() -> None:
    mode, folder = sys.argv[1], Path(sys.argv[2])
    template = folder / "template"

    def reference() -> None:
        new_root(template).registry.close()
        root = fresh(template, folder / "reference")
        run(root)
        (folder / "expected").write_text(json.dumps(state(root)))

    started = time.monotonic()
    assert in_child(reference) == 0
    seen = {"killed": killed, "full": full}[mode](folder, template)
    sys.stderr.write(f"{time.monotonic() - started:.0f} s\n")
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    main()
