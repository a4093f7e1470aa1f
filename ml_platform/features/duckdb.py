"""DuckDB as the embedded engine: the point-in-time join, and the rows of SQL sources.

Nothing here depends on threads, chunks or row order: every find is unique, results are put in the order of the rows,
and the SQL of sources runs on one thread over sorted inputs (DuckDB adds doubles in the order of its threads).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from ml_platform.core.errors import DataError, DeclarationError, SchemaMismatch, StorageFailed
from ml_platform.features.asof import History, Join, check_names, join_sql, retracted_sql
from ml_platform.features.source import Source
from ml_platform.features.sql import rename_tables

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["History", "Join", "evaluate_source", "point_in_time", "shared_out"]

_UTC = pa.timestamp("us", "UTC")
_WIDE = 4  # values from which on two steps cost less than one


def _connect(threads: int) -> DuckDBPyConnection:
    import duckdb

    connection = duckdb.connect(":memory:", config={"threads": threads})
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET python_enable_replacements = false")
    # Datasets have no row counts: with the default, the planner may take a nested loop that never ends.
    connection.execute("SET asof_loop_join_threshold = 0")
    connection.execute("SET enable_external_access = false")
    return connection


def shared_out(
    query: str, history: ds.Dataset | pa.Table, *, by: str, folder: Path, memory_bytes: int, threads: int
) -> None:
    """Writes a query over ``history`` as Parquet files below ``folder/parts/<by>=<value>``, on disk where memory ends.

    The query reaches nothing but the history, and nothing is written outside the folder.

    Raises:
        StorageFailed: the disk is full, or DuckDB cannot do with so little memory.
    """
    import duckdb

    connection = duckdb.connect(":memory:", config={"threads": threads, "memory_limit": f"{memory_bytes}B"})
    try:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET python_enable_replacements = false")
        connection.execute("SET preserve_insertion_order = false")
        connection.execute("SET temp_directory = " + _literal(folder / "spill"))
        connection.execute(f"SET allowed_directories = [{_literal(folder)}]")
        connection.execute("SET enable_external_access = false")
        connection.register("history", history)
        target = _literal(folder / "parts")
        connection.execute(f"COPY ({query}) TO {target} (FORMAT parquet, PARTITION_BY ({by}))")
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        raise StorageFailed(
            f"The rows could not be shared out ({type(error).__name__}).",
            next_step="Free space in the folder, or give DuckDB more memory.",
        ) from error
    finally:
        connection.close()


def _literal(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _fetch(connection: DuckDBPyConnection, query: str) -> pa.Table:
    # Not connection.execute: its Arrow output copies all rows once more, and warns about that.
    result: pa.Table = connection.sql(query).to_arrow_table()
    return result


def point_in_time(rows: pa.Table, *, time: str, joins: Sequence[Join], threads: int = 1) -> pa.Table:
    """The rows, in their order, with the features that were known at each row's time.

    Joins follow one another: a key may be a feature of an earlier one (the borrower's employer, then what is known of
    that employer). For each join it appends the features, then ``<view>__event_time`` and ``<view>__known_time`` of the
    row that holds (for ages), null where none does. A null key finds nothing.

    Args:
        rows: any table; ``time`` is a timestamp column with a zone, without nulls.
        time: the request time T.
        joins: the views, joined one after the other.
        threads: DuckDB's threads; the result does not depend on them.

    Raises:
        SchemaMismatch: a column is missing, or a key or time has another type.
        DataError: a request time is null.
        DeclarationError: two columns of the result would have the same name.
    """
    check_names(rows.column_names, joins)
    times = _request_times(rows, time)
    schema = rows.schema
    for join in joins:
        _check_types(schema, join)
        for value in join.history.values:
            schema = schema.append(pa.field(join.names.get(value, value), _type_of(join.history.data.schema, value)))
    connection = _connect(threads)
    try:
        for join in joins:
            columns = (_join_wide if _is_wide(join.history) else _join_one)(connection, rows, times, join)
            for name, column in zip(join.output_names(), columns, strict=True):
                rows = rows.append_column(name, column)
    finally:
        connection.close()
    return rows


def _join_one(
    connection: DuckDBPyConnection, rows: pa.Table, times: pa.Array[Any], join: Join
) -> list[pa.ChunkedArray[Any]]:
    history = join.history
    requests = {"n": pa.array(np.arange(rows.num_rows))}
    for i, key in enumerate(join.key_columns):
        requests[f"k{i}"] = _decoded(rows.column(key))
    requests["r"] = _floored(times, history.refresh_us)
    requests["t"] = times
    connection.register("requests", pa.table(requests))
    connection.register("history", _readable(history))
    retracted = False
    if history.deleted is not None:
        keys = _fetch(connection, retracted_sql(history))
        connection.register("retracted", keys)
        retracted = keys.num_rows > 0
    found = _fetch(connection, join_sql(history, retracted=retracted))
    columns = _in_order(found, rows.num_rows, join).columns[1:]
    return columns if len(columns) == len(join.output_names()) else [*columns, columns[-1]]


def _is_wide(history: History) -> bool:
    return isinstance(history.data, pa.Table) and len(history.values) >= _WIDE


def _join_wide(
    connection: DuckDBPyConnection, rows: pa.Table, times: pa.Array[Any], join: Join
) -> list[pa.ChunkedArray[Any]]:
    """The same for many values of a table: the join finds the number of a row, and Arrow fetches its values."""
    history, data = join.history, cast("pa.Table", join.history.data)
    number = "row"
    while number in data.column_names:
        number += "_"
    numbered = data.append_column(number, pa.array(np.arange(data.num_rows)))
    narrow = replace(join, history=replace(history, data=numbered, values=(number,), when_empty={}), names={})
    found, *moments = _join_one(connection, rows, times, narrow)
    has_key = np.logical_and.reduce([rows.column(key).is_valid().to_numpy() for key in join.key_columns])
    values = []
    for value in history.values:
        column = _decoded(data.column(value)).take(found)
        if value in history.when_empty:
            column = pc.if_else(pa.array(has_key), column.fill_null(pa.scalar(history.when_empty[value])), None)
        values.append(column)
    return [*values, *moments]


def _in_order(found: pa.Table, rows: int, join: Join) -> pa.Table:
    # DuckDB's ORDER BY costs three times as much.
    position = np.full(rows, -1, np.int64)
    position[found.column("n").to_numpy()] = np.arange(found.num_rows)
    if found.num_rows != rows or (position < 0).any():
        raise DataError(
            "The join did not find one row for each request.",
            field=join.view,
            next_step="Conform the history: each fact and correction stands in it once.",
        )
    return found.combine_chunks().take(pa.array(position, pa.int64()))


def _readable(history: History) -> Any:
    if not isinstance(history.data, pa.Table):
        return history.data
    used = dict.fromkeys([*history.keys, *history.values, history.event_time, history.known_time, *history.tie_break])
    names = [*used, history.deleted] if history.deleted and history.deleted not in used else list(used)
    return pa.table({name: _decoded(history.data.column(name)) for name in names})


def _decoded(column: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _request_times(rows: pa.Table, time: str) -> pa.Array[Any]:
    _check_time(rows.schema, time)
    column = rows.column(time)
    if column.null_count:
        raise DataError("A request has no time.", field=time, next_step="Deliver a time in every row.")
    times: pa.Array[Any] = column.cast(_UTC).combine_chunks()
    return times


def _floored(times: pa.Array[Any], refresh_us: int | None) -> pa.Array[Any]:
    if refresh_us is None:
        return times
    micros = times.cast(pa.int64()).to_numpy()
    floored: pa.Array[Any] = pa.array(micros - np.mod(micros, refresh_us)).cast(_UTC)
    return floored


def _check_time(schema: pa.Schema, name: str) -> None:
    kind = _type_of(schema, name)
    if not pa.types.is_timestamp(kind) or kind.tz is None:
        raise SchemaMismatch("The column is no timestamp with a zone.", field=name, next_step="Deliver UTC times.")


def _type_of(schema: pa.Schema, name: str) -> Any:
    if name not in schema.names:
        raise SchemaMismatch("The column is missing.", field=name, next_step=f"There are {', '.join(schema.names)}.")
    kind = schema.field(name).type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _family(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind):
        return "integer"
    return "text" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else str(kind)


def _check_types(rows: pa.Schema, join: Join) -> None:
    history = join.history
    schema = history.data.schema
    for column in (*history.values, *history.tie_break, *([history.deleted] if history.deleted else [])):
        _type_of(schema, column)
    _check_time(schema, history.event_time)
    _check_time(schema, history.known_time)
    for own, theirs in zip(join.key_columns, history.keys, strict=True):
        if _family(_type_of(rows, own)) != _family(_type_of(schema, theirs)):
            raise SchemaMismatch(
                f"The key has another type than in {join.view}.", field=own, next_step="Deliver the declared type."
            )


def evaluate_source(source: Source, inputs: Mapping[str, pa.Table]) -> pa.Table:
    """The rows of a SQL source over its inputs (by logical name), conformed; equal inputs give equal rows.

    The SQL reaches nothing but its inputs: no file, no network, no variable.

    Raises:
        DeclarationError: the source has no SQL, or an input is missing.
        DataError: the SQL failed on these rows.
        SchemaMismatch: its rows are not the declared ones.
    """
    import duckdb

    missing = [item.name for item in source.inputs if item.name not in inputs]
    if source.sql is None or missing:
        raise DeclarationError(
            "The source has no SQL, or an input is missing.",
            field=", ".join(missing) or source.name,
            next_step="Give a table for each input, by its logical name.",
        )
    physical = {item.name: f"input_{position}" for position, item in enumerate(source.inputs)}
    connection = _connect(threads=1)
    try:
        for item in source.inputs:
            connection.register(physical[item.name], _sorted(inputs[item.name], item))
        result = _fetch(connection, rename_tables(source.sql, physical))
    except duckdb.Error as error:  # its text may hold row values
        raise DataError(
            f"The SQL failed ({type(error).__name__}).", field=source.name, next_step="Run it on a sample by hand."
        ) from None
    finally:
        connection.close()
    return _sorted(source.conform(result), source)


def _sorted(table: pa.Table, source: Source) -> pa.Table:
    identity = dict.fromkeys([*source.keys, source.event_time, source.known_column, *source.tie_break])
    return table.take(pc.sort_indices(table, sort_keys=[(name, "ascending") for name in identity]))
