"""Ratios and differences of rates: published intervals, scipy, and tables with zeros."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats.contingency import relative_risk

from ml_platform.core.errors import DataError, NotEnoughData
from ml_platform.stats import rate_difference, rate_ratio

GROUP = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def rounded(interval, digits=4):
    return round(interval.point, digits), round(interval.low, digits), round(interval.high, digits)


# Newcombe (1998), Statistics in Medicine 17:873, table II, method 10
@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ((56, 70, 48, 80), (0.2, 0.0524, 0.3339)),
        ((9, 10, 3, 10), (0.6, 0.1705, 0.8090)),
        ((5, 56, 0, 29), (0.0893, -0.0381, 0.1926)),
        ((0, 10, 0, 10), (0.0, -0.2775, 0.2775)),
        ((10, 10, 0, 10), (1.0, 0.6075, 1.0)),
    ],
)
def test_difference_is_the_published_one(table, expected):
    assert rounded(rate_difference(*table)) == expected


@given(GROUP, GROUP)
def test_difference_turns_round_with_the_groups_and_is_never_empty(a, b):
    one, other = rate_difference(*a, *b), rate_difference(*b, *a)
    assert (other.point, other.low, other.high) == pytest.approx((-one.point, -one.high, -one.low))
    assert -1 <= one.low <= one.point <= one.high <= 1
    assert one.high - one.low > 0


def test_ratio_is_the_published_one():
    # the example in SciPy's documentation of relative_risk
    interval = rate_ratio(27, 122, 44, 487)
    assert rounded(interval) == (2.4495, 1.5837, 3.7887)
    assert interval.method == "katz-log"


@given(GROUP.filter(lambda g: 0 < g[0] < g[1]), GROUP.filter(lambda g: 0 < g[0] < g[1]), st.sampled_from([0.9, 0.95]))
def test_ratio_agrees_with_scipy_where_no_cell_is_zero(a, b, level):
    interval = rate_ratio(*a, *b, level)
    judge = relative_risk(*a, *b)
    bounds = judge.confidence_interval(level)
    assert interval.point == pytest.approx(judge.relative_risk)
    assert (interval.low, interval.high) == pytest.approx((bounds.low, bounds.high))


@given(GROUP, GROUP.filter(lambda g: g[0] > 0))
def test_ratio_is_always_finite_holds_its_point_and_is_never_empty(a, b):
    interval = rate_ratio(*a, *b)
    assert 0 <= interval.low <= interval.point <= interval.high < math.inf
    assert interval.low < interval.high


def test_two_full_groups_of_three_prove_nothing():
    interval = rate_ratio(3, 3, 3, 3)
    assert interval.point == 1
    assert interval.low < 0.8
    assert interval.high > 1.25
    assert interval.method == "katz-log-half"


@pytest.mark.parametrize("table", [(0, 10, 5, 10), (10, 10, 5, 10), (5, 10, 10, 10)])
def test_each_zero_cell_alone_asks_for_the_half(table):
    assert rate_ratio(*table).method == "katz-log-half"
    assert rate_ratio(9, 10, 1, 10).method == "katz-log"


def test_half_is_added_to_each_cell_where_one_is_zero():
    a, b, n_a, n_b = 10.5, 6.5, 11, 11
    half = 1.959963984540054 * math.sqrt(1 / a - 1 / n_a + 1 / b - 1 / n_b)
    middle = math.log(a / n_a / (b / n_b))
    interval = rate_ratio(10, 10, 6, 10)
    assert (interval.low, interval.high) == pytest.approx((math.exp(middle - half), math.exp(middle + half)))
    assert interval.point == pytest.approx(10 / 6)


def test_no_success_in_a_gives_a_lower_bound_of_zero():
    interval = rate_ratio(0, 50, 25, 50)
    assert (interval.point, interval.low) == (0, 0)
    assert 0 < interval.high < 0.5


def test_no_success_in_b_has_no_ratio():
    for a in (0, 5):
        with pytest.raises(NotEnoughData) as refused:
            rate_ratio(a, 10, 0, 10)
        assert refused.value.field == "successes_b"


def test_empty_groups_and_impossible_counts_are_refused_by_name():
    for compare in (rate_ratio, rate_difference):
        for table, field in [((0, 0, 1, 2), "n_a"), ((1, 2, 0, 0), "n_b")]:
            with pytest.raises(NotEnoughData) as empty:
                compare(*table)
            assert empty.value.field == field
        for table, field in [((3, 2, 1, 2), "successes_a"), ((1, 2, 3, 2), "successes_b"), ((1, 2, 1, -2), "n_b")]:
            with pytest.raises(DataError) as refused:
                compare(*table)
            assert refused.value.field == field
