"""A real redis-server on a free port of this machine, for tests and benchmarks."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path


def redis_binary() -> str | None:
    return shutil.which("redis-server")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class RedisServer:
    """Keeps an append-only file in its folder, so that a restart finds what was there unless ``keeps`` is False."""

    def __init__(self, folder: Path, *options: str, keeps: bool = True) -> None:
        self.port = free_port()
        self.folder = folder
        self._options = (*options, "--appendonly", "yes" if keeps else "no", "--appendfsync", "always")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def url(self, prefix: str = "test", *, user: str = "") -> str:
        return f"redis://{user}127.0.0.1:{self.port}/0?prefix={prefix}"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [str(redis_binary()), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        log = (self.folder / "redis.log").open("ab")
        self._process = subprocess.Popen(
            [*command, "--save", "", "--loglevel", "warning", *self._options], stdout=log, stderr=log
        )
        log.close()
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as one:
                    one.sendall(b"PING\r\n")
                    if one.recv(64)[:1] in b"+-" and b"LOADING" not in one.recv(0):
                        return
            except OSError:
                time.sleep(0.02)
        raise TimeoutError((self.folder / "redis.log").read_text())

    def kill(self) -> None:
        """kill -9, as a machine dies."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """The server hangs: it takes connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(19)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(18)
