"""Divergences against scipy and a published example; quantile edges against their promises, row by row."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from ml_platform.core.errors import DataError, NotEnoughData
from ml_platform.stats import BinCounts, bin_counts, js_divergence, kl_divergence, psi, quantile_edges

COUNTS = st.integers(1, 12).flatmap(
    lambda bins: st.tuples(*[st.lists(st.integers(0, 50), min_size=bins, max_size=bins).filter(any)] * 2)
)
VALUES = st.one_of(
    st.lists(st.integers(0, 6).map(float), min_size=1, max_size=120),  # many ties
    st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=120),
)

# The worked example of the Wikipedia article "Kullback-Leibler divergence" (binomial against uniform), in nats.
BINOMIAL, UNIFORM = [9, 12, 4], [1, 1, 1]
FORWARD, BACKWARD = 0.0852996, 0.097455


def test_kl_is_the_published_example():
    assert kl_divergence(BINOMIAL, UNIFORM, smoothing=0) == pytest.approx(FORWARD, abs=5e-8)
    assert kl_divergence(UNIFORM, BINOMIAL, smoothing=0) == pytest.approx(BACKWARD, abs=5e-7)


def test_psi_is_the_sum_of_both_published_divergences():
    assert psi(UNIFORM, BINOMIAL, smoothing=0) == pytest.approx(FORWARD + BACKWARD, abs=1e-6)


def test_psi_worked_by_hand():
    # (0.2-0.1) ln 2 + (0.3-0.3) ln 1 + (0.5-0.6) ln(5/6) = 0.0693147 + 0 + 0.0182322
    assert psi([100, 300, 600], [200, 300, 500], smoothing=0) == pytest.approx(0.0875469, abs=5e-8)


def test_psi_smooths_each_side_by_one_half_a_bin():
    # (0 + .5) / (10 + 1) and (10 + .5) / 11 against (5 + .5) / 11 twice
    expected = (0.5 - 0.5 / 11) * math.log(5.5 / 0.5) + (0.5 - 10.5 / 11) * math.log(5.5 / 10.5)
    assert psi([0, 10], [5, 5]) == pytest.approx(expected)


@given(COUNTS, st.sampled_from([0.5, 1.0, 1e-4]))
def test_psi_and_kl_agree_with_scipy(counts, smoothing):
    p, q = (np.array(side) + smoothing for side in counts)
    assert kl_divergence(*counts, smoothing) == pytest.approx(entropy(p, q), abs=1e-12)
    assert psi(*counts, smoothing) == pytest.approx(entropy(p, q) + entropy(q, p), abs=1e-12)
    assert psi(*counts, smoothing) == pytest.approx(psi(*counts[::-1], smoothing), abs=1e-12)


@given(COUNTS)
def test_js_agrees_with_scipy_and_stays_within_zero_and_one(counts):
    ours = js_divergence(*counts)
    assert ours == pytest.approx(jensenshannon(*counts, base=2) ** 2, abs=1e-7)
    assert ours == pytest.approx(js_divergence(*counts[::-1]), abs=1e-12)
    assert 0 <= ours <= 1


def test_equal_shares_have_no_divergence_and_disjoint_ones_a_whole_bit():
    assert psi([1, 2, 3], [10, 20, 30], smoothing=0) == pytest.approx(0, abs=1e-15)
    assert js_divergence([1, 2, 3], [10, 20, 30]) == pytest.approx(0, abs=1e-15)
    assert js_divergence([1, 0, 2], [0, 5, 0]) == 1


def test_without_smoothing_a_bin_that_one_side_lacks_is_refused_not_infinite():
    for e, a in (([1, 0], [1, 1]), ([1, 1], [1, 0])):
        with pytest.raises(DataError):
            psi(e, a, smoothing=0)
    with pytest.raises(DataError) as refused:
        kl_divergence([1, 1], [1, 0], smoothing=0)
    assert refused.value.field == "q_counts"
    assert kl_divergence([1, 0], [1, 1], smoothing=0) == pytest.approx(math.log(2))
    assert kl_divergence([1, 0, 3], [3, 0, 1], smoothing=0) == pytest.approx(kl_divergence([1, 3], [3, 1], smoothing=0))
    assert psi([1, 0, 3], [3, 0, 1], smoothing=0) == pytest.approx(psi([1, 3], [3, 1], smoothing=0))


def test_bad_counts_are_refused_by_name():
    for e, a, field in [
        ([1, 2], [1, 2, 3], "actual_counts"),
        ([1, -2], [1, 2], "expected_counts"),
        ([1, 2], [1, math.nan], "actual_counts"),
    ]:
        with pytest.raises(DataError) as refused:
            psi(e, a)
        assert refused.value.field == field
    for smoothing in (-0.1, math.nan, math.inf):
        with pytest.raises(DataError) as refused:
            psi([1], [1], smoothing)
        assert refused.value.field == "smoothing"


@pytest.mark.parametrize("nothing", [[0, 0], []])
def test_nothing_counted_is_not_a_distribution(nothing):
    for measure in (psi, kl_divergence, js_divergence):
        with pytest.raises(NotEnoughData):
            measure(nothing, [1, 2])
        with pytest.raises(NotEnoughData):
            measure([1, 2], nothing)


def test_edges_of_distinct_values_are_their_exact_quantiles():
    values = np.random.default_rng(0).permutation(np.arange(1000.0))
    edges = quantile_edges(values)
    assert edges.tolist() == [99.5, 199.5, 299.5, 399.5, 499.5, 599.5, 699.5, 799.5, 899.5]
    np.testing.assert_array_equal(edges, np.quantile(values, np.arange(1, 10) / 10, method="averaged_inverted_cdf"))
    assert bin_counts(values, edges).counts == (100,) * 10


@given(VALUES, st.integers(1, 12), st.integers(1, 15))
def test_edges_keep_every_promise(values, bins, min_rows):
    edges = quantile_edges(values, bins, min_rows)
    counted = bin_counts(values, edges)
    assert edges.size <= bins - 1 or edges.size == 0
    assert (np.diff(edges) > 0).all()
    assert edges.size == 0 or min(values) < edges[0]
    assert edges.size == 0 or edges[-1] < max(values)
    assert sum(counted.counts) == len(values)
    assert edges.size == 0 or min(counted.counts) >= min_rows
    np.testing.assert_array_equal(quantile_edges(values[::-1], bins, min_rows), edges)


def slow_edge_ranks(values, bins):
    """Rows below each edge, for min_rows = 1: the nearest border between distinct values, the lower one if as near."""
    borders = [sum(v < level for v in values) for level in sorted(set(values))[1:]]
    wanted = [i * len(values) / bins for i in range(1, bins)]
    return sorted({min(borders, key=lambda border: (abs(border - w), border)) for w in wanted}) if borders else []


@given(VALUES, st.integers(1, 12))
def test_edges_lie_at_the_nearest_border_between_ties(values, bins):
    edges = quantile_edges(values, bins, min_rows=1)
    below = [sum(v < edge for v in values) for edge in edges]
    wanted = slow_edge_ranks(values, bins)
    if max(values) - min(values) > 1e-280:  # else the last border may have no number between its neighbours
        assert below == wanted


def test_ten_rows_a_bin_is_enough_and_nine_are_not():
    assert quantile_edges(np.arange(20.0), bins=2).tolist() == [9.5]
    assert quantile_edges(np.arange(19.0), bins=2).tolist() == []
    assert quantile_edges(np.arange(100.0), bins=10).size == 9
    assert quantile_edges(np.arange(99.0), bins=10).size < 9


def test_mass_at_zero_and_yes_or_no_columns_keep_their_border():
    assert quantile_edges([0.0] * 890 + [1.0] * 80 + [2.0] * 30).tolist() == [0.5]
    assert quantile_edges([0.0] * 700 + [1.0] * 200 + [2.0] * 100).tolist() == [0.5, 1.5]
    assert quantile_edges([0.0] * 50 + [1.0] * 50).tolist() == [0.5]
    assert quantile_edges([0.0] * 95 + [1.0] * 5).tolist() == []  # fewer than ten ones: not published


def test_one_distinct_value_has_no_edges():
    assert quantile_edges([3.0] * 100).tolist() == []


def test_neighbouring_floats_are_still_separated():
    low, middle, high = 1.0, math.nextafter(1, 2), 2.0
    edges = quantile_edges([low] * 10 + [middle] * 10 + [high] * 10, bins=3)
    assert bin_counts([low, middle, high], edges).counts == (1, 1, 1)
    assert quantile_edges([low] * 10 + [middle] * 10, bins=2).tolist() == []  # its only edge would be the maximum


def test_nulls_are_left_out_of_edges_and_counted_apart():
    values = np.concatenate([np.arange(100.0), [math.nan] * 7])
    edges = quantile_edges(values, bins=4)
    np.testing.assert_array_equal(edges, quantile_edges(np.arange(100.0), bins=4))
    assert bin_counts(values, edges) == BinCounts((25, 25, 25, 25), 7)


def test_bins_are_closed_on_the_left():
    assert bin_counts([0.9, 1.0, 1.1, 2.0, -math.inf, math.inf], [1.0, 2.0]) == BinCounts((2, 2, 2), 0)


def test_no_values_are_counted_as_zeros_but_have_no_edges():
    assert bin_counts([], [1.0]) == BinCounts((0, 0), 0)
    assert bin_counts([math.nan], []) == BinCounts((0,), 1)
    for nothing in ([], [math.nan, math.nan]):
        with pytest.raises(NotEnoughData) as refused:
            quantile_edges(nothing)
        assert refused.value.field == "values"


def test_bad_values_and_edges_are_refused_by_name():
    with pytest.raises(DataError) as refused:
        quantile_edges([1.0, math.inf])
    assert refused.value.field == "values"
    for edges in ([1.0, 1.0], [2.0, 1.0], [math.nan], [math.inf]):
        with pytest.raises(DataError) as refused:
            bin_counts([1.0], edges)
        assert refused.value.field == "edges"
    for arguments, field in [({"bins": 0}, "bins"), ({"min_rows": 0}, "min_rows")]:
        with pytest.raises(DataError) as refused:
            quantile_edges([1.0], **arguments)
        assert refused.value.field == field
