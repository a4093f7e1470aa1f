"""Rows read back are the rows that were written; other bytes are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.core.errors import IntegrityError
from ml_platform.core.row_reader import RowReader
from ml_platform.core.rows import encode_row

I64 = st.integers(-(2**63), 2**63 - 1)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "i64": I64,
    "us": I64,
    "f32": st.floats(width=32, allow_nan=False).map(lambda value: value + 0.0),
    "f64": st.floats(allow_nan=False).map(lambda value: value + 0.0),
    "text": st.text(),
    "bytes": st.binary(),
    "texts": st.lists(st.none() | st.text(max_size=5), max_size=4).map(tuple),
}
FIELDS = st.lists(
    st.sampled_from(sorted(VALUES)).flatmap(lambda kind: st.tuples(st.just(kind), st.none() | VALUES[kind]))
)


def read(raw: bytes, kinds: list[Any]) -> list[Any]:
    reader = RowReader(raw)
    found = [reader.take(kind) for kind in kinds]
    reader.end()
    return found


@given(FIELDS)
def test_what_was_written_is_read_back(fields: list[tuple[Any, Any]]) -> None:
    assert read(encode_row(fields), [kind for kind, _ in fields]) == [value for _, value in fields]


@given(FIELDS.filter(bool), st.data())
def test_a_row_that_is_cut_or_goes_on_is_refused(fields: list[tuple[Any, Any]], data: st.DataObject) -> None:
    raw, kinds = encode_row(fields), [kind for kind, _ in fields]
    cut = data.draw(st.integers(0, len(raw) - 1))
    for other in (raw[:cut], raw + b"\x00"):
        with pytest.raises(IntegrityError):
            read(other, kinds)


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("i64", b"\x02" + bytes(8)),
        ("bool", b"\x01\x02"),
        ("text", b"\x01\x01\0\0\0\xff"),
        ("f32", b"\x01" + np.float32(np.nan).tobytes()),
        ("f32", b"\x01" + np.float32(-0.0).tobytes()),
        ("f64", b"\x01" + np.float64(-0.0).tobytes()),
        ("bytes", b"\x01\xff\xff\xff\xff"),
        ("texts", b"\x01\xff\xff\xff\xff"),
    ],
)
def test_bytes_that_no_value_has_are_refused(kind: Any, raw: bytes) -> None:
    with pytest.raises(IntegrityError, match=kind.removesuffix("s") if kind == "texts" else kind):
        read(raw, [kind])
