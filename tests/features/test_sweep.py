from __future__ import annotations

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


def test_nothing_in_is_null_or_zero() -> None:
    nobody = sweep.Stay(np.empty(0, np.int64), np.empty(0, np.int64), 2)
    none = np.empty(0)
    for function in (sweep.sum_of, sweep.mean_of, sweep.largest_of, sweep.smallest_of):
        assert np.isnan(function(nobody, none)).tolist() == [True, True]
    assert sweep.counted(nobody).tolist() == [0, 0]
    assert sweep.distinct_of(nobody, np.empty(0, np.int64)).tolist() == [0, 0]
