"""Bounds of differences: they hold what they promise, however often one looks."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.core.errors import DataError
from ml_platform.rollout import Bounds, Share, SpentIntervals
from ml_platform.rollout.intervals import quantile_bounds

RULE = SpentIntervals()


def slow_ranks(n: int, q: Fraction, half: Fraction) -> tuple[int, int]:
    """The two ranks by exact arithmetic: 0 and n + 1 where there is none."""
    mass = [math.comb(n, k) * q**k * (1 - q) ** (n - k) for k in range(n + 1)]
    low = max((r for r in range(1, n + 1) if sum(mass[:r]) <= half), default=0)
    high = min((s for s in range(1, n + 1) if sum(mass[s:]) <= half), default=n + 1)
    return low, high


@given(
    n=st.integers(1, 60),
    q=st.sampled_from([Fraction(1, 2), Fraction(9, 10), Fraction(99, 100), Fraction(1, 7)]),
    alpha=st.sampled_from([Fraction(1, 10), Fraction(1, 100), Fraction(1, 3)]),
)
def test_ranks_of_a_quantile_are_those_of_exact_arithmetic(n: int, q: Fraction, alpha: Fraction) -> None:
    found = quantile_bounds(np.arange(1, n + 1, dtype=np.float64), float(q), float(alpha))
    low, high = slow_ranks(n, q, alpha / 2)
    assert found.low == (low if low else -math.inf)
    assert found.high == (high if high <= n else math.inf)


def test_few_values_do_not_bound_a_high_quantile() -> None:
    assert quantile_bounds(np.arange(200.0), 0.99, 0.01).high == math.inf
    assert quantile_bounds(np.arange(600.0), 0.99, 0.01).high < math.inf


def test_the_order_of_values_means_nothing() -> None:
    values = np.random.Generator(np.random.PCG64(1)).normal(size=99)
    assert quantile_bounds(values, 0.5, 0.1) == quantile_bounds(values[::-1], 0.5, 0.1)


@pytest.mark.parametrize("q", [0.5, 0.9])
def test_quantile_bounds_hold_the_quantile_as_often_as_they_say(q: float) -> None:
    rng = np.random.Generator(np.random.PCG64(7))
    truth = -math.log1p(-q)
    held = sum(found.low <= truth <= found.high for found in
               (quantile_bounds(rng.exponential(size=80), q, 0.1) for _ in range(2000)))  # fmt: skip
    assert held / 2000 > 0.9 - 3 * math.sqrt(0.09 / 2000)


def test_ties_are_counted_on_the_safe_side() -> None:
    found = quantile_bounds(np.full(50, 3.0), 0.5, 0.05)
    assert (found.low, found.point, found.high) == (3.0, 3.0, 3.0)


@given(looks=st.integers(1, 300), alpha=st.floats(0.001, 0.4))
def test_all_looks_together_spend_no_more_than_alpha(looks: int, alpha: float) -> None:
    spent = [RULE.spent(alpha, look) for look in range(1, looks + 1)]
    assert math.isclose(sum(spent), alpha * looks / (looks + 1))
    assert spent == sorted(spent, reverse=True)


def test_a_later_look_is_more_careful() -> None:
    first, later = (RULE.share_difference(Share(5, 100), Share(5, 100), 0.05, look) for look in (1, 20))
    assert later.low < first.low
    assert first.high < later.high


def test_looks_count_from_one() -> None:
    with pytest.raises(DataError, match="look"):
        RULE.spent(0.05, 0)


def test_no_data_is_no_knowledge() -> None:
    none = np.empty(0)
    for found in (
        RULE.share(Share(0, 0), 0.05, 1),
        RULE.share_difference(Share(0, 0), Share(1, 2), 0.05, 1),
        RULE.share_difference(Share(1, 2), Share(0, 0), 0.05, 1),
        RULE.quantile_difference(none, np.ones(3), 0.5, 0.05, 1),
        RULE.quantile_difference(np.ones(3), none, 0.5, 0.05, 1),
        RULE.mean_difference(np.ones(29), np.ones(30), 0.05, 1),
    ):
        assert (found.low, found.high) == (-math.inf, math.inf)
        assert found.to_json() | {"low": None, "high": None} == found.to_json()


def test_a_difference_of_quantiles_is_canary_less_primary() -> None:
    slow, fast = np.linspace(100, 101, 500), np.linspace(10, 11, 500)
    found = RULE.quantile_difference(slow, fast, 0.5, 0.05, 1)
    assert 89 < found.low < found.point < found.high < 91


def test_a_difference_of_means_holds_the_truth() -> None:
    rng = np.random.Generator(np.random.PCG64(3))
    held = 0
    for _ in range(500):
        found = RULE.mean_difference(rng.normal(0.3, 2, 80), rng.normal(0, 1, 500), 0.2, 1)
        held += found.low <= 0.3 <= found.high
    assert held / 500 > 0.9 - 3 * math.sqrt(0.09 / 500)


@pytest.mark.parametrize("wrong", [(0.0, 1.0, -1.0), (math.nan, 0.0, 1.0)])
def test_bounds_that_are_no_interval_are_refused(wrong: tuple[float, float, float]) -> None:
    with pytest.raises(DataError):
        Bounds(*wrong, "x")
