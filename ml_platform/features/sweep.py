"""Functions of the set of rows that are in a window, as rows come and go.

Time is a sequence of ``steps`` positions; row i is in from ``enter[i]`` until ``leave[i]`` (half-open). Each function
gives float64 [steps], NaN where null. Sums are exact integers until they are rounded, once.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["Stay", "counted", "distinct_of", "largest_of", "last_of", "mean_of", "smallest_of", "sum_of"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_EXACT: Final = 2.0**53


@dataclass(frozen=True)
class Stay:
    """When each row is in: positions [enter, leave) of ``steps``."""

    enter: Ints
    leave: Ints
    steps: int

    def only(self, rows: npt.NDArray[np.bool_]) -> Stay:
        return Stay(self.enter[rows], self.leave[rows], self.steps)

    def total(self, amounts: Ints) -> Ints:
        """The sum of the amounts of the rows that are in, at each position."""
        change = np.zeros(self.steps, np.int64)
        np.add.at(change, self.enter, amounts)
        np.subtract.at(change, self.leave, amounts)
        return np.cumsum(change)


def counted(stay: Stay) -> Ints:
    """How many rows are in."""
    return stay.total(np.ones(len(stay.enter), np.int64))


def sum_of(stay: Stay, values: Floats) -> Floats:
    """The exact sum, rounded once; null when nothing is in, and when it overflows."""
    return _quotient(stay, values, np.ones(stay.steps, np.int64))


def mean_of(stay: Stay, values: Floats) -> Floats:
    """The exact mean, rounded once; null when nothing is in, and when it overflows."""
    return _quotient(stay, values, counted(stay))


def _quotient(stay: Stay, values: Floats, divisor: Ints) -> Floats:
    rows_in = counted(stay)
    if _small_integers(values):
        # Numerator and divisor are exact float64, so that the division rounds once.
        quotient = stay.total(values.astype(np.int64)) / np.maximum(divisor, 1)
    else:
        quotient = _exact_quotient(stay, values, divisor)
    return np.where(rows_in > 0, quotient, np.nan)


def _small_integers(values: Floats) -> bool:
    return bool(np.all(values == np.floor(values)) and np.abs(values).max(initial=0.0) < _EXACT / max(len(values), 1))


def _exact_quotient(stay: Stay, values: Floats, divisor: Ints) -> Floats:
    mantissa, exponent = np.frexp(values)
    whole = (mantissa * _EXACT).astype(np.int64).tolist()
    shift = exponent.astype(np.int64) - 53
    lowest = min(int(shift.min()), 0)
    change = [0] * stay.steps
    for enter, leave, digits, up in zip(
        stay.enter.tolist(), stay.leave.tolist(), whole, (shift - lowest).tolist(), strict=True
    ):
        amount = digits << up
        change[enter] += amount
        change[leave] -= amount
    scale = 1 << -lowest
    pairs = zip(accumulate(change), divisor.tolist(), strict=True)
    return np.array([_divided(total, scale * max(number, 1)) for total, number in pairs], np.float64)


def _divided(numerator: int, denominator: int) -> float:
    try:
        return numerator / denominator  # of two integers: correctly rounded
    except OverflowError:
        return np.nan


def last_of(stay: Stay, rank: Ints, values: Floats) -> Floats:
    """The value of the row with the highest rank, null included."""
    top = _highest(stay, rank)
    return np.where(top < 0, np.nan, values[top]) if len(values) else np.full(stay.steps, np.nan)


def largest_of(stay: Stay, values: Floats) -> Floats:
    """The largest value."""
    return last_of(stay, _rank(values), values)


def smallest_of(stay: Stay, values: Floats) -> Floats:
    """The smallest value."""
    return last_of(stay, _rank(-values), values)


def _rank(values: Floats) -> Ints:
    rank = np.empty(len(values), np.int64)
    rank[np.argsort(values, kind="stable")] = np.arange(len(values))
    return rank


def _highest(stay: Stay, rank: Ints) -> Ints:
    """The row with the highest rank that is in, at each position; −1 where none is."""
    arrivals = np.argsort(stay.enter, kind="stable").tolist()
    enter, leave, descending = stay.enter.tolist(), stay.leave.tolist(), (-rank).tolist()
    top = np.full(stay.steps, -1, np.int64)
    heap: list[tuple[int, int]] = []
    upcoming = 0
    for position in range(stay.steps):
        while upcoming < len(arrivals) and enter[arrivals[upcoming]] == position:
            row = arrivals[upcoming]
            heapq.heappush(heap, (descending[row], row))
            upcoming += 1
        while heap and leave[heap[0][1]] <= position:
            heapq.heappop(heap)
        if heap:
            top[position] = heap[0][1]
    return top


def distinct_of(stay: Stay, codes: Ints) -> Ints:
    """How many different codes are in."""
    changes: list[list[tuple[int, int]]] = [[] for _ in range(stay.steps)]
    for enter, leave, code in zip(stay.enter.tolist(), stay.leave.tolist(), codes.tolist(), strict=True):
        changes[enter].append((code, 1))
        changes[leave].append((code, -1))
    present: dict[Any, int] = {}
    number = np.zeros(stay.steps, np.int64)
    for position, step in enumerate(changes):
        for code, sign in step:
            present[code] = present.get(code, 0) + sign
            if not present[code]:
                del present[code]
        number[position] = len(present)
    return number
