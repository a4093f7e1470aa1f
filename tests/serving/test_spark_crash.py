"""A driver that dies and a device that fills up, with the real Spark: nothing is half-done, the rerun completes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.services.spark import require_spark
from tests.serving import crash_driver
from tests.serving.support import make_world

Drive = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def driven(tmp_path: Path, artifact_parts: dict[str, bytes], repository: Path) -> Drive:
    require_spark()
    parts = tmp_path / "parts"
    parts.mkdir()
    for name, raw in artifact_parts.items():
        (parts / name).write_bytes(raw)
    undisturbed = make_world(tmp_path / "undisturbed", artifact_parts)
    crash_driver.run(undisturbed)  # on the embedded engine: the reruns are held against it
    (tmp_path / "expected").write_text(json.dumps(crash_driver.state(undisturbed)))

    def drive(mode: str, *before: str) -> subprocess.CompletedProcess[str]:
        command = [*before, sys.executable, "-m", "tests.serving.spark_driver", mode, str(tmp_path), str(parts)]
        return subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)

    return drive


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("where", ["while workers score", "when workers have reported", "in the middle of the tables"])
def test_a_driver_that_is_killed_leaves_nothing_half_done_and_the_embedded_engine_completes_it(
    driven: Drive, where: str, tmp_path: Path
) -> None:
    assert driven(where).returncode == -signal.SIGKILL
    claimed = tmp_path / "root" / "objects" / "batch" / "credit_risk" / "2010-05" / "0"
    assert [path.name for path in claimed.iterdir()] == ["intent.json"]
    crash_driver.check(crash_driver.world_at(tmp_path / "root", tmp_path / "parts"), tmp_path)
    assert (claimed / "commit.json").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_device_without_space_is_an_error_and_the_rerun_completes_when_there_is_some(
    driven: Drive, own_mounts: list[str]
) -> None:
    done = driven("device", *own_mounts)
    assert done.returncode == 0, done.stderr[-4000:]
    codes = [code for _, code in json.loads(done.stdout)]
    assert (codes[0], codes[-1]) == (7, 0)
    assert sum(code == 7 for code in codes) >= 2
