"""Dagster's processes for `mlp dev`: started as one group, watched, and stopped as one group."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from ml_platform.cli.processes import termination_as_interrupt
from ml_platform.core.errors import Conflict, SettingsError, StorageFailed
from ml_platform.core.settings import ENVIRONMENT_VARIABLE

__all__ = ["Server", "environment"]

_POLL_SECONDS: Final = 0.2
_GRACE_SECONDS: Final = 15.0
_START_SECONDS: Final = 120.0
# What a sensor has asked for it does not ask for again: a run that dies, or that a killed daemon never launched, is
# found and tried again by Dagster.
_INSTANCE: Final = (
    "telemetry:\n  enabled: false\nnux:\n  enabled: false\n"
    "run_retries:\n  enabled: true\nrun_monitoring:\n  enabled: true\n"
)


def environment(settings_file: Path, folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """What Dagster's processes get: the root's settings, Dagster's own state below the root, the checkout's code."""
    paths = [str(folder), *filter(None, [environ.get("PYTHONPATH")])]
    return {
        **environ,
        ENVIRONMENT_VARIABLE: str(settings_file),
        "DAGSTER_HOME": str(settings_file.parent / "dagster"),
        "PYTHONPATH": os.pathsep.join(paths),
    }


@dataclass
class Server:
    """``dagster dev`` on a root.

    Args:
        settings_file: the root's, absolute.
        folder: the checkout, which has ``workspace.yaml``.
        host, port: where the UI listens.
    """

    settings_file: Path
    folder: Path
    host: str
    port: int
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def run(self, *, ready: Callable[[], None], say: Callable[[str], None]) -> None:
        """Runs until Ctrl-C or SIGTERM; then none of the processes is left.

        Args:
            ready: called once, when the UI answers.
            say: told what happens.

        Raises:
            SettingsError: Dagster is not installed.
            Conflict: the port is taken.
            StorageFailed: Dagster stopped by itself.
        """
        if find_spec("dagster") is None or find_spec("dagster_webserver") is None:
            raise SettingsError(
                "Dagster is not installed here.",
                next_step="Install the extra: pip install 'dagster-ml-platform[dagster]'.",
            )
        if _answers(self.host, self.port):
            raise Conflict("Something else listens on this port.", field="--port", next_step="Choose another port.")
        with termination_as_interrupt():
            try:
                self._start()
                say("Starting Dagster …")
                self._watch(ready)
            except KeyboardInterrupt:
                say("Stopping Dagster …")
            finally:
                self._stop()
        say("Dagster has stopped; its state stays in the root.")

    def _start(self) -> None:
        home = self.settings_file.parent / "dagster"
        home.mkdir(exist_ok=True)
        if not (home / "dagster.yaml").exists():
            (home / "dagster.yaml").write_text(_INSTANCE)
        command = [sys.executable, "-m", "dagster", "dev", "--workspace", str(self.folder / "workspace.yaml")]
        command += ["--host", self.host, "--port", str(self.port)]
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            command,
            cwd=self.folder,
            env=environment(self.settings_file, self.folder, os.environ),
            stdout=sys.stderr,  # stdout is for the answer
            start_new_session=True,  # a group of its own: Ctrl-C reaches us first, and we stop all of it in order
        )

    def _watch(self, ready: Callable[[], None]) -> None:
        deadline: float | None = time.monotonic() + _START_SECONDS
        while True:
            if self._process is None or self._process.poll() is not None:
                raise StorageFailed("Dagster stopped by itself.", next_step="Its last lines above say why.")
            if deadline is not None and _answers(self.host, self.port):
                ready()
                deadline = None
            if deadline is not None and time.monotonic() > deadline:
                raise StorageFailed(
                    "The UI does not answer.", field="--port", next_step="Look at Dagster's lines above; try again."
                )
            time.sleep(_POLL_SECONDS)

    def _stop(self) -> None:
        """Asks the whole group to stop, then makes it; waits until no process of it is left."""
        if self._process is None:
            return
        group = self._process.pid
        for number, patience in ((signal.SIGINT, _GRACE_SECONDS), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
            if not _signal(group, number):
                break
            deadline = time.monotonic() + patience
            while _signal(group, 0) and time.monotonic() < deadline:
                self._process.poll()
                time.sleep(_POLL_SECONDS)
        self._process.wait()


def _signal(group: int, number: int) -> bool:
    """Whether the group still has a process (that got the signal)."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False
