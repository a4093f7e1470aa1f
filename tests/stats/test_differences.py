from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.core.errors import DataError
from ml_platform.stats import Interval, interval_difference, interval_ratio, rate_difference, wilson


@given(st.integers(1, 500), st.integers(1, 500), st.data())
def test_of_two_wilson_intervals_it_is_newcombes(n, m, data):
    a, b = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    found, known = interval_difference(wilson(a, n), wilson(b, m)), rate_difference(a, n, b, m)
    assert found.low == pytest.approx(max(known.low, found.low), abs=1e-12)
    assert (max(-1.0, found.low), min(1.0, found.high)) == pytest.approx((known.low, known.high), abs=1e-12)


@given(st.floats(0.1, 100), st.floats(0.1, 100))
def test_a_ratio_turned_around_is_its_inverse(one, other):
    a, b = (Interval(x, x * 0.9, x * 1.2, method="test") for x in (one, other))
    found, turned = interval_ratio(a, b), interval_ratio(b, a)
    assert found.point == pytest.approx(one / other)
    assert (found.low, found.high) == pytest.approx((1 / turned.high, 1 / turned.low))


def test_normal_intervals_give_the_normal_interval_of_the_difference():
    a, b = (Interval(x, x - 3, x + 3, method="test") for x in (10, 6))
    assert interval_difference(a, b).low == pytest.approx(4 - math.hypot(3, 3))


def test_levels_must_agree_and_ratios_need_positive_bounds():
    with pytest.raises(DataError, match="level"):
        interval_difference(wilson(1, 2), wilson(1, 2, level=0.9))
    with pytest.raises(DataError, match="low"):
        interval_ratio(wilson(0, 5), wilson(1, 5))
