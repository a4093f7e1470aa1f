"""A small parent for a server (Triton, or the edge before it), so that it never outlives who started it.

Run as a file (``python -I guard.py``), with the standard library only: it must start at once and weigh little. It
reads one line of JSON from standard input, starts the server, writes its process id, and waits. When standard input
closes (its parent stopped it, or died by any signal) the server is asked to end, then made to. When the guard itself
is killed, the kernel kills the server with it. Its lock, which it inherits, is held until the server is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

_DIE_WITH_PARENT: Final = 1  # PR_SET_PDEATHSIG, <linux/prctl.h>
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - where the Python backend's regions lie


def main() -> int:
    """Guards one server; the exit code is the server's."""
    order = json.loads(_line())
    stopping, asked = os.pipe()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os.write(asked, b"."))
    with Path(order["log"]).open("ab") as log:
        server = subprocess.Popen(  # noqa: S603 - the command of our own parent
            order["command"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_dies_with(os.getpid()),  # noqa: PLW1509 - there is one thread here
        )
    sys.stdout.write(f"{server.pid}\n")
    sys.stdout.flush()
    code = _wait(server, stopping, order)
    _clean(server.pid, order)
    return code


def _line() -> bytes:
    raw = b""
    while not raw.endswith(b"\n"):
        block = os.read(0, 65_536)
        if not block:
            raise SystemExit(2)
        raw += block
    return raw


def _dies_with(parent: int) -> Any:
    libc = ctypes.CDLL(None, use_errno=True)

    def prepare() -> None:
        libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)

    return prepare


def _wait(server: subprocess.Popen[bytes], stopping: int, order: dict[str, Any]) -> int:
    ended = os.pidfd_open(server.pid)
    waiting = select.poll()
    for descriptor in (0, stopping, ended):
        waiting.register(descriptor, select.POLLIN | select.POLLHUP)
    while all(descriptor == 0 and event & select.POLLIN and os.read(0, 4096) for descriptor, event in waiting.poll()):
        pass  # words on standard input mean nothing: only its end does
    end = select.poll()
    end.register(ended, select.POLLIN)
    if not end.poll(0):
        server.send_signal(order["end_signal"])
        if not end.poll(int(order["grace_seconds"] * 1000)):
            server.kill()
    return server.wait()


def _clean(group: int, order: dict[str, Any]) -> None:
    """No stub, no shared memory and no file of a server that is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    for name in order["remove"]:
        Path(name).unlink(missing_ok=True)
    if order["regions"]:
        for region in _SHARED_MEMORY.glob(f"{order['regions']}*"):
            region.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
