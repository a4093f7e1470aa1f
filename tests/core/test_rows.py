from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.core.errors import DataError, SchemaMismatch
from ml_platform.core.rows import arrow_row_type, encode_row, encode_table, micros, utc

finite32 = st.floats(width=32, allow_nan=False, allow_infinity=True)


@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.text(),
            st.none() | finite32,
            st.none() | st.booleans(),
            st.none() | st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
            st.none() | st.dates(date(1900, 1, 1), date(2200, 1, 1)),
            st.none() | st.floats(allow_nan=False),
        ),
        max_size=12,
    ),
    st.integers(1, 5),
)
def test_a_table_encodes_like_its_rows_whatever_its_chunks_and_dictionaries(rows: list, chunk: int) -> None:
    types = [pa.int64(), pa.string(), pa.float32(), pa.bool_(), pa.timestamp("us", "UTC"), pa.date32(), pa.float64()]
    kinds = ["i64", "text", "f32", "bool", "us", "date", "f64"]
    columns = [[row[i] for row in rows] for i in range(len(types))]
    plain = pa.table({f"c{i}": pa.array(values, types[i]) for i, values in enumerate(columns)})
    expected = [encode_row(list(zip(kinds, row, strict=True))) for row in rows]
    assert encode_table(plain) == expected

    pieces = [plain.slice(start, chunk) for start in range(0, len(rows), chunk)]
    chunked = pa.concat_tables(pieces) if pieces else plain
    dictionary = chunked.set_column(1, "c1", chunked.column("c1").dictionary_encode())
    assert encode_table(dictionary) == expected


def test_minus_zero_has_the_bytes_of_zero_in_rows_and_tables() -> None:
    assert encode_row([("f64", -0.0)]) == encode_row([("f64", 0.0)])
    assert encode_table(pa.table({"x": pa.array([-0.0], pa.float32())})) == [encode_row([("f32", 0.0)])]


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_nan_is_refused(kind: str) -> None:
    with pytest.raises(DataError):
        encode_row([(kind, math.nan)])
    arrow = {"f32": pa.float32(), "f64": pa.float64()}[kind]
    with pytest.raises(DataError):
        encode_table(pa.table({"x": pa.array([math.nan], arrow)}))


def test_a_null_differs_from_empty_and_from_zero() -> None:
    assert len({encode_row([("text", None)]), encode_row([("text", "")]), encode_row([("i64", 0)])}) == 3


def test_neighbouring_fields_cannot_be_confused() -> None:
    assert encode_row([("text", "ab"), ("text", "c")]) != encode_row([("text", "a"), ("text", "bc")])


def test_a_naive_time_is_refused_and_zones_are_one_instant() -> None:
    with pytest.raises(SchemaMismatch):
        utc(datetime(2010, 1, 1))  # noqa: DTZ001
    with pytest.raises(SchemaMismatch):
        arrow_row_type(pa.timestamp("us"), field="t")
    east = datetime(2010, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    assert micros(east) == micros(datetime(2010, 1, 1, tzinfo=UTC)) == 1_262_304_000_000_000


def test_a_tensor_keeps_shape_and_refuses_nan() -> None:
    flat, square = np.zeros(4, np.float32), np.zeros((2, 2), np.float32)
    assert encode_row([("tensor", flat)]) != encode_row([("tensor", square)])
    with pytest.raises(DataError):
        encode_row([("tensor", np.array([np.nan]))])


def test_a_nested_column_cannot_be_stored() -> None:
    with pytest.raises(SchemaMismatch, match="cannot be stored"):
        arrow_row_type(pa.list_(pa.int64()), field="x")
