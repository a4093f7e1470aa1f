"""Partial aggregates: what an aggregation keeps of some rows, so that parts add up to the whole in any order.

Every state is a value that is never changed; ``merged`` is associative and commutative, and ``answered`` of merged
states is the aggregation of all their rows, to the last bit. Sums are integers of 2^−1074 (the smallest float64), so
they are exact. Rows are mappings of column to plain value, times in microseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Final, NamedTuple

from ml_platform.core.errors import DataError
from ml_platform.features import datasketches, ddsketch
from ml_platform.features.aggregations import Aggregation

__all__ = ["EMPTY", "State", "answered", "lifted", "merged"]

State = Any
"""None for no rows; else what the function of the aggregation needs."""
EMPTY: Final = None
_FRACTION_BITS: Final = 1_074
_LARGEST_INTEGER: Final = 2**53


class _Sums(NamedTuple):
    """Count, sum in 2^−1074, and sum of squares in 2^−2148."""

    n: int
    total: int
    squares: int


def lifted(item: Aggregation, row: Mapping[str, Any], rank: tuple[Any, ...]) -> State:
    """The state of one row that is in the window; ``rank`` orders rows for ``first`` and ``last``.

    Raises:
        DataError: an integer that float64 cannot hold.
    """
    if item.column is None:
        return 1
    value = row[item.column]
    if item.function in ("first", "last"):
        return rank, _number(item, value)
    if value is None:
        return EMPTY
    return _of_any(item, value) if item.when_empty is not None else _of_number(item, _number(item, value) or 0.0)


def _of_any(item: Aggregation, value: Any) -> State:
    if item.function == "count":
        return 1
    return frozenset((value,)) if item.function == "distinct" else datasketches.sketch_of((datasketches.item(value),))


def _of_number(item: Aggregation, number: float) -> State:
    if item.q is not None:
        return {ddsketch.bucket(number): 1}
    if item.function in ("min", "max"):
        return number
    top, bottom = number.as_integer_ratio()
    fixed = top << (_FRACTION_BITS - bottom.bit_length() + 1)
    return _Sums(1, fixed, fixed * fixed if item.function == "stddev" else 0)


def _number(item: Aggregation, value: Any) -> float | None:
    if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
        raise DataError(
            "An integer is beyond 2^53: float64 cannot hold it.",
            field=str(item.column),
            next_step="Aggregate a smaller unit.",
        )
    return None if value is None else float(value) + 0.0


def merged(item: Aggregation, left: State, right: State) -> State:
    """The state of the rows of both."""
    if left is None or right is None:
        return right if left is None else left
    return _MERGES[item.function](left, right)


def _both(left: dict[Any, int], right: dict[Any, int]) -> dict[Any, int]:
    return left | {bucket: left.get(bucket, 0) + number for bucket, number in right.items()}


def _summed(left: _Sums, right: _Sums) -> _Sums:
    return _Sums(left.n + right.n, left.total + right.total, left.squares + right.squares)


_MERGES: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "count": lambda left, right: left + right,
    "sum": _summed,
    "mean": _summed,
    "stddev": _summed,
    "min": min,
    "max": max,
    "first": lambda left, right: min(left, right, key=lambda one: one[0]),
    "last": lambda left, right: max(left, right, key=lambda one: one[0]),
    "distinct": lambda left, right: left | right,
    "approx_distinct": datasketches.union,
    "quantile": _both,
}


def answered(item: Aggregation, state: State) -> float | None:
    """The value of the aggregation."""
    if state is None:
        return item.when_empty
    if item.function == "approx_distinct":
        return datasketches.estimate(state)
    if item.q is not None:
        return ddsketch.quantile(state, item.q)
    if isinstance(state, _Sums):
        return _of_sums(item, state)
    if item.function in ("first", "last"):
        value: float | None = state[1]
        return value
    return float(len(state) if item.function == "distinct" else state)


def _of_sums(item: Aggregation, state: _Sums) -> float | None:
    n, unit = state.n, 1 << _FRACTION_BITS
    try:
        if item.function != "stddev":
            return state.total / (unit * (n if item.function == "mean" else 1))
        variance = Fraction(n * state.squares - state.total * state.total, unit * unit * n * max(n - 1, 1))
        return math.sqrt(float(variance)) if n > 1 else None
    except OverflowError:
        return None
