from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core.errors import DataError, NotEnoughData
from ml_platform.stats import quantile_interval

scipy_stats = pytest.importorskip("scipy.stats")


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=50, max_size=400), st.floats(0.2, 0.8))
def test_the_point_is_the_order_statistic_and_lies_within_its_interval(values, q):
    found = quantile_interval(values, q)
    assert found.point == sorted(values)[max(1, math.ceil(len(values) * q)) - 1]
    assert found.low <= found.point <= found.high


@pytest.mark.parametrize(("q", "n"), [(0.5, 200), (0.95, 500), (0.99, 2_000)])
def test_the_order_statistics_cover_by_the_exact_binomial(q, n):
    found = quantile_interval(np.arange(1, n + 1), q)
    low, high = int(found.low), int(found.high)
    # P(the low-th value is below the quantile and the high-th is above it), without any normal limit.
    covered = scipy_stats.binom.cdf(high - 1, n, q) - scipy_stats.binom.cdf(low - 1, n, q)
    assert covered >= 0.94


def test_it_covers_a_skewed_distribution_as_often_as_it_says():
    random = np.random.default_rng(3)
    truth = math.exp(scipy_stats.norm.ppf(0.99))
    held = [quantile_interval(random.lognormal(size=1_000), 0.99).contains(truth) for _ in range(600)]
    assert np.mean(held) >= 0.93


def test_too_few_values_for_the_upper_bound_are_refused():
    with pytest.raises(NotEnoughData, match="values"):
        quantile_interval(range(100), 0.99)
    with pytest.raises(NotEnoughData):
        quantile_interval([], 0.5)
    with pytest.raises(DataError, match="q"):
        quantile_interval([1.0], 1.0)
