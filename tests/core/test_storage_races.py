"""Eight processes at one table at once, in a folder and on a real S3 server: every row is there exactly once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from ml_platform.core.delta import Lake
from ml_platform.core.storage import StorageSettings
from tests.conftest import Bucket

PROCESSES, COMMITS = 8, 4
# Commits of its own, and some that every process makes under one name: of those only one may count.
WRITER = """
import json, sys
import pyarrow as pa
from ml_platform.core.delta import Lake
from ml_platform.core.storage import StorageSettings
order = json.loads(sys.argv[1])
lake = Lake(order["lake"], StorageSettings(**order["storage"]))
rows = lambda writer, number: pa.table({"writer": [writer], "number": [number]})
import deltalake
print("ready", flush=True)
sys.stdin.readline()
told = {}
for number in range(order["commits"]):
    me = order["writer"]
    told[f"own/{me}/{number}"] = lake.append("t", rows(me, number), app_id=f"own/{me}", txn_version=number + 1)
    told[f"shared/{number}"] = lake.append("t", rows(-1, number), app_id="shared", txn_version=number + 1)
print(json.dumps(told))
"""


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, object]]:
    if request.param == "folder":
        return str(tmp_path / "lake"), {}
    bucket: Bucket = request.getfixturevalue("bucket")
    # A lock or an unsafe rename that the environment proposes changes nothing.
    request.getfixturevalue("monkeypatch").setenv("AWS_S3_ALLOW_UNSAFE_RENAME", "true")
    return f"{bucket.url}/lake", bucket.server.storage


def test_eight_processes_that_commit_at_once_have_every_row_there_exactly_once(
    place: tuple[str, dict[str, object]],
) -> None:
    lake = {"lake": place[0], "storage": place[1], "commits": COMMITS}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, json.dumps({**lake, "writer": number})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    done = [worker.communicate(timeout=200) for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * PROCESSES, [error[-2000:] for _, error in done]

    opened = Lake(place[0], StorageSettings(**place[1]))
    found = Counter((row["writer"], row["number"]) for row in opened.read("t").to_pylist())
    assert found == Counter((writer, number) for writer in range(-1, PROCESSES) for number in range(COMMITS))
    # Everybody was told the version that really holds the commit.
    carries = {commit["ml_txn"]: commit["version"] for commit in opened.history("t") if "ml_txn" in commit}
    for out, _ in done:
        for name, version in json.loads(out).items():
            application, _, number = name.rpartition("/")
            assert carries[f"{application}@{int(number) + 1}"] == version, name
    assert opened.version("t") == (PROCESSES + 1) * COMMITS
