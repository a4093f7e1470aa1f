from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from ml_platform.core.delta import Lake
from ml_platform.core.errors import NotFound

ROWS = pa.table({"a": [1, 2], "month": ["2010-01", "2010-02"]})


def test_an_append_with_a_transaction_happens_once(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    first = lake.append("m/t", ROWS, app_id="writer", txn_version=1, metadata={"rows": 2})
    again = lake.append("m/t", ROWS, app_id="writer", txn_version=1)
    assert again == first
    assert lake.read("m/t").num_rows == 2
    second = lake.append("m/t", ROWS, app_id="writer", txn_version=2)
    assert second == first + 1
    assert lake.append("m/t", ROWS, app_id="writer", txn_version=1) == first
    assert lake.append("m/t", ROWS, app_id="other", txn_version=1) == second + 1
    assert lake.read("m/t").num_rows == 6
    assert lake.txn("m/t", "writer") == 2
    assert lake.txn("m/t", "nobody") is None


def test_metadata_and_old_versions_can_be_read_back(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    version = lake.append("t", ROWS, partition_by=["month"], metadata={"why": "test"})
    lake.append("t", ROWS)
    assert lake.read("t", version=version).num_rows == 2
    assert lake.version("t") == version + 1
    assert lake.history("t")[1]["ml_platform"] == {"why": "test"}


def test_what_is_not_a_table_is_not_found(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    assert not lake.exists("t")
    assert lake.version("t") is None
    with pytest.raises(NotFound):
        lake.read("t")
    lake.append("t", ROWS)
    with pytest.raises(NotFound):
        lake.read("t", version=99)


def test_old_versions_survive_log_clean_up_after_years(tmp_path: Path) -> None:
    """Delta forgets versions older than 30 days by default: ages the log by three years and asks for clean-up."""
    lake = Lake(tmp_path)
    version = lake.append("t", ROWS)
    for _ in range(3):
        lake.append("t", ROWS)
    DeltaTable(lake.uri("t")).create_checkpoint()
    old = time.time() - 3 * 365 * 86_400
    for path in (tmp_path / "t" / "_delta_log").iterdir():
        os.utime(path, (old, old))
    lake.append("t", ROWS)
    table = DeltaTable(lake.uri("t"))
    table.create_checkpoint()
    table.cleanup_metadata()
    assert lake.read("t", version=version).num_rows == 2
    assert "days" in table.metadata().configuration["delta.logRetentionDuration"]


def test_the_ageing_of_that_test_would_lose_versions_under_deltas_default(tmp_path: Path) -> None:
    """The test above can fail: the same steps without our properties lose the first version."""
    uri = str(tmp_path / "t")
    from deltalake import write_deltalake

    for _ in range(4):
        write_deltalake(uri, ROWS, mode="append")
    DeltaTable(uri).create_checkpoint()
    old = time.time() - 3 * 365 * 86_400
    for path in (tmp_path / "t" / "_delta_log").iterdir():
        os.utime(path, (old, old))
    write_deltalake(uri, ROWS, mode="append")
    table = DeltaTable(uri)
    table.create_checkpoint()
    table.cleanup_metadata()
    with pytest.raises(NotFound):
        Lake(tmp_path).read("t", version=0)


def test_a_process_that_read_a_table_ends_in_peace(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    many = pa.table({"a": range(50_000), "text": [str(number) for number in range(50_000)]})
    for _ in range(12):
        lake.append("t", many)
    read = (
        "import sys, pyarrow.dataset as ds; from ml_platform.core.delta import Lake; "
        "print(Lake(sys.argv[1]).read('t', columns=['a'], where=ds.field('text') == '17').num_rows)"
    )
    for _ in range(8):
        done = subprocess.run([sys.executable, "-c", read, str(tmp_path)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "12", "")


def test_the_newest_version_is_that_of_whoever_wrote_last(tmp_path: Path) -> None:
    ours, theirs = Lake(tmp_path), Lake(tmp_path)
    rows = pa.table({"n": [1]})
    assert ours.version("t") is None
    for _ in range(3):
        written = theirs.append("t", rows)
        assert ours.version("t") == theirs.version("t") == written
    shutil.rmtree(tmp_path / "t")
    assert ours.version("t") is None
    theirs = Lake(tmp_path)
    assert theirs.append("t", rows) == ours.version("t")  # another table in its place
