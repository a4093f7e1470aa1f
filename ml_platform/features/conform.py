"""Delivered rows against a declaration: by name, typed, finite, each fact once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.core.columns import check_columns
from ml_platform.core.errors import DataError, DuplicateKeys, SchemaMismatch

__all__ = ["Rules", "conform"]


@dataclass(frozen=True)
class Rules:
    """``columns``: name to type; ``identity``: columns that name a row, never null; ``schema``: of the result."""

    columns: Mapping[str, str]
    identity: tuple[str, ...]
    schema: pa.Schema


def conform(table: pa.Table, rules: Rules) -> pa.Table:
    """The table in the declared schema, order of rows kept, identical rows once.

    Raises:
        SchemaMismatch: a column is missing, not declared, mistyped, or a time has no zone.
        DataError: a null key or time, NaN or infinity.
        DuplicateKeys: rows with the same identity that differ elsewhere.
    """
    check_columns(table.schema, rules.columns)
    for name in rules.identity:
        if table.column(name).null_count:
            raise DataError("A key, time or tie-break is null.", field=name, next_step="Deliver a value in every row.")
    columns = [_typed(table.column(field.name), field) for field in rules.schema]
    return _once(pa.Table.from_arrays(columns, schema=rules.schema), rules.identity)


def _typed(column: pa.ChunkedArray[Any], field: pa.Field[Any]) -> pa.ChunkedArray[Any]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        typed = column if column.type == field.type else column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SchemaMismatch(
            f"A value does not fit into {field.type} without loss.",
            field=field.name,
            next_step="Deliver values that the declared type can hold exactly, or declare another type.",
        ) from error
    if pa.types.is_floating(typed.type) and not pc.all(pc.is_finite(typed), min_count=0).as_py():
        raise DataError("NaN or infinity.", field=field.name, next_step="Deliver null where the value is unknown.")
    return typed


def _once(table: pa.Table, identity: tuple[str, ...]) -> pa.Table:
    distinct = table.group_by(list(identity), use_threads=False).aggregate([([], "count_all")]).num_rows
    if distinct == table.num_rows:
        return table
    numbered = table.append_column("__row", pa.array(np.arange(table.num_rows)))
    firsts = numbered.group_by(table.column_names, use_threads=False).aggregate([("__row", "min")])
    if firsts.num_rows != distinct:
        raise DuplicateKeys(
            "Rows with the same key and times differ elsewhere.",
            field=", ".join(identity),
            next_step="Give corrections a later known time, or declare a tie_break that orders them.",
        )
    return table.take(pa.array(np.sort(firsts.column("__row_min").to_numpy())))
