"""Columns read back are those that were written, and what no row can be is refused: as the reader of single rows says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core.errors import IntegrityError
from ml_platform.core.row_columns import RowColumns
from ml_platform.core.row_reader import RowReader
from ml_platform.core.rows import FieldType, encode_row

TEXT = st.text(max_size=6)
VALUES: dict[FieldType, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "i64": st.integers(-(2**63), 2**63 - 1),
    "us": st.integers(-(2**53), 2**53),
    "f32": st.floats(allow_nan=False, width=32),
    "f64": st.floats(allow_nan=False),
    "text": TEXT,
    "bytes": st.binary(max_size=6),
    "texts": st.lists(st.none() | TEXT, max_size=4),
}


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[FieldType], list[list[Any]]]:
    kinds = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=5))
    row = st.tuples(*(st.none() | VALUES[kind] for kind in kinds)).map(list)
    return kinds, draw(st.lists(row, max_size=6))


def by_row(rows: list[bytes], kinds: list[FieldType]) -> list[list[Any]] | None:
    """What the reader of single rows says; None where it refuses one."""
    found = []
    try:
        for raw in rows:
            reader = RowReader(raw)
            found.append([reader.take(kind) for kind in kinds])
            reader.end()
    except IntegrityError:
        return None
    return found


def by_column(rows: list[bytes], kinds: list[FieldType]) -> list[list[Any]] | None:
    try:
        columns = RowColumns(rows)
        found = [columns.take(kind).to_pylist() for kind in kinds]
        columns.end()
    except IntegrityError:
        return None
    if not rows:
        return []
    return [[tuple(value) if isinstance(value, list) else value for value in row] for row in zip(*found, strict=True)]


@settings(deadline=None)
@given(tables())
def test_columns_are_read_as_they_were_written(table: tuple[list[FieldType], list[list[Any]]]) -> None:
    kinds, rows = table
    raw = [encode_row(list(zip(kinds, row, strict=True))) for row in rows]
    assert by_column(raw, kinds) == by_row(raw, kinds)


@settings(max_examples=300, deadline=None)
@given(tables(), st.data())
def test_changed_bytes_are_read_or_refused_as_by_the_reader_of_rows(
    table: tuple[list[FieldType], list[list[Any]]], data: st.DataObject
) -> None:
    kinds, rows = table
    raw = [encode_row(list(zip(kinds, row, strict=True))) for row in rows]
    if not raw:
        return
    place = data.draw(st.integers(0, len(raw) - 1))
    changed = bytearray(raw[place])
    how = data.draw(st.sampled_from(["flip", "cut", "add"]))
    if how == "flip":
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at] ^= data.draw(st.integers(1, 255))
    elif how == "cut":
        del changed[data.draw(st.integers(0, len(changed) - 1)) :]
    else:
        changed += data.draw(st.binary(min_size=1, max_size=3))
    raw[place] = bytes(changed)
    assert by_column(raw, kinds) == by_row(raw, kinds)


def test_how_far_each_row_was_read_is_told() -> None:
    columns = RowColumns([encode_row([("text", "ab"), ("i64", 1)]), encode_row([("text", None), ("i64", 1)])])
    columns.take("text")
    assert columns.offsets() == [7, 1]


def test_no_rows_have_empty_columns() -> None:
    columns = RowColumns([])
    for kind in VALUES:
        assert len(columns.take(kind)) == 0
    columns.end()


def test_a_row_that_is_too_short_does_not_read_on_in_the_next() -> None:
    columns = RowColumns([b"\x01", encode_row([("i64", 5)])])
    with pytest.raises(IntegrityError):
        columns.take("i64")


def test_large_columns_keep_their_values() -> None:
    numbers = np.arange(5_000) * 7 - 100
    columns = RowColumns([encode_row([("i64", int(one)), ("text", str(one))]) for one in numbers])
    assert columns.take("i64").to_pylist() == numbers.tolist()
    assert columns.take("text").to_pylist() == [str(one) for one in numbers]
