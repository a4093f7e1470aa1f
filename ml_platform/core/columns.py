"""Arrow columns against declared types, by name: shared by sources and contracts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.core.errors import DeclarationError, SchemaMismatch

__all__ = [
    "COLUMN_TYPES",
    "arrow_type",
    "category_codes",
    "category_texts",
    "check_columns",
    "float64_and_null",
]

COLUMN_TYPES: Final[dict[str, pa.DataType]] = {
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
    "bool": pa.bool_(),
    "timestamp": pa.timestamp("us", "UTC"),
    "date": pa.date32(),
}


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


_ACCEPTS: Final[dict[str, Callable[[pa.DataType], bool]]] = {
    "int64": pa.types.is_integer,
    "float64": lambda kind: pa.types.is_integer(kind) or pa.types.is_floating(kind),
    "string": _is_text,
    "bool": pa.types.is_boolean,
    "timestamp": pa.types.is_timestamp,
    "date": pa.types.is_date32,
}


def arrow_type(name: str, *, field: str) -> pa.DataType:
    """The Arrow type of a declared column type.

    Raises:
        DeclarationError: there is no such type.
    """
    try:
        return COLUMN_TYPES[name]
    except KeyError:
        raise DeclarationError(
            "This is not a column type.", field=field, next_step=f"Choose one of {', '.join(COLUMN_TYPES)}."
        ) from None


def check_columns(schema: pa.Schema, expected: Mapping[str, str]) -> None:
    """Compares columns with declared types, by name; order means nothing.

    Raises:
        SchemaMismatch: names every missing, extra, mistyped column, and times without a zone.
    """
    present = set(schema.names)
    if len(present) != len(schema.names):
        doubled = sorted({name for name in schema.names if schema.names.count(name) > 1})
        raise SchemaMismatch("A column stands twice.", field=", ".join(doubled), next_step="Give each column one name.")
    missing = [name for name in expected if name not in present]
    extra = [name for name in schema.names if name not in expected]
    if missing or extra:
        said = [f"missing {', '.join(missing)}"] if missing else []
        said += [f"not declared {', '.join(extra)}"] if extra else []
        raise SchemaMismatch(
            f"The columns are not the declared ones: {'; '.join(said)}.",
            field=(missing + extra)[0],
            next_step="Deliver the declared columns, by name, or declare the change.",
        )
    for name, kind in expected.items():
        _check_type(schema.field(name).type, kind, name)


def _check_type(actual: pa.DataType, kind: str, name: str) -> None:
    plain = _plain(actual)
    if not _ACCEPTS[kind](plain):
        raise SchemaMismatch(
            f"The column has type {plain}, declared is {kind}.",
            field=name,
            next_step="Deliver the declared type; a different quantity needs a different column.",
        )
    if kind == "timestamp" and getattr(plain, "tz", None) is None:
        raise SchemaMismatch(
            "The timestamp has no time zone.", field=name, next_step="Deliver aware times; UTC is stored."
        )


def float64_and_null(column: pa.ChunkedArray[Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Values as float64 (0 where null) and the null mask; NaN stays NaN and is not null."""
    null = column.is_null().to_numpy()
    kind = _plain(column.type)
    plain = column.cast(pa.float64(), safe=False) if not pa.types.is_float64(kind) else column
    if column.null_count:
        plain = plain.fill_null(pa.scalar(0.0))
    return plain.to_numpy(), null


def category_texts(column: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    """Categories as text: strings as they are, integers in decimal, booleans as ``true`` / ``false``."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column if pa.types.is_string(column.type) else column.cast(pa.string())


def category_codes(
    column: pa.ChunkedArray[Any], categories: Sequence[str]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Each value's index in ``categories`` (−1 = unknown or null) and the null mask."""
    null = column.is_null().to_numpy()
    codes: Any = pc.index_in(category_texts(column), value_set=pa.array(list(categories), pa.string()))
    return codes.fill_null(-1).to_numpy().astype(np.int32), null
