"""Intervals: values, JSON, Wilson against published numbers and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ml_platform.core.errors import DataError, NotEnoughData
from ml_platform.stats import Interval, normal_quantile, wilson


# Newcombe (1998), Statistics in Medicine 17:857, table I, method 3
@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_bounds(successes, n, low, high):
    interval = wilson(successes, n)
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)
    assert interval.point == successes / n
    assert interval.method == "wilson"


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_wilson_agrees_with_scipy(counts, level):
    successes, n = counts
    interval = wilson(successes, n, level)
    judge = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    assert interval.low == pytest.approx(judge.low, abs=1e-12)
    assert interval.high == pytest.approx(judge.high, abs=1e-12)
    assert 0 <= interval.low <= interval.point <= interval.high <= 1


def test_wilson_is_exact_at_the_ends_and_never_empty():
    assert wilson(0, 7).low == 0.0
    assert wilson(0, 7).high > 0.3
    assert wilson(7, 7).high == 1.0
    assert wilson(7, 7).low < 0.7


def test_wilson_refuses_impossible_counts_and_names_them():
    with pytest.raises(NotEnoughData) as empty:
        wilson(0, 0)
    assert empty.value.field == "n"
    for successes, n, field in [(3, 2, "successes"), (-1, 2, "successes"), (1, -2, "n"), (0.5, 2, "successes")]:
        with pytest.raises(DataError) as refused:
            wilson(successes, n)
        assert refused.value.field == field


@given(st.floats(1e-9, 1 - 1e-9))
def test_normal_quantile_agrees_with_scipy(p):
    assert normal_quantile(p) == pytest.approx(stats.norm.ppf(p), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1, math.nan])
def test_normal_quantile_refuses_what_has_none(p):
    with pytest.raises(DataError) as refused:
        normal_quantile(p)
    assert refused.value.field == "p"


def test_interval_survives_json_and_holds_plain_floats():
    interval = Interval(np.float64(0.5), np.float32(0.25), 1, level=0.9, method="wilson")
    document = interval.to_json()
    assert document == {"point": 0.5, "low": 0.25, "high": 1.0, "level": 0.9, "method": "wilson"}
    assert all(type(document[name]) is float for name in ("point", "low", "high", "level"))
    assert Interval.from_json(document) == interval


def test_stored_interval_without_a_field_is_refused_by_name():
    document = Interval(0, 0, 0, method="m").to_json()
    for name in document:
        with pytest.raises(DataError) as refused:
            Interval.from_json({key: value for key, value in document.items() if key != name})
        assert refused.value.field == name


@pytest.mark.parametrize(
    ("numbers", "field"),
    [((math.inf, 0, 1), "point"), ((0, math.nan, 1), "low"), ((0, 0, math.inf), "high"), ((0, 1, 0.5), "low")],
)
def test_interval_refuses_what_json_or_a_gate_cannot_use(numbers, field):
    with pytest.raises(DataError) as refused:
        Interval(*numbers, method="m")
    assert refused.value.field == field


@pytest.mark.parametrize("level", [0, 1, 95, -0.5])
def test_interval_refuses_an_impossible_level(level):
    with pytest.raises(DataError) as refused:
        Interval(0, 0, 0, level=level, method="m")
    assert refused.value.field == "level"


def test_interval_contains_its_ends():
    interval = Interval(1, 0, 2, method="m")
    assert interval.contains(0)
    assert interval.contains(2)
    assert not interval.contains(-0.001)
    assert not interval.contains(2.001)
