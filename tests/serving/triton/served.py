"""`mlp serve` as a process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol


class Folder(Protocol):
    """Any root of a test."""

    @property
    def folder(self) -> Path: ...


class Serve:
    """One `mlp serve`; its starts are lines on stdout, its remarks go to a file."""

    def __init__(
        self, root: Folder, repository: Path, *options: str, models: str = "tests.serving.triton.declared"
    ) -> None:
        self.said = root.folder.parent / "remarks"
        with self.said.open("ab") as remarks:
            self.process = subprocess.Popen(
                [*command(models), *options, "--root", str(root.folder)],
                cwd=repository,
                stdout=subprocess.PIPE,
                stderr=remarks,
                text=True,
            )
        self.root: Any = root

    def ready(self) -> dict[str, Any]:
        """Waits for the next start."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def end(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def command(models: str = "tests.serving.triton.declared") -> list[str]:
    return [sys.executable, "-m", "ml_platform.cli", "serve", "--models", models, "--json"]
