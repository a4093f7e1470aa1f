"""A sealer that dies at any step, a disk that fills up, and several sealers at once: everything is sealed once."""

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

    def drive(mode: str) -> Any:
        command = [sys.executable, "-m", "tests.serving.seal_crash_driver", mode, str(tmp_path), str(parts)]
        done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout), done.stderr

    return drive


@pytest.mark.timeout(900)
def test_a_sealer_killed_after_any_step_is_completed_by_the_next(driven: Any) -> None:
    codes, errors = driven("killed")
    assert set(codes) == {-signal.SIGKILL}, errors[-4000:]
    assert len(codes) >= 40


@pytest.mark.timeout(600)
def test_a_disk_that_fills_up_is_an_error_and_loses_nothing(driven: Any) -> None:
    codes, errors = driven("full")
    assert {code for _, code in codes} <= {0, 7}, errors[-4000:]
    assert codes[0][1] == 7
    assert sum(code == 7 for _, code in codes) >= 4


@pytest.mark.timeout(600)
def test_of_several_sealers_one_works_and_nothing_is_sealed_twice(driven: Any) -> None:
    codes, errors = driven("together")
    assert set(codes) <= {0, 6}, errors[-4000:]
    assert 0 in codes
