"""A process that dies at any step, and a disk that fills up: nothing is half-done, the rerun completes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def driven(tmp_path: Path, artifact_parts: dict[str, bytes], repository: Path) -> Any:
    parts = tmp_path / "parts"
    parts.mkdir()
    for name, raw in artifact_parts.items():
        (parts / name).write_bytes(raw)

    def drive(mode: str, *before: str) -> Any:
        command = [*before, sys.executable, "-m", "tests.serving.crash_driver", mode, str(tmp_path), str(parts)]
        done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        seen = json.loads(done.stdout)
        return seen, done.stderr

    return drive


@pytest.mark.timeout(900)
def test_a_run_killed_after_any_step_leaves_nothing_half_done(driven: Any) -> None:
    codes, errors = driven("killed")
    assert set(codes) == {-signal.SIGKILL}, errors[-4000:]
    assert len(codes) >= 20


@pytest.mark.timeout(600)
def test_a_disk_that_fills_up_is_an_error_and_leaves_nothing_half_done(driven: Any) -> None:
    codes, errors = driven("full")
    assert {code for _, code in codes} <= {0, 7}, errors[-4000:]
    assert codes[0][1] == 7
    assert sum(code == 7 for _, code in codes) >= 4


@pytest.mark.timeout(600)
def test_a_device_without_space_is_an_error_and_the_rerun_completes_when_there_is_some(
    driven: Any, own_mounts: list[str]
) -> None:
    codes, errors = driven("device", *own_mounts)
    assert {code for _, code in codes} <= {0, 7}, errors[-4000:]
    assert (codes[0][1], codes[-1][1]) == (7, 0)
    assert sum(code == 7 for _, code in codes) >= 4
