"""The scratch folder of one run: one run at a time, empty at the start, gone at the end."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ml_platform.core.errors import Conflict

__all__ = ["workspace"]


@contextmanager
def workspace(folder: Path) -> Iterator[Path]:
    """An empty folder, ours alone on this machine until the end; what a killed run left in it is removed first.

    Raises:
        Conflict: another process is at work in it.
        OSError: the disk is full or not writable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    inner = folder / "spool"
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets go of it when the process dies
        except BlockingIOError as error:
            raise Conflict(
                "Another process is scoring this partition.",
                next_step="Wait for it: a complete partition is not scored again.",
            ) from error
        shutil.rmtree(inner, ignore_errors=True)
        inner.mkdir(mode=0o700)
        try:
            yield inner
        finally:
            shutil.rmtree(inner, ignore_errors=True)
