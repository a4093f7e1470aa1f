"""Approximate distinct counts: Apache DataSketches' HyperLogLog, with an estimate that no order can change.

The library's usual estimate of a sketch that was never merged depends on the order of its updates. Ours is that of a
sketch merged with itself: the composite estimate, a function of the set of values alone. Up to about 380 values the
sketch holds them one by one, and the rounded count is nearly always exact.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ml_platform.core.errors import DeclarationError
from ml_platform.features.aggregations import HLL_LG_K

if TYPE_CHECKING:
    from datasketches import hll_sketch

__all__ = ["estimate", "item", "items", "sketch_of", "union", "with_items"]


def _library() -> Any:
    try:
        import datasketches
    except ImportError:
        raise DeclarationError(
            "approx_distinct needs the library datasketches.",
            field="function",
            next_step="Install dagster-ml-platform[sketches], or use distinct.",
        ) from None
    return datasketches


def items(column: pa.ChunkedArray[Any]) -> list[Any]:
    """Values as the sketch hashes them, None for null: times and dates as integers, texts with a letter before them.

    The library leaves out an empty text; with the letter, it is a value like others.
    """
    if pa.types.is_date32(column.type):
        column = column.cast(pa.int32())
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    return [None if value is None else item(value) for value in column.to_pylist()]


def item(value: Any) -> Any:
    """One value that is not null: a number, a truth value or a text."""
    if isinstance(value, str):
        return "s" + value
    return value + 0.0 if isinstance(value, float) else int(value)


def sketch_of(values: Iterable[Any]) -> hll_sketch:
    """A sketch of values as ``items`` gives them, none of them None."""
    library = _library()
    sketch = library.hll_sketch(HLL_LG_K, library.tgt_hll_type.HLL_8)
    for value in values:
        sketch.update(value)
    return sketch


def union(*sketches: hll_sketch) -> hll_sketch:
    """The sketch of all values of some sketches, in any order."""
    library = _library()
    merged = library.hll_union(HLL_LG_K)
    for sketch in sketches:
        merged.update(sketch)
    return merged.get_result(library.tgt_hll_type.HLL_8)


def with_items(sketch: hll_sketch, values: Iterable[Any]) -> hll_sketch:
    """A new sketch with more values."""
    return union(sketch, sketch_of(values))


def estimate(sketch: hll_sketch) -> float:
    """About how many different values, a whole number."""
    library = _library()
    merged = library.hll_union(HLL_LG_K)
    merged.update(sketch)
    merged.update(sketch)  # two sketches of registers: only what no order can change is left to estimate from
    return float(round(merged.get_estimate()))
