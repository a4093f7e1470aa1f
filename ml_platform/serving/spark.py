"""The first pass of a batch on Spark: the same code over the same rows, in as many workers as there are.

One broadcast says what is to be done; ``mapInArrow`` runs ``serving.spark_task`` over the rows; each task leaves part
files and one line about them. Spark gives exactly one line a task, however often it tried, and only parts that a line
names are read: retries and speculative copies write nothing twice. The second pass is this process's, as always.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from ml_platform.core.delta import Lake
from ml_platform.core.errors import DataError, SettingsError, StorageFailed
from ml_platform.core.spark import spark_storage, spark_uri
from ml_platform.serving.engine import FirstPass, Passed, Rows
from ml_platform.serving.files import PIECE_COLUMNS, RowFiles, pieces_of
from ml_platform.serving.scoring import rechunk
from ml_platform.serving.seed_server import SeedServer
from ml_platform.serving.spark_task import REPORT_COLUMNS, TaskPlan, merged, run_task
from ml_platform.serving.spool_parts import PartsReader

if TYPE_CHECKING:
    from pyspark import Broadcast
    from pyspark.sql import Column, DataFrame, SparkSession

__all__ = ["SparkEngine", "SparkRows", "lake_rows"]

PIECE_ROWS: Final = (65_536, 524_288)  # of a task: its overhead stays small beside scoring, and so does its memory
_TASKS_A_CORE: Final = 2  # so that a core that is done early has something left to do


@dataclass(frozen=True)
class SparkRows:
    """A window's rows where Spark has them.

    Args:
        frame: entity keys, request time and input columns, by name.
        left_out: indexes of rows that were decided online (``DecidedRows``).
    """

    frame: DataFrame
    left_out: frozenset[bytes] = frozenset()

    def __iter__(self) -> Iterator[pa.Table]:
        """All rows in this process: what a small frame is read with by the embedded engine."""
        if self.left_out:
            raise DataError("Rows to leave out are known to workers only.", next_step="Score it on Spark.")
        yield self.frame.toArrow()


@dataclass(frozen=True)
class SparkEngine:
    """Makes first passes on a Spark session.

    Rows may be ``SparkRows``, ``RowFiles`` that the workers reach, or any tables of this process, which are staged in
    scratch. ``features`` must be picklable; object store and scratch must be reachable by the workers.

    Args:
        piece_rows: of a task, where rows come from files or from this process; by default what keeps all cores busy.
    """

    session: SparkSession
    piece_rows: int | None = None

    @contextmanager
    def first_pass(self, work: FirstPass) -> Iterator[Passed]:
        rows = work.rows(work.scorer.contract)
        frame, pieces = self._frame(rows, work)
        host = self.session.conf.get("spark.driver.host") or "127.0.0.1"
        with SeedServer(work.subjects, work.entity, host) as server:
            plan = TaskPlan(
                intent=work.intent,
                objects=_absolute(work.objects.url),
                storage=work.objects.storage,
                reasons=work.scorer.decision is None or work.scorer.native is not None,
                entity=work.entity,
                personal=work.personal,
                chunk_rows=work.chunk_rows,
                folder=str(work.folder.absolute()),
                seeds=server.address,
                nonce=secrets.token_bytes(16),
                pieces=pieces,
                features=work.features,
                earlier=work.earlier,
                left_out=rows.left_out if isinstance(rows, SparkRows) else frozenset(),
            )
            reports = self._run(frame, plan)
        tally, records, quarantine = merged(reports, plan.nonce)
        yield Passed(tally, PartsReader(work.folder, records, "id"), PartsReader(work.folder, quarantine, "row_index"))

    def _frame(self, rows: Rows, work: FirstPass) -> tuple[DataFrame, bool]:
        """The rows as Spark reads them, and whether they are pieces of files."""
        if isinstance(rows, SparkRows):
            work.scorer.contract.check_schema(rows.frame.limit(0).toArrow().schema)
            return rows.frame, False
        if isinstance(rows, RowFiles):
            size = self.piece_rows or self._fair(rows.count())
            pieces = pieces_of([path.absolute() for path in rows.paths], size)
        else:
            pieces = pieces_of(_staged(rows, work.folder.absolute(), self.piece_rows or PIECE_ROWS[0]), 1)
        parallel = self.session.sparkContext.parallelize(pieces, max(1, len(pieces)))
        return self.session.createDataFrame(parallel, PIECE_COLUMNS), True

    def _fair(self, rows: int) -> int:
        """So many rows a task that every core has some."""
        least, most = PIECE_ROWS
        return max(least, min(most, rows // (_TASKS_A_CORE * self.session.sparkContext.defaultParallelism)))

    def _run(self, frame: DataFrame, plan: TaskPlan) -> pa.Table:
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException

        broadcast = self.session.sparkContext.broadcast(plan)
        try:
            return frame.mapInArrow(partial(_task, broadcast), REPORT_COLUMNS).toArrow()
        except (PySparkException, Py4JError) as error:
            raise _failed(error) from None  # its text may hold a value; Spark's log has it
        finally:
            broadcast.destroy()


def lake_rows(
    session: SparkSession,
    lake: Lake,
    table: str,
    *,
    version: int,
    columns: Sequence[str],
    within: tuple[str, int, int],
    until: tuple[str, int],
    left_out: frozenset[bytes] = frozenset(),
) -> SparkRows:
    """Rows of one version of a Delta table, read by Spark.

    Args:
        session: Spark's.
        lake: whose table it is.
        table: its name.
        version: the table version.
        columns: those that are wanted.
        within: a time column and [start, end) in microseconds since 1970 UTC.
        until: a time column and the last microsecond that counts.
        left_out: see ``SparkRows``.

    Raises:
        SettingsError: Spark has no connector for Delta.
    """
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException
    from pyspark.sql.functions import col, expr

    def at(micros: int) -> Column:
        return expr(f"timestamp_micros({micros})")

    try:
        reader = session.read.format("delta").option("versionAsOf", version)
        frame = reader.options(**spark_storage(lake.store.storage)).load(spark_uri(lake.uri(table)))
    except (PySparkException, Py4JError) as error:
        if "DATA_SOURCE_NOT_FOUND" not in str(error):
            raise StorageFailed(
                "Spark cannot read the table.", next_step="Check that executors reach the lake; Spark's log says more."
            ) from None
        raise SettingsError(
            "Spark has no connector for Delta.", field="spark.jars", next_step="Run `make jars`, or name their folder."
        ) from error
    time, start, end = within
    known, last = until
    chosen = (col(f"`{time}`") >= at(start)) & (col(f"`{time}`") < at(end)) & (col(f"`{known}`") <= at(last))
    return SparkRows(frame.where(chosen).select([f"`{name}`" for name in columns]), left_out)


def _task(broadcast: Broadcast[TaskPlan], batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    return run_task(broadcast.value, batches)


def _absolute(url: str) -> str:
    return url if "://" in url else str(Path(url).absolute())


def _staged(rows: Rows, folder: Path, piece_rows: int) -> list[Path]:
    """Rows of this process as files that workers read; the columns of each piece stay as they came."""
    paths: list[Path] = []
    for number, table in enumerate(rechunk(rows, piece_rows)):
        path = folder / f"rows-{number:06d}.arrow"
        with pa.ipc.new_stream(str(path), table.schema) as stream:
            stream.write_table(table)
        paths.append(path)
    return paths


def _failed(error: Any) -> DataError | StorageFailed:
    """Which of ours it is, by Spark's own name of the condition."""
    text = str(error)
    if "FAILED_READ_FILE" in text or "is not a Parquet file" in text:
        return DataError(
            "An input file cannot be read: it is torn, or not Parquet.",
            next_step="Spark's log names it; deliver it again. Nothing was written.",
        )
    return StorageFailed(
        "The Spark job failed, and a second try did not help; nothing was written.",
        next_step="Spark's log has the cause: a full disk, a lost machine, too little memory. Then run it again.",
    )
