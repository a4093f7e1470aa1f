from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core.errors import DataError
from ml_platform.core.rows import FieldType, encode_row, encode_value
from ml_platform.serving.encoding import Coded, Constant, arrow_part, fixed, row_bytes

F32 = st.floats(width=32, allow_nan=False)
COLUMNS: dict[FieldType, tuple[pa.DataType, st.SearchStrategy[object]]] = {
    "i64": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "f32": (pa.float32(), F32),
    "f64": (pa.float64(), st.floats(allow_nan=False)),
    "bool": (pa.bool_(), st.booleans()),
    "date": (pa.date32(), st.dates(date(1900, 1, 1), date(2200, 1, 1))),
    "us": (
        pa.timestamp("us", "UTC"),
        st.integers(-(10**15), 10**16).map(lambda us: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)),
    ),
    "text": (pa.string(), st.text(max_size=12)),
    "bytes": (pa.binary(), st.binary(max_size=12)),
}


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[FieldType], pa.Table]:
    kinds = draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=6))
    rows = draw(st.integers(0, 7))
    arrays = []
    for kind in kinds:
        arrow, values = COLUMNS[kind]
        arrays.append(pa.array(draw(st.lists(st.none() | values, min_size=rows, max_size=rows)), arrow))
    return kinds, pa.table(dict(zip(map(str, range(len(kinds))), arrays, strict=True)))


@given(tables())
@settings(max_examples=150, deadline=None)
def test_columns_encode_to_the_same_bytes_as_rows(drawn: tuple[list[FieldType], pa.Table]) -> None:
    kinds, table = drawn
    parts = [arrow_part(table.column(name), field=name) for name in table.column_names]
    expected = [
        encode_row([(kind, row[name]) for kind, name in zip(kinds, table.column_names, strict=True)])
        for row in table.to_pylist()
    ]
    assert row_bytes(parts, table.num_rows) == expected
    assert row_bytes(parts, table.num_rows, sized=True) == [encode_row([("bytes", row)]) for row in expected]


def test_long_texts_are_joined_row_by_row_with_the_same_bytes() -> None:
    texts = ["x" * 5000, None, "é"]
    parts = [
        Constant(b"tag", 3),
        arrow_part(pa.chunked_array([texts]), field="a"),
        fixed("f32", np.array([1.0, np.nan, -0.0]), np.array([False, True, False])),
    ]
    numbers = [1.0, None, 0.0]
    expected = [
        b"tag" + encode_row([("text", text), ("f32", number)]) for text, number in zip(texts, numbers, strict=True)
    ]
    assert row_bytes(parts, 3) == expected
    assert row_bytes(parts, 3, sized=True) == [encode_row([("bytes", row)]) for row in expected]


def test_blocks_of_rows_follow_each_other() -> None:
    rows = 20_000
    texts = pa.array([["a", "bb", None][number % 3] for number in range(rows)])
    parts = [fixed("i64", np.arange(rows)), arrow_part(pa.chunked_array([texts]).dictionary_encode(), field="t")]
    found = row_bytes(parts, rows)
    for number in (0, 8191, 8192, 16_384, rows - 1):
        assert found[number] == encode_row([("i64", number), ("text", texts[number].as_py())])
    assert len(found) == rows


def test_chunks_and_slices_do_not_matter() -> None:
    whole = pa.chunked_array([[1, 2], [None, 4]], pa.int64())
    assert row_bytes([arrow_part(whole.slice(1, 2), field="x")], 2) == [encode_row([("i64", 2)]), b"\x00"]


def test_lists_of_texts_are_coded_values() -> None:
    lists = [(), ("a:b",)]
    part = Coded(np.array([1, 0, 1]), [encode_value("texts", texts) for texts in lists])
    assert row_bytes([part], 3) == [encode_row([("texts", lists[code])]) for code in (1, 0, 1)]


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_nan_is_refused_where_it_is_not_null(kind: FieldType) -> None:
    with pytest.raises(DataError):
        fixed(kind, np.array([np.nan, 1.0]), np.array([False, True]))
    assert row_bytes([fixed(kind, np.array([np.nan, 1.0]), np.array([True, False]))], 2)[0] == b"\x00"


def test_no_fields_are_no_bytes() -> None:
    assert row_bytes([], 2) == [b"", b""]
    assert row_bytes([], 1, sized=True) == [encode_row([("bytes", b"")])]
