"""The demo's inference server: ``mlp serve`` in a process of its own, gone when the demo is."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ml_platform.core.errors import ServerUnavailable

__all__ = ["serving"]

_READY_SECONDS: Final = 90.0
_STOP_SECONDS: Final = 20.0


@contextmanager
def serving(root: Path, folder: Path) -> Iterator[dict[str, str]]:
    """Runs ``mlp serve`` for a root until the block ends; where it listens.

    Args:
        root: the root's folder.
        folder: the checkout that declares the models.

    Raises:
        ServerUnavailable: it did not become ready; says what it said last.
    """
    log = (root / "serve.log").open("ab")
    command = [sys.executable, "-m", "ml_platform.cli", "serve", "--root", str(root), "--json"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True)  # noqa: S603 - ours
    try:
        yield json.loads(_first_line(process, root))
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def _first_line(process: subprocess.Popen[str], root: Path) -> str:
    """What it prints when it is ready; a thread reads on, so that it never waits for us."""
    ready, lines = threading.Event(), list[str]()

    def read() -> None:
        for line in process.stdout or ():
            lines.append(line)
            ready.set()
        ready.set()

    threading.Thread(target=read, daemon=True).start()
    ready.wait(_READY_SECONDS)
    if not lines:
        said = (root / "serve.log").read_text(errors="replace").strip().splitlines()[-1:]
        raise ServerUnavailable(
            f"The inference server did not become ready ({' '.join(said) or 'it said nothing'}).",
            field="serving",
            next_step="Look at serve.log and serving/triton.log in the root; `mlp serve` shows the same by hand.",
        )
    return lines[0]
