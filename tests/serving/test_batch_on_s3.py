"""What a batch promises holds on a real S3 server as in a folder: the tests of `test_batch`, on a world there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from ml_platform.core.errors import StorageFailed
from ml_platform.core.storage import StorageSettings
from ml_platform.serving import score_partition
from ml_platform.serving.delta import PartitionWriter, commit_files
from ml_platform.serving.intent import newest_revision, read_intent
from ml_platform.serving.tables import HEADER_SCHEMA, predictions_table
from tests.conftest import Bucket
from tests.serving.support import World, loans, make_world
from tests.serving.test_batch import (  # noqa: F401 - collected here again, with this module's world
    test_a_complete_partition_is_not_scored_again,
    test_a_row_that_stands_twice_fails_the_partition,
    test_a_window_of_refused_rows_only_has_quarantine_and_no_segment,
    test_a_wrong_delivery_writes_nothing_and_the_right_one_completes,
    test_an_order_to_supersede_an_unfinished_partition_finishes_it_first,
    test_an_unfinished_partition_keeps_the_version_and_times_that_it_began_with,
    test_every_record_is_what_the_formats_say_row_by_row,
    test_leaves_survive_compaction_and_a_version_with_another_feature,
    test_leaves_tree_and_tiles_are_those_of_the_tables,
    test_refused_rows_go_to_quarantine_with_field_and_rule_and_no_value,
    test_superseding_appends_a_revision_that_names_what_it_follows,
    test_the_two_index_tables_lead_to_every_record,
)


@pytest.fixture
def world(tmp_path: Path, artifact_parts: dict[str, bytes], bucket: Bucket) -> World:
    storage = StorageSettings(**bucket.server.storage)
    return make_world(tmp_path, artifact_parts, store=bucket.url, storage=storage)


def test_two_machines_that_score_one_partition_at_once_make_one(world: World, repository: Path, bucket: Bucket) -> None:
    """Each has a scratch folder of its own, so no lock of a disk keeps them apart: the first intent holds for both."""
    order = {"root": str(world.root), "store": bucket.url, "storage": bucket.server.storage}
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.serving.batch_race_driver", json.dumps({**order, "machine": machine})],
            cwd=repository,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.PIPE,
            text=True,
        )
        for machine in ("one", "two")
    ]
    for run in runs:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
    for run in runs:
        assert run.stdin is not None
        run.stdin.write("go\n")
        run.stdin.flush()
    done = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], [error[-3000:] for _, error in done]
    told = [json.loads(out) for out, _ in done]
    assert told[0] == told[1]  # table versions and the segment's root too
    assert told[0]["accepted"] == 400
    assert newest_revision(world.objects, "credit_risk", "2010-05") == 0
    writer = read_intent(world.objects, "credit_risk", "2010-05", 0).writer
    for table in ("credit_risk/predictions", "credit_risk/predictions_personal", "index/entities"):
        rows = world.lake.read(table)
        assert rows.num_rows == 400 == len(set(rows.column("prediction_id").to_pylist()))
        (name,) = (path.name for path in (bucket.folder / "lake" / table).rglob("*.parquet"))
        assert name.startswith(writer)
    assert world.lake.read("index/segments").num_rows == 1


def partition_writer(world: World, txn_version: int) -> PartitionWriter:
    """Of a run whose files have the same names as any other's of the same intent."""
    name, partition = predictions_table("m"), {"decided_date": "2010-06-01"}
    return PartitionWriter(world.lake, name, HEADER_SCHEMA, partition, "w", [], "app", txn_version)


def headers(rows: int) -> pa.Table:
    return pa.table({item.name: pa.nulls(rows, item.type) for item in HEADER_SCHEMA}, schema=HEADER_SCHEMA)


def write_half(writer: PartitionWriter) -> None:
    with writer:
        writer.write(headers(3))
        raise KeyError


def test_a_writer_that_fails_half_way_leaves_the_committed_file_as_it_is(world: World, bucket: Bucket) -> None:
    faster, slower = partition_writer(world, 1), partition_writer(world, 2)
    with faster:
        faster.write(headers(7))
    commit_files(faster, at_us=0, metadata={})
    (file,) = (bucket.folder / "lake").rglob("*.parquet")
    whole = file.read_bytes()
    with pytest.raises(KeyError):
        write_half(slower)
    assert file.read_bytes() == whole
    assert list((bucket.folder / "lake").rglob("*.parquet")) == [file]
    assert world.lake.read(predictions_table("m")).num_rows == 7


def test_a_store_that_is_away_is_said_and_the_same_run_completes_when_it_is_back(
    world: World, artifact_parts: dict[str, bytes], bucket: Bucket, tmp_path: Path
) -> None:
    nobody = StorageSettings(**{**bucket.server.storage, "endpoint": "http://127.0.0.1:1", "retries": 1})
    away = make_world(tmp_path / "other", artifact_parts)
    parts = world.parts(loans(40), lake=type(world.lake)(f"{bucket.url}/lake", nobody, scratch=tmp_path / "s"))
    with pytest.raises(StorageFailed, match="cannot be reached"):
        score_partition(world.job(), parts)
    assert not (bucket.folder / "lake").exists()
    assert away.lake.version("credit_risk/predictions") is None
    assert score_partition(world.job(), world.parts(loans(40))).accepted == 40
