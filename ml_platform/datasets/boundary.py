"""The model's boundary: which values cross it, and the one rounding to float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.core.columns import category_texts, float64_and_null
from ml_platform.core.contract import Contract, ResolvedField
from ml_platform.core.errors import DataError
from ml_platform.core.fields import Field
from ml_platform.features.views import FeatureView, RequestView

__all__ = ["EXACT_INTEGERS", "Refused", "feature_table", "refusals", "rounded"]

EXACT_INTEGERS: Final = 2**24
_TYPES: Final = {"number": pa.float64(), "category": pa.string()}


@dataclass(frozen=True)
class Refused:
    """Which rows the declared policies let through, and of each other row, in order, ``refused:<field>:<rule>``."""

    accepted: npt.NDArray[np.bool_]
    reasons: tuple[str, ...]


def feature_table(view: RequestView, stored: Sequence[FeatureView], rows: pa.Table, names: Sequence[str]) -> pa.Table:
    """Features before the boundary: numbers float64, categories text, null where unknown; derived ones computed.

    Raises:
        DataError: an integer beyond 2^24 in a number column: float32 would change it.
    """
    given = [*view.columns, *(field for one in stored for field in one.features)]
    columns = {field.name: _before(field, rows.column(field.name)) for field in given}
    inputs = {field.name: _values(field, columns[field.name]) for field in view.columns}
    for name, expression in view.expressions.items():
        values = expression.evaluate(inputs)
        columns[name] = pa.chunked_array([pa.array(values, mask=np.isnan(values))])
    return pa.table({name: columns[name] for name in names})


def _before(field: Field, column: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    if field.kind == "category":
        return category_texts(column)
    if pa.types.is_integer(column.type):
        largest: Any = pc.max(pc.abs(column.cast(pa.float64(), safe=False)))
        if largest.is_valid and largest.as_py() > EXACT_INTEGERS:
            raise DataError(
                "The number column holds an integer beyond 2^24, which float32 would change.",
                field=field.name,
                next_step="Declare it a category if it is a code; otherwise deliver a float, or a smaller unit.",
            )
    return column.cast(pa.float64())


def _values(field: Field, column: pa.ChunkedArray[Any]) -> npt.NDArray[Any]:
    if field.kind == "category":
        return np.array(column.to_pylist(), object)
    values, null = float64_and_null(column)
    return np.where(null, np.nan, values)


def refusals(fields: Sequence[Field], features: pa.Table) -> Refused:
    """What the declared policies make of the rows; categories that are not declared are those that are there."""
    resolved = tuple(_resolved(field, features.column(field.name)) for field in fields)
    admission = Contract(entity_keys=(), time="", fields=resolved).admit(features)
    first: dict[int, str] = {}
    for refusal in admission.refusals:
        first.setdefault(refusal.row, f"refused:{refusal.field}:{refusal.rule}")
    return Refused(admission.accepted, tuple(first[int(row)] for row in np.flatnonzero(~admission.accepted)))


def _resolved(field: Field, column: pa.ChunkedArray[Any]) -> ResolvedField:
    categories = field.categories
    if field.kind == "category" and categories is None:
        categories = tuple(sorted(value for value in column.unique().to_pylist() if value is not None))
    return ResolvedField(
        name=field.name,
        reference="",
        origin="input",
        kind=field.kind,
        type=str(_TYPES[field.kind]),
        nullable=field.nullable,
        range=field.range,
        categories=categories,
        on_unknown=field.on_unknown,
        on_null=field.on_null,
        on_range=field.on_range,
        default=field.default,
    )


def rounded(column: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    """A number column as float32, rounded to nearest, once; a category as it is."""
    if not pa.types.is_floating(column.type):
        return column
    values, null = float64_and_null(column)
    return pa.chunked_array([pa.array(values.astype(np.float32), mask=null)])
