"""From request to version: killed after each step, or on a full device; nothing is half-done, the rerun completes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def drive(repository: Path, folder: Path, mode: str, *before: str) -> tuple[Any, str]:
    command = [*before, sys.executable, "-m", "tests.lifecycle.crash_driver", mode, str(folder)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout), done.stderr


def test_killed_after_each_step_nothing_is_half_done_and_the_rerun_completes(repository: Path, tmp_path: Path) -> None:
    codes, errors = drive(repository, tmp_path, "killed")
    assert set(codes) == {-signal.SIGKILL}, errors[-4000:]
    assert len(codes) >= 40


def test_a_full_device_is_said_and_the_rerun_completes_when_there_is_space(
    repository: Path, tmp_path: Path, own_mounts: list[str]
) -> None:
    codes, errors = drive(repository, tmp_path, "full", *own_mounts)
    assert {code for _, code in codes} <= {0, 7}, errors[-4000:]
    assert codes[0][1] == 7
    assert sum(code == 7 for _, code in codes) >= 4
