"""``ml-platform/row/1``: the typed bytes of a row, and everything that is hashed from them.

One encoding serves snapshots, prediction records, salts and ids. Each field is one presence byte (0 = null,
1 = value) and, where present, its value: fixed width little-endian, or u32 length and bytes. ``docs/formats.md``
has the table and golden vectors.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa

from ml_platform.core.errors import DataError, SchemaMismatch

__all__ = [
    "ROW_FORMAT",
    "FieldType",
    "arrow_row_type",
    "encode_row",
    "encode_table",
    "micros",
    "utc",
]

ROW_FORMAT: Final = "ml-platform/row/1"

FieldType = Literal["bool", "i64", "f32", "f64", "us", "date", "text", "bytes", "texts", "f32s", "tensor"]

_U32 = struct.Struct("<I")
_I64 = struct.Struct("<q")
_F32 = struct.Struct("<f")
_F64 = struct.Struct("<d")
_I32 = struct.Struct("<i")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1)


def utc(value: datetime) -> datetime:
    """The same instant in UTC.

    Raises:
        SchemaMismatch: the timestamp is naive; a time without a zone is not a time.
    """
    if value.tzinfo is None:
        raise SchemaMismatch("A timestamp has no time zone.", next_step="Give it one; UTC is stored.")
    return value.astimezone(UTC)


def micros(value: datetime) -> int:
    """Microseconds since 1970-01-01 UTC, exact."""
    delta = utc(value) - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def _float_bytes(packer: struct.Struct, value: float) -> bytes:
    if math.isnan(value):
        raise DataError(
            "NaN has no place in a stored row.",
            next_step="Say null where the value is unknown; refuse NaN at the contract.",
        )
    return packer.pack(value + 0.0)  # + 0.0 turns -0.0 into +0.0, so that equal values have equal bytes


def _sized(raw: bytes) -> bytes:
    return _U32.pack(len(raw)) + raw


def _text_list(value: Sequence[str | None]) -> bytes:
    return _U32.pack(len(value)) + b"".join(encode_value("text", item) for item in value)


def _f32_list(value: Sequence[float | None]) -> bytes:
    return _U32.pack(len(value)) + b"".join(encode_value("f32", item) for item in value)


def _tensor(value: np.ndarray[Any, np.dtype[Any]]) -> bytes:
    array = np.ascontiguousarray(value, dtype="<f4") + np.float32(0.0)
    if np.isnan(array).any():
        raise DataError("NaN has no place in a stored tensor.", next_step="Refuse it at the contract.")
    shape = b"".join(_U32.pack(size) for size in array.shape)
    return _U32.pack(array.ndim) + shape + _sized(array.tobytes())


_ENCODERS: Final[dict[str, Callable[[Any], bytes]]] = {
    "bool": lambda value: b"\x01" if value else b"\x00",
    "i64": _I64.pack,
    "f32": lambda value: _float_bytes(_F32, value),
    "f64": lambda value: _float_bytes(_F64, value),
    "us": lambda value: _I64.pack(value if isinstance(value, int) else micros(value)),
    "date": lambda value: _I32.pack((value - _EPOCH_DAY).days),
    "text": lambda value: _sized(value.encode()),
    "bytes": _sized,
    "texts": _text_list,
    "f32s": _f32_list,
    "tensor": _tensor,
}


def encode_value(kind: FieldType, value: object) -> bytes:
    """One field: presence byte and value."""
    if value is None:
        return b"\x00"
    return b"\x01" + _ENCODERS[kind](value)


def encode_row(fields: Sequence[tuple[FieldType, object]]) -> bytes:
    """The bytes of one typed field list; ``a ‖ b`` in the documents always means this.

    >>> encode_row([("text", "ab"), ("i64", 1), ("f32", None)]).hex()
    '0102000000616201010000000000000000'
    """
    return b"".join(encode_value(kind, value) for kind, value in fields)


def arrow_row_type(arrow_type: pa.DataType, *, field: str) -> FieldType:
    """The row type that stores an Arrow column: dictionaries and widths of strings do not matter."""
    if pa.types.is_dictionary(arrow_type):
        return arrow_row_type(arrow_type.value_type, field=field)
    rules: list[tuple[Callable[[pa.DataType], bool], FieldType]] = [
        (pa.types.is_boolean, "bool"),
        (pa.types.is_integer, "i64"),
        (pa.types.is_float32, "f32"),
        (pa.types.is_float64, "f64"),
        (pa.types.is_timestamp, "us"),
        (pa.types.is_date32, "date"),
        (lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind), "text"),
        (lambda kind: pa.types.is_binary(kind) or pa.types.is_large_binary(kind), "bytes"),
    ]
    for test, kind in rules:
        if test(arrow_type):
            if kind == "us" and getattr(arrow_type, "tz", None) is None:
                raise SchemaMismatch("The timestamp column has no time zone.", field=field, next_step="Cast it to UTC.")
            return kind
    raise SchemaMismatch(
        f"Columns of type {arrow_type} cannot be stored as a row.",
        field=field,
        next_step="Use bool, integer, float, UTC timestamp, date, text or bytes.",
    )


def _column_bytes(column: pa.ChunkedArray[Any], kind: FieldType, *, field: str) -> list[bytes]:
    """Encoded values of one column, the whole column at once: this is the hot loop of snapshots and records."""
    array: Any = column.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if kind in {"i64", "us", "f32", "f64"} and array.null_count == 0:
        return _fixed_width(array, kind, field=field)
    if kind == "us":
        array = array.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    encode = _ENCODERS[kind]
    return [b"\x00" if value is None else b"\x01" + encode(value) for value in array.to_pylist()]


def _fixed_width(array: Any, kind: FieldType, *, field: str) -> list[bytes]:
    if kind == "us":
        array = array.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    dtype = {"i64": "<i8", "us": "<i8", "f32": "<f4", "f64": "<f8"}[kind]
    values = array.to_numpy(zero_copy_only=False).astype(dtype)
    if kind in {"f32", "f64"}:
        if np.isnan(values).any():
            raise DataError("NaN has no place in a stored row.", field=field, next_step="Say null instead.")
        values = values + np.zeros(1, dtype)
    width = values.itemsize
    buffer = np.empty((len(values), width + 1), np.uint8)
    buffer[:, 0] = 1
    buffer[:, 1:] = values.view(np.uint8).reshape(len(values), width)
    raw = buffer.tobytes()
    step = width + 1
    return [raw[start : start + step] for start in range(0, len(raw), step)]


def encode_table(table: pa.Table, columns: Sequence[str] | None = None) -> list[bytes]:
    """``row/1`` bytes of each row, fields in the given (contract) order; independent of chunks and dictionaries."""
    names = list(columns) if columns is not None else table.column_names
    encoded = [
        _column_bytes(table.column(name), arrow_row_type(table.schema.field(name).type, field=name), field=name)
        for name in names
    ]
    if not encoded:
        return [b""] * table.num_rows
    return [b"".join(parts) for parts in zip(*encoded, strict=True)]
