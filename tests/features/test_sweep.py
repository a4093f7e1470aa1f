from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ml_platform.features import sweep

DOUBLES = st.floats(allow_nan=False, allow_infinity=False)
STEPS = 6


@st.composite
def stays(draw: Any, values: Any) -> tuple[sweep.Stay, np.ndarray]:
    rows = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 5), values), max_size=8))
    enter = np.array([row[0] for row in rows], np.int64)
    leave = np.minimum(enter + np.array([row[1] for row in rows], np.int64), STEPS - 1)
    return sweep.Stay(enter, leave, STEPS), np.array([row[2] for row in rows], np.float64)


def inside(stay: sweep.Stay, values: np.ndarray, position: int) -> list[Fraction]:
    return [Fraction(v) for v in values[(stay.enter <= position) & (position < stay.leave)].tolist()]


def rounded(exact: Fraction) -> float:
    try:
        return float(exact)
    except OverflowError:
        return np.nan


EDGE = (sweep.Stay(np.array([0, 0]), np.array([3, 4]), STEPS), np.array([2.0**52, 2.0**52 + 1]))
HUGE = (sweep.Stay(np.array([0, 0, 1]), np.array([3, 4, 2]), STEPS), np.array([1.7e308, 1.7e308, -1.7e308]))


@given(stays(DOUBLES) | stays(st.integers(-9, 9)))
@example(EDGE)
@example(HUGE)
@settings(max_examples=150, deadline=None)
def test_sums_and_means_are_the_exact_ones_rounded_once(case: Any) -> None:
    stay, values = case
    sums, means = sweep.sum_of(stay, values), sweep.mean_of(stay, values)
    for position in range(STEPS):
        present = inside(stay, values, position)
        wanted = [rounded(sum(present)), rounded(sum(present) / len(present))] if present else [np.nan, np.nan]
        np.testing.assert_array_equal([sums[position], means[position]], wanted)


@given(stays(DOUBLES) | stays(st.integers(-9, 9)))
@example(EDGE)
@example(HUGE)
@settings(max_examples=150, deadline=None)
def test_deviations_are_the_root_of_the_exact_variance(case: Any) -> None:
    stay, values = case
    got = sweep.deviation_of(stay, values)
    for position in range(STEPS):
        present = inside(stay, values, position)
        n, wanted = len(present), np.nan
        if n > 1:
            wanted = np.sqrt(rounded(sum((v - sum(present) / n) ** 2 for v in present) / (n - 1)))
        np.testing.assert_array_equal(got[position], wanted)


@given(stays(st.integers(-9, 9)), st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_orders_and_folds_are_those_of_the_rows_that_are_in(case: Any, q: float) -> None:
    stay, values = case
    rank = np.arange(len(values))[::-1].copy()
    ordered, first = sweep.ordered_of(stay, values, q), sweep.first_of(stay, rank, values)
    sets: list[frozenset[int]] = []

    def answer(state: frozenset[int]) -> float:
        sets.append(state)
        return float(len(state))

    sizes = sweep.folded(stay, frozenset(), lambda state, rows: state | frozenset(rows), answer)
    for position in range(STEPS):
        here = np.flatnonzero((stay.enter <= position) & (position < stay.leave))
        present = sorted(values[here].tolist())
        wanted = present[math.floor(q * (len(present) - 1))] if present else np.nan
        np.testing.assert_array_equal(ordered[position], wanted)
        np.testing.assert_array_equal(first[position], values[here[-1]] if present else np.nan)
        assert sizes[position] == len(here)
        assert frozenset(here.tolist()) in sets


def test_nothing_in_is_null_or_zero() -> None:
    nobody = sweep.Stay(np.empty(0, np.int64), np.empty(0, np.int64), 2)
    none = np.empty(0)
    for function in (sweep.sum_of, sweep.mean_of, sweep.largest_of, sweep.smallest_of, sweep.deviation_of):
        assert np.isnan(function(nobody, none)).tolist() == [True, True]
    assert sweep.counted(nobody).tolist() == [0, 0]
    assert sweep.distinct_of(nobody, np.empty(0, np.int64)).tolist() == [0, 0]
