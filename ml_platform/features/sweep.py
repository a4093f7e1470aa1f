"""Functions of the set of rows that are in a window, as rows come and go.

Time is a sequence of ``steps`` positions; row i is in from ``enter[i]`` until ``leave[i]`` (half-open). Each function
gives float64 [steps], NaN where null. Sums are exact integers until they are rounded, once.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = [
    "Stay",
    "counted",
    "deviation_of",
    "distinct_of",
    "first_of",
    "folded",
    "highest",
    "largest_of",
    "last_of",
    "mean_of",
    "ordered_of",
    "smallest_of",
    "sum_of",
]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_EXACT: Final = 2.0**53

State = TypeVar("State")


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
    whole, lowest = _integers(values)
    scale = 1 << -lowest
    pairs = zip(_totals(stay, whole), divisor.tolist(), strict=True)
    return np.array([_divided(total, scale * max(number, 1)) for total, number in pairs], np.float64)


def _integers(values: Floats) -> tuple[list[int], int]:
    """The values as exact integers, times 2 to a common exponent that is not positive."""
    mantissa, exponent = np.frexp(values)
    shift = exponent.astype(np.int64) - 53
    lowest = min(int(shift.min(initial=0)), 0)
    digits = (mantissa * _EXACT).astype(np.int64).tolist()
    return [digit << up for digit, up in zip(digits, (shift - lowest).tolist(), strict=True)], lowest


def _totals(stay: Stay, amounts: list[int]) -> list[int]:
    change = [0] * stay.steps
    for enter, leave, amount in zip(stay.enter.tolist(), stay.leave.tolist(), amounts, strict=True):
        change[enter] += amount
        change[leave] -= amount
    return list(accumulate(change))


def deviation_of(stay: Stay, values: Floats) -> Floats:
    """The root of the exact variance of a sample, rounded; null under two values, and when the variance overflows."""
    whole, lowest = _integers(values)
    scale = 1 << (-2 * lowest)
    sums, squares = _totals(stay, whole), _totals(stay, [amount * amount for amount in whole])
    variance = [
        _divided(n * square - total * total, scale * n * (n - 1)) if n > 1 else np.nan
        for n, total, square in zip(counted(stay).tolist(), sums, squares, strict=True)
    ]
    return np.sqrt(np.array(variance, np.float64))


def _divided(numerator: int, denominator: int) -> float:
    try:
        return numerator / denominator  # of two integers: correctly rounded
    except OverflowError:
        return np.nan


def last_of(stay: Stay, rank: Ints, values: Floats) -> Floats:
    """The value of the row with the highest rank, null included."""
    top = highest(stay, rank)
    return np.where(top < 0, np.nan, values[top]) if len(values) else np.full(stay.steps, np.nan)


def first_of(stay: Stay, rank: Ints, values: Floats) -> Floats:
    """The value of the row with the lowest rank, null included."""
    return last_of(stay, -rank, values)


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


def highest(stay: Stay, rank: Ints) -> Ints:
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


def ordered_of(stay: Stay, values: Floats, q: float) -> Floats:
    """The value at rank floor(q × (n − 1)) of the n values that are in, in ascending order."""
    changes = _comings_and_goings(stay, values.tolist())
    inside: list[float] = []
    found = np.full(stay.steps, np.nan)
    for position, step in enumerate(changes):
        for value, sign in step:
            if sign > 0:
                insort(inside, value)
            else:
                del inside[bisect_left(inside, value)]
        if inside:
            found[position] = inside[math.floor(q * (len(inside) - 1))]
    return found


def _comings_and_goings(stay: Stay, items: Sequence[Any]) -> list[list[tuple[Any, int]]]:
    """At each position, what comes (+1) and goes (−1): comings first, so that nothing goes before it came."""
    changes: list[list[tuple[Any, int]]] = [[] for _ in range(stay.steps)]
    for enter, item in zip(stay.enter.tolist(), items, strict=True):
        changes[enter].append((item, 1))
    for leave, item in zip(stay.leave.tolist(), items, strict=True):
        changes[leave].append((item, -1))
    return changes


def distinct_of(stay: Stay, codes: Ints) -> Ints:
    """How many different codes are in."""
    changes = _comings_and_goings(stay, codes.tolist())
    present: dict[int, int] = {}
    number = np.zeros(stay.steps, np.int64)
    for position, step in enumerate(changes):
        for code, sign in step:
            present[code] = present.get(code, 0) + sign
            if not present[code]:
                del present[code]
        number[position] = len(present)
    return number


def folded(
    stay: Stay, empty: State, add: Callable[[State, list[int]], State], answer: Callable[[State], float]
) -> Floats:
    """A fold over the rows that are in, for states from which nothing can be taken out again.

    A row's stay is a few nodes of a binary tree over the positions; the way from the root to a position passes all rows
    that are in there. So each row is added about log₂(steps) times, and not once for each position.

    Args:
        stay: when each row is in.
        empty: the state of no rows.
        add: a new state with these rows; the given one stays as it is.
        answer: of a state.
    """
    found = np.full(stay.steps, np.nan)
    size = 1 << max(stay.steps - 1, 0).bit_length()
    rows = _on_tree(stay, size)
    pending: list[tuple[int, int, int, State]] = [(1, 0, size, empty)]
    while pending:
        node, start, width, state = pending.pop()
        if start >= stay.steps:
            continue
        state = add(state, rows[node]) if node in rows else state
        if width == 1:
            found[start] = answer(state)
            continue
        half = width // 2
        pending += [(2 * node, start, half, state), (2 * node + 1, start + half, half, state)]
    return found


def _on_tree(stay: Stay, size: int) -> dict[int, list[int]]:
    rows: dict[int, list[int]] = {}
    for row, (enter, leave) in enumerate(zip(stay.enter.tolist(), stay.leave.tolist(), strict=True)):
        low, high = enter + size, leave + size
        while low < high:
            if low & 1:
                rows.setdefault(low, []).append(row)
                low += 1
            if high & 1:
                high -= 1
                rows.setdefault(high, []).append(row)
            low, high = low // 2, high // 2
    return rows
