"""Peak memory does not follow the rows: four times the rows may cost what ids and leaves cost, and no more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RUN = """
import re, sys
from pathlib import Path
from ml_platform.serving import score_partition
from tests.serving.support import loans, make_world
folder, rows = Path(sys.argv[1]), int(sys.argv[2])
world = make_world(folder / str(rows), {path.name: path.read_bytes() for path in (folder / "parts").iterdir()})
from ml_platform.serving import Scorer
parts = world.parts(
    loans(0),
    rows=lambda contract: (loans(10_000, seed=start, start=start) for start in range(0, rows, 10_000)),
    load=lambda digest: Scorer.load(world.objects, digest, reasons=False),
)
assert score_partition(world.job(personal=False, chunk_rows=20_000), parts).accepted == rows
# Not getrusage: its maximum counts the parent's pages that the process had before it was this program.
sys.stdout.write(str(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_four_times_the_rows_take_no_more_memory_than_their_ids_and_leaves(
    artifact_parts: dict[str, bytes], tmp_path: Path, repository: Path
) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    for name, raw in artifact_parts.items():
        (parts / name).write_bytes(raw)

    def peak_mb(rows: int) -> int:
        command = [sys.executable, "-c", RUN, str(tmp_path), str(rows)]
        done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    small, large = peak_mb(200_000), peak_mb(800_000)
    per_row = (large - small) * 2**20 / 600_000
    assert per_row < 160, (small, large)  # the records themselves take several hundred bytes a row
    assert large < 700, (small, large)
