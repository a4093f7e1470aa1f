"""Batch on the real Spark: the same records as the embedded engine, byte for byte, and nothing twice."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml_platform.core.contract import Contract
from ml_platform.core.errors import (
    ArtifactCorrupt,
    Conflict,
    ContractViolation,
    DataError,
    DuplicateKeys,
    NotFound,
    PlatformError,
    SchemaMismatch,
    StorageFailed,
)
from ml_platform.core.rows import encode_row
from ml_platform.serving import BatchResult, Supersede, batch, load_segment, load_tiles, score_partition
from ml_platform.serving.files import RowFiles
from ml_platform.serving.spark import SparkEngine, SparkRows
from ml_platform.serving.tables import ENTITIES, SEGMENTS
from ml_platform.serving.workspace import workspace
from ml_platform.training.artifact import store_artifact
from tests.serving.support import END, START, World, history, loans, make_world, train
from tests.serving.test_batch import nothing_written
from tests.serving.test_preparing import BAD, with_values

TABLES = ("credit_risk/predictions", "credit_risk/predictions_personal", "credit_risk/quarantine", ENTITIES, SEGMENTS)


@pytest.fixture
def known_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two worlds can be compared only if both runs propose the same random writer."""
    proposed = batch._proposed

    def known(job: Any, revision: int) -> Any:
        return replace(proposed(job, revision), writer=f"batch-{revision:032x}")

    monkeypatch.setattr(batch, "_proposed", known)


@pytest.fixture
def twin(tmp_path: Path, artifact_parts: dict[str, bytes]) -> World:
    """Another root of the same seed and version."""
    return make_world(tmp_path / "twin", artifact_parts)


def contents(world: World) -> dict[str, list[str]]:
    """Every row of every table, in an order of its own."""
    return {name: sorted(map(repr, world.lake.read(name).to_pylist())) for name in TABLES if world.lake.exists(name)}


def on_spark(spark: Any, world: World, table: pa.Table, rows: Any = None, **changes: Any) -> BatchResult:
    engine = SparkEngine(spark, piece_rows=changes.pop("piece_rows", 150))
    parts = world.parts(table, engine=engine)
    return score_partition(world.job(**changes), parts if rows is None else replace(parts, rows=lambda _: rows))


def mixed(rows: int) -> pa.Table:
    """Loans of which some are refused and some flagged."""
    return with_values(loans(rows), "grade", dict.fromkeys(range(0, rows, 61), "Z"))


@pytest.mark.usefixtures("known_writer")
@pytest.mark.parametrize("source", ["tables", "files", "frame"])
def test_spark_and_the_embedded_engine_write_the_same_bytes(
    spark: Any,
    world: World,
    twin: World,
    tmp_path: Path,
    source: str,
) -> None:
    table = mixed(500)
    expected = score_partition(twin.job(chunk_rows=70), twin.parts(table))
    rows: Any = None
    if source != "tables":
        pq.write_table(table, tmp_path / "rows.parquet", row_group_size=90)
        rows = RowFiles.of([tmp_path / "rows.parquet"])
    if source == "frame":
        rows = SparkRows(spark.read.parquet(str(tmp_path / "rows.parquet")).repartition(3))
    result = on_spark(spark, world, table, rows, chunk_rows=40)
    assert result == expected
    assert contents(world) == contents(twin)
    assert (result.refused, result.flagged > 0, result.declined > 0) == (9, True, True)
    tree = load_tiles(world.objects, load_segment(world.objects, str(result.segment_id)))
    assert all(tree.index(leaf) == index for leaf, index in world.leaves())


def test_every_part_of_the_partition_was_scored_by_a_worker_and_scratch_is_empty(
    spark: Any,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ml_platform.serving import scorer

    monkeypatch.setattr(scorer.Scorer, "decide", None)  # in this process nothing can be scored
    assert on_spark(spark, world, loans(300)).accepted == 300
    left = [path for path in (world.root / "scratch").rglob("*") if path.is_file() and path.name != "lock"]
    assert left == []


@pytest.mark.usefixtures("known_writer")
def test_an_entity_that_is_not_personal_and_a_superseding_revision_are_the_same_too(
    spark: Any, world: World, twin: World
) -> None:
    newer, later, table = train(rounds=3), END + timedelta(days=9), mixed(200)
    for place, engine in ((world, on_spark), (twin, embedded)):
        engine(spark, place, table.slice(0, 130), personal=False)
        digest = store_artifact(place.objects, newer).digest
        again = {"version": 2, "artifact_digest": digest, "decided_at": later, "supersede": Supersede("version 1")}
        assert engine(spark, place, table, personal=False, **again).revision == 1
    assert contents(world) == contents(twin)
    held = world.lake.read("credit_risk/predictions").to_pylist()
    assert sum(row["supersedes"] is not None for row in held) == sum(row["version"] == 1 for row in held) > 100


def embedded(spark: Any, world: World, table: pa.Table, rows: Any = None, **changes: Any) -> BatchResult:
    parts = world.parts(table)
    return score_partition(world.job(**changes), parts if rows is None else replace(parts, rows=lambda _: rows))


def test_random_seeds_are_made_once_for_accepted_rows_only_and_a_rerun_is_a_no_op(
    spark: Any, tmp_path: Path, artifact_parts: dict[str, bytes]
) -> None:
    world = make_world(tmp_path / "wall", artifact_parts, root_seed=None)
    table = with_values(loans(40), "grade", {3: "Z"})
    first = on_spark(spark, world, table, piece_rows=10)
    before = contents(world)
    assert on_spark(spark, world, loans(1), piece_rows=10) == first
    assert on_spark(spark, world, loans(1), piece_rows=10, version=9, artifact_digest="sha256:none") == first
    assert contents(world) == before
    known = [world.subjects.find("loan", encode_row([("i64", loan)])) for loan in range(40)]
    assert [loan for loan, seed in enumerate(known) if seed is None] == [3]
    assert len(set(known)) == 40


def test_no_seed_lies_on_a_workers_disk(spark: Any, world: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    table = loans(60)
    on_spark(spark, world, table, SparkRows(spark.createDataFrame(table).repartition(4)))
    seeds = world.subjects.seeds("loan", [encode_row([("i64", loan)]) for loan in range(60)])
    local = Path(spark.conf.get("spark.local.dir"))
    kept = [path.read_bytes() for path in local.rglob("*") if path.is_file()]
    assert len(kept) > 0  # the rows themselves were shuffled
    assert not [seed for seed in seeds if any(seed in raw for raw in kept)]


def test_too_many_refused_rows_fail_the_partition_before_anything_is_written(spark: Any, world: World) -> None:
    table = with_values(loans(100), "grade", dict.fromkeys(range(0, 77, 7), "Z"))
    with pytest.raises(ContractViolation, match=r"11 of 100 rows .*grade unknown 11"):
        on_spark(spark, world, table, piece_rows=30)
    assert nothing_written(world)
    assert on_spark(spark, world, table, piece_rows=30, max_refused_share=0.11).refused == 11


@pytest.mark.parametrize("refused", [False, True])
def test_a_row_that_stands_twice_is_found_across_tasks(spark: Any, world: World, refused: bool) -> None:
    table = loans(20)
    double = with_values(table.slice(2, 1), "grade", {0: "Z"} if refused else {0: "A"})
    with pytest.raises(DuplicateKeys, match="1 rows"):
        on_spark(spark, world, pa.concat_tables([table, double]), piece_rows=5)
    assert nothing_written(world)


def test_an_empty_window_is_complete_with_a_marker_and_no_segment(spark: Any, world: World, tmp_path: Path) -> None:
    none = loans(3).slice(0, 0)
    pq.write_table(none, tmp_path / "none.parquet")
    sources = [
        [],
        [none],
        RowFiles.of([tmp_path / "none.parquet"]),
        SparkRows(spark.createDataFrame(loans(3)).limit(0)),
    ]
    for number, rows in enumerate(sources):
        result = on_spark(spark, world, none, rows, partition=f"empty-{number}")
        assert (result.rows, result.accepted, result.segment_id) == (0, 0, None)
    assert nothing_written(world)


def test_a_file_without_rows_among_others_is_no_matter(spark: Any, world: World, tmp_path: Path) -> None:
    for number, rows in enumerate((loans(5), loans(0), loans(5, start=5))):
        pq.write_table(rows.cast(loans(1).schema), tmp_path / f"{number}.parquet")
    assert on_spark(spark, world, loans(0), RowFiles.of(sorted(tmp_path.glob("*.parquet")))).accepted == 10


@pytest.mark.parametrize("engine", [on_spark, embedded])
@pytest.mark.parametrize("name", ["missing", "text for number"])
def test_columns_that_change_between_files_fail_the_partition(
    spark: Any, world: World, tmp_path: Path, name: str, engine: Any
) -> None:
    pq.write_table(loans(5), tmp_path / "a.parquet")
    pq.write_table(BAD[name](loans(5, start=5)), tmp_path / "b.parquet")
    with pytest.raises(SchemaMismatch):
        engine(spark, world, loans(0), RowFiles.of(sorted(tmp_path.glob("*.parquet"))))
    assert nothing_written(world)
    assert engine(spark, world, loans(5)).accepted == 5


def test_a_frame_with_other_columns_is_refused_before_a_task_starts(spark: Any, world: World) -> None:
    with pytest.raises(SchemaMismatch, match="income"):
        on_spark(spark, world, loans(0), SparkRows(spark.createDataFrame(loans(3)).drop("income")))


@pytest.mark.parametrize("engine", [on_spark, embedded])
@pytest.mark.parametrize("damage", ["torn", "overwritten", "empty", "absent"])
def test_a_corrupt_file_fails_the_partition_and_a_whole_one_completes_it(
    spark: Any, world: World, tmp_path: Path, damage: str, engine: Any
) -> None:
    for number in range(2):
        pq.write_table(loans(200, start=200 * number), tmp_path / f"{number}.parquet")
    whole = (tmp_path / "1.parquet").read_bytes()
    half = len(whole) // 2
    broken = {"torn": whole[:half], "overwritten": whole[:600] + b"\xff" * 900 + whole[1500:], "empty": b""}
    files = RowFiles.of(sorted(tmp_path.glob("*.parquet")))
    (tmp_path / "1.parquet").unlink()
    if damage != "absent":
        (tmp_path / "1.parquet").write_bytes(broken[damage])
    with pytest.raises(NotFound if damage == "absent" else DataError, match=r"1\.parquet"):
        engine(spark, world, loans(0), files)
    assert nothing_written(world)
    (tmp_path / "1.parquet").write_bytes(whole)
    assert engine(spark, world, loans(0), files).accepted == 400


def test_a_corrupt_file_that_spark_reads_is_named_an_input_that_cannot_be_read(
    spark: Any, world: World, tmp_path: Path
) -> None:
    for number in range(2):
        pq.write_table(loans(200, start=200 * number), tmp_path / f"{number}.parquet")
    frame = spark.read.parquet(str(tmp_path))
    whole = (tmp_path / "1.parquet").read_bytes()
    (tmp_path / "1.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="input file cannot be read"):
        on_spark(spark, world, loans(0), SparkRows(frame))
    assert nothing_written(world)


def test_a_corrupt_artifact_is_not_loaded_by_a_worker(spark: Any, world: World) -> None:
    from ml_platform.serving.scorer import Scorer

    digest = store_artifact(world.objects, train(rounds=5)).digest
    held = Scorer.load(world.objects, digest)
    for path in (world.root / "objects" / "objects").rglob("*"):
        if path.is_file() and path.stat().st_size > 2_000:
            path.write_bytes(path.read_bytes()[:-1] + b"!")
    engine = SparkEngine(spark)
    with pytest.raises(ArtifactCorrupt):
        score_partition(world.job(artifact_digest=digest), world.parts(loans(9), engine=engine, load=lambda _: held))
    assert nothing_written(world)


def skewed(rows: int) -> pa.Table:
    """One loan, asked for at so many times."""
    first = int(START.timestamp()) * 1_000_000
    table = loans(1).take(pa.array(np.zeros(rows, np.int64)))
    return table.set_column(1, "applied_at", pa.array(first + np.arange(rows), pa.timestamp("us", "UTC")))


@pytest.mark.parametrize("rows", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_one_key_however_often_is_scored_row_by_row_and_a_repeated_row_is_refused(
    spark: Any, world: World, rows: int
) -> None:
    table = skewed(rows)
    job = {"chunk_rows": 65_536, "piece_rows": rows // 4}
    assert on_spark(spark, world, table, partition="skewed", **job).accepted == rows
    assert world.lake.read(ENTITIES).column("entity_index").unique().to_pylist() != []
    assert len(world.lake.read(ENTITIES).column("entity_index").unique()) == 1
    same = table.take(pa.array(np.zeros(rows, np.int64)))
    with pytest.raises(DuplicateKeys, match=f"{rows - 1} rows"):
        on_spark(spark, world, same, partition="same", **job)


def once(flag: Path, fault: str, contract: Contract, rows: pa.Table) -> pa.Table:
    """Stored features; the first time that a loan over 100 is asked for, what ``fault`` says happens to the worker."""
    if rows.num_rows and rows.column("loan_id")[0].as_py() > 100:
        try:
            flag.touch(exist_ok=False)
        except FileExistsError:
            return history(contract, rows)
        if fault == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "full":
            raise OSError(28, "No space left on device")
    return history(contract, rows)


@pytest.mark.usefixtures("known_writer")
@pytest.mark.parametrize("fault", ["killed", "full"])
def test_a_worker_that_dies_in_the_middle_is_replaced_and_nothing_is_written_twice(
    spark: Any, world: World, twin: World, tmp_path: Path, fault: str
) -> None:
    table = mixed(300)
    expected = score_partition(twin.job(chunk_rows=20), twin.parts(table))
    flag = tmp_path / "flag"
    parts = world.parts(table, engine=SparkEngine(spark, piece_rows=75), features=partial(once, flag, fault))
    assert score_partition(world.job(chunk_rows=20), parts) == expected
    assert flag.exists()  # it did happen
    assert contents(world) == contents(twin)


def always_killed(contract: Contract, rows: pa.Table) -> pa.Table:
    os.kill(os.getpid(), signal.SIGKILL)
    return rows


def test_workers_that_always_die_fail_the_run_and_the_next_one_completes(spark: Any, world: World) -> None:
    parts = world.parts(loans(30), engine=SparkEngine(spark), features=always_killed)
    with pytest.raises(StorageFailed, match="Spark job failed"):
        score_partition(world.job(), parts)
    assert nothing_written(world)
    assert list((world.root / "scratch").rglob("*.arrow")) == []
    assert on_spark(spark, world, loans(30)).accepted == 30


def test_two_runs_at_once_on_one_machine_are_one(spark: Any, world: World) -> None:
    with workspace(world.root / "scratch" / "credit_risk" / "2010-05"), pytest.raises(Conflict):
        on_spark(spark, world, loans(3))
    assert on_spark(spark, world, loans(3)).accepted == 3


def test_two_drivers_at_once_write_one_partition(spark: Any, world: World) -> None:
    table = mixed(200)

    def run(number: int) -> BatchResult | PlatformError:
        parts = world.parts(table, engine=SparkEngine(spark), scratch=world.root / f"scratch-{number}")
        try:
            return score_partition(world.job(), parts)
        except PlatformError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(run, range(2)))
    results = [one for one in found if isinstance(one, BatchResult)]
    assert len(results) >= 1, found
    final = on_spark(spark, world, loans(1))
    assert all(one == final for one in results)
    ids = world.lake.read("credit_risk/predictions").column("prediction_id").to_pylist()
    assert len(ids) == len(set(ids)) == 200 - 4
    leaves = dict(world.leaves())
    tree = load_tiles(world.objects, load_segment(world.objects, str(final.segment_id)))
    assert all(tree.index(leaf) == index for leaf, index in leaves.items())
