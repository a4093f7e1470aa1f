"""A server below a guard: started, known by its process id, ended with whoever started it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Self

from ml_platform.serving.triton import guard
from ml_platform.serving.triton.processes import is_running

__all__ = ["Guarded", "Order", "kill"]

_GRACE_SECONDS: Final = 20.0


@dataclass(frozen=True)
class Order:
    """What a guard is told.

    Attributes:
        command: the server.
        log: its standard output and error; the one before is kept beside it.
        end_signal: asks the server to end in order.
        grace_seconds: how long it may take, before it is killed.
        remove: files that go with it.
        regions: prefix of shared memory that goes with it; empty: none.
    """

    command: Sequence[str]
    log: str
    end_signal: int = signal.SIGTERM
    grace_seconds: float = _GRACE_SECONDS
    remove: Sequence[str] = ()
    regions: str = ""


@dataclass
class Guarded:
    """A server and its guard. When either this process or the guard dies, by any signal, so does the server."""

    _guard: subprocess.Popen[bytes] = field(repr=False)
    _grace_seconds: float

    @classmethod
    def start(cls, order: Order, *, env: Mapping[str, str], folder: Path, keep: Sequence[int] = ()) -> Self:
        """Starts both.

        Args:
            order: what to run.
            env: of the server.
            folder: in which it runs.
            keep: descriptors that the guard inherits and holds until the server has gone, such as a lock.
        """
        log = Path(order.log)
        if log.exists():
            log.replace(log.with_suffix(".previous.log"))
        log.touch(mode=0o600)
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and file
            [sys.executable, "-I", str(Path(guard.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(env),
            pass_fds=list(keep),
            start_new_session=True,  # Ctrl-C reaches us first, and we stop the server in order
            cwd=folder,
        )
        if process.stdin is not None:
            process.stdin.write(json.dumps(asdict(order)).encode() + b"\n")
            process.stdin.flush()
        return cls(process, order.grace_seconds)

    def pid(self, seconds: float) -> int | None:
        """The server's process, once the guard has started it; None if it does not within the time."""
        stream = self._guard.stdout
        ready = [] if stream is None else select.select([stream], [], [], seconds)[0]
        line = stream.readline() if ready and stream is not None else b""
        return int(line) if line.strip() else None

    @property
    def alive(self) -> bool:
        """Whether the guard runs: it ends when the server does."""
        return self._guard.poll() is None

    def wait(self, seconds: float) -> bool:
        """Waits for the end of the server; False when it still runs after ``seconds``."""
        try:
            self._guard.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self) -> None:
        """Ends the server in order; after twice its grace the kernel takes it with the guard. Nothing of it is left."""
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        if not self.wait(2 * self._grace_seconds):
            self._guard.kill()
            self._guard.wait()
        if self._guard.stdout is not None:
            self._guard.stdout.close()


def kill(pid: int) -> None:
    """Ends a process at once: one that cannot stop in order any more."""
    if is_running(pid):
        os.kill(pid, signal.SIGKILL)
