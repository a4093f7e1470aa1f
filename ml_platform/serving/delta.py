"""Parquet files of our own layout, committed to a Delta table in one step and at most once.

Delta's own writer decides row groups and statistics; a look-up by id needs small sorted row groups. Files get names
that depend on the writer alone, so that a rerun writes the same names again and leaves no orphans behind.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

from ml_platform.core.delta import Lake
from ml_platform.core.errors import SchemaMismatch, StorageFailed
from ml_platform.core.storage import failure
from ml_platform.serving.data_files import FileTarget, file_target

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["DataFile", "PartitionWriter", "commit_files", "committed_version", "storage_failed"]

ROW_GROUP_ROWS: Final = 16_384  # one look-up decodes one row group: about a millisecond
FILE_ROWS: Final = 1_048_576


@dataclass(frozen=True)
class DataFile:
    """A written Parquet file, not yet part of its table."""

    path: str
    size: int
    partition: Mapping[str, str]
    rows: int


def storage_failed(name: str, error: Exception) -> StorageFailed:
    """The error of a full disk or an unreachable store, from whatever the layer below raised."""
    return failure(f"Writing {name}", error, "what was there before stands")


@dataclass
class PartitionWriter:
    """Writes sorted tables into files of one partition of a table; nothing is visible before ``commit_files``.

    Args:
        partition: the values of the partition columns, which are not in the files.
        writer: unique to the run that is retried; part of the file names.
        repeating: columns with few distinct values, which get a dictionary.
        app_id, txn_version: the transaction; where the table holds it already, nothing is written.
        dense: columns that are not compressed.
    """

    lake: Lake
    name: str
    schema: pa.Schema
    partition: Mapping[str, str]
    writer: str
    repeating: Sequence[str]
    app_id: str
    txn_version: int
    dense: Sequence[str] = ()
    files: list[DataFile] = field(default_factory=list)
    done: int | None = None
    _open: pq.ParquetWriter | None = None
    _rows: int = 0
    _target: FileTarget = field(init=False)

    def __post_init__(self) -> None:
        self.done = committed_version(self.lake, self.name, self.app_id, self.txn_version)
        self._target = file_target(self.lake, self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self._close()
        elif self._open is not None:
            self._abandon()

    def _abandon(self) -> None:
        try:
            if self._open is not None:
                self._open.close()
        except OSError:
            pass  # the disk is full: the error that led here is the one to report
        self._target.drop()

    @property
    def _folder(self) -> str:
        return "/".join(f"{column}={value}" for column, value in self.partition.items())

    @property
    def _path(self) -> str:
        return f"{self._folder}/{self.writer}-{len(self.files):05d}.parquet"

    def write(self, table: pa.Table) -> None:
        """Appends sorted rows that follow those already written."""
        if not table.num_rows or self.done is not None:
            return
        try:
            if self._open is None:
                repeating: Any = list(self.repeating)  # the stubs know a bool only
                self._open = pq.ParquetWriter(
                    self._target.begin(self._path),
                    table.schema,
                    use_dictionary=repeating,
                    compression=_compression(table.schema, self.dense),
                    store_schema=False,  # dictionaries are how we hand over repeated values, not what the table holds
                )
            self._open.write_table(table, row_group_size=ROW_GROUP_ROWS)
        except OSError as error:
            raise storage_failed(f"the table {self.name}", error) from error
        self._rows += table.num_rows
        if self._rows >= FILE_ROWS:
            self._close()

    def _close(self) -> None:
        if self._open is None:
            return
        path = self._path
        try:
            self._open.close()
            size = self._target.finish(path)
        except OSError as error:
            raise storage_failed(f"the table {self.name}", error) from error
        self.files.append(DataFile(path, size, dict(self.partition), self._rows))
        self._open, self._rows = None, 0


def _compression(schema: pa.Schema, dense: Sequence[str]) -> Any:
    """The codec by Parquet column; one that is not named is not compressed."""
    return {
        f"{column.name}.list.element" if pa.types.is_list(column.type) else column.name: "snappy"
        for column in schema
        if column.name not in dense
    }


def committed_version(lake: Lake, name: str, app_id: str, txn_version: int) -> int | None:
    """The table version that holds a transaction; None where it was not committed."""
    done = lake.txn(name, app_id)
    return None if done is None or done < txn_version else lake.version_of(name, app_id, txn_version)


def commit_files(writer: PartitionWriter, *, at_us: int, metadata: Mapping[str, object]) -> int:
    """Adds written files to the table in one commit, at most once; returns the table version that holds them.

    The table is made where it is not, and gets the columns that it lacks.

    Two runs that commit the same files at once add the same paths, which Delta counts once.

    Raises:
        SchemaMismatch: a column exists with another type.
        StorageFailed: the disk is full or the store refused; the table is as before.
    """
    from deltalake import CommitProperties, Transaction
    from deltalake.transaction import AddAction, RemoveAction

    if writer.done is not None:
        return writer.done
    said = {
        "ml_platform": json.dumps(dict(metadata), sort_keys=True),
        "ml_txn": f"{writer.app_id}@{writer.txn_version}",
    }
    transactions = [Transaction(writer.app_id, writer.txn_version)]
    properties = CommitProperties(custom_metadata=said, app_transactions=transactions)
    actions: list[AddAction | RemoveAction] = [
        AddAction(
            path=file.path,
            size=file.size,
            partition_values=dict(file.partition),
            modification_time=at_us // 1000,
            data_change=True,
            # Bounds of some columns only would prune every file for a filter on the others: row groups have them.
            stats=json.dumps({"numRecords": file.rows}),
        )
        for file in writer.files
    ]
    partitions = list(writer.partition)

    def write(delta: DeltaTable) -> None:
        _add_columns(delta, writer)
        delta.create_write_transaction(actions, "append", delta.schema(), partitions, commit_properties=properties)

    make = partial(_create_table, writer)
    return writer.lake.commit(writer.name, write, make=make, app_id=writer.app_id, txn_version=writer.txn_version)


def _create_table(writer: PartitionWriter) -> None:
    fields = [*writer.schema, *(pa.field(column, pa.string()) for column in writer.partition)]
    writer.lake.create(writer.name, pa.schema(fields), partition_by=list(writer.partition))


def _add_columns(delta: Any, writer: PartitionWriter) -> None:
    from deltalake import Field, Schema

    present = pa.schema(delta.schema().to_arrow())
    new: list[pa.Field[Any]] = []
    for column in writer.schema:
        if column.name not in present.names:
            new.append(column)
        elif not _same_type(present.field(column.name).type, column.type):
            raise SchemaMismatch(
                f"The table {writer.name} holds the column with another type.",
                field=column.name,
                next_step="Give the new column another name.",
            )
    if new:
        fields: list[Field] = list(Schema.from_arrow(pa.schema(new)).fields)
        delta.alter.add_columns(fields)


def _same_type(present: pa.DataType, wanted: pa.DataType) -> bool:
    if isinstance(present, pa.ListType) and isinstance(wanted, pa.ListType):
        return bool(present.value_type == wanted.value_type)  # the name of the item differs between writers
    return bool(present == wanted)
