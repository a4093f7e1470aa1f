"""A real S3 server for tests: versitygw on a free loopback port, its buckets folders of a temporary directory."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ACCESS_KEY", "SECRET_KEY", "S3Server", "versitygw"]

ACCESS_KEY, SECRET_KEY = "mlp-test-access", "planted-secret-7Qx2Lw9Zk4"
_READY_SECONDS = 20.0


def versitygw() -> str | None:
    """The server's binary: on PATH, or where `go install` puts it."""
    beside = Path(os.environ.get("GOPATH", Path.home() / "go")) / "bin" / "versitygw"
    return shutil.which("versitygw") or (str(beside) if beside.is_file() else None)


@dataclass
class S3Server:
    """One server; ``kill`` is -9, ``start`` again takes the same port and folder.

    Args:
        folder: the buckets' folder and the log lie in it.
        options: of the posix backend.
    """

    folder: Path
    options: tuple[str, ...] = ()
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def storage(self) -> dict[str, object]:
        """``[storage]`` of a root on this server, for tests that cannot wait long."""
        return {
            "endpoint": self.endpoint,
            "region": "us-east-1",
            "allow_http": True,
            "timeout_seconds": 10,
            "connect_timeout_seconds": 2,
            "retries": 3,
            "retry_seconds": 20,
        }

    @property
    def environ(self) -> dict[str, str]:
        """The variables that a client takes its credentials from."""
        return {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}

    def bucket(self, name: str) -> Path:
        """Makes a bucket; the folder that holds its objects."""
        made = self.folder / "buckets" / name
        made.mkdir(parents=True, exist_ok=True)
        return made

    def start(self) -> None:
        """Starts it and waits until it answers."""
        binary = versitygw()
        assert binary is not None, "versitygw is not installed"
        if self.port == 0:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        (self.folder / "buckets").mkdir(parents=True, exist_ok=True)
        with (self.folder / "versitygw.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    binary,
                    "--port",
                    f"127.0.0.1:{self.port}",
                    "--quiet",
                    "posix",
                    *self.options,
                    str(self.folder / "buckets"),
                ],
                env={**os.environ, "ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        deadline = time.monotonic() + _READY_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "versitygw.log").read_text()
            assert time.monotonic() < deadline, "versitygw did not answer in time"
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False

    def kill(self) -> None:
        """Ends it at once, in the middle of whatever it does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
