"""Equal-mass calibration against a slow reference; its interval against the truth of simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.core.errors import DataError, NotEnoughData
from ml_platform.stats import ece_interval, equal_mass_ece, reliability

ROWS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 1)), min_size=1, max_size=60)


def slow_bins(rows, bins):
    """Each distinct probability goes whole to the part of the ranks that its middle rank lies in."""
    parts = {}
    for value in sorted({p for p, _ in rows}):
        below = sum(p < value for p, _ in rows)
        tied = [(p, y) for p, y in rows if p == value]
        part = math.floor(bins * (2 * below + len(tied)) / (2 * len(rows)) + 1e-12)
        parts.setdefault(part, []).extend(tied)
    return [parts[part] for part in sorted(parts)]


def simulated(random, n, rate=0.15, slope=1.0, shift=0.0):
    """(predicted, labels, true probability): miscalibrated by slope and shift on the logit."""
    middle = math.log(rate / (1 - rate))
    logits = random.normal(middle, 0.8, n)
    truth = 1 / (1 + np.exp(-(middle + slope * (logits - middle) + shift)))
    return 1 / (1 + np.exp(-logits)), (random.random(n) < truth).astype(int), truth


def true_error(predicted, truth, bins=10):
    parts = np.array_split(np.argsort(predicted), bins)
    return sum(abs((predicted[part] - truth[part]).sum()) for part in parts) / predicted.size


@given(ROWS, st.integers(1, 12))
def test_bins_and_error_agree_with_the_slow_reference(rows, bins):
    probabilities, labels = np.array([p / 8 for p, _ in rows]), np.array([y for _, y in rows])
    parts = slow_bins(rows, bins)
    table = reliability(probabilities, labels, bins)
    assert table.count == tuple(len(part) for part in parts)
    assert table.mean_probability == pytest.approx([np.mean([p / 8 for p, _ in part]) for part in parts])
    assert table.observed == pytest.approx([np.mean([y for _, y in part]) for part in parts])
    gaps = np.abs(np.subtract(table.mean_probability, table.observed))
    assert equal_mass_ece(probabilities, labels, bins) == pytest.approx(np.average(gaps, weights=table.count))


@given(ROWS, st.randoms(use_true_random=False))
def test_order_of_rows_changes_no_bit(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    one, other = (([p / 8 for p, _ in some], [y for _, y in some]) for some in (rows, shuffled))
    assert equal_mass_ece(*one) == equal_mass_ece(*other)
    assert reliability(*one) == reliability(*other)
    if len({y for _, y in rows}) == 2:
        assert ece_interval(*one, seed=3, resamples=20) == ece_interval(*other, seed=3, resamples=20)


def test_distinct_probabilities_make_bins_of_equal_mass():
    probabilities = np.linspace(0.01, 0.99, 1003)
    counts = reliability(probabilities, probabilities > 0.5).count
    assert len(counts) == 10
    assert max(counts) - min(counts) <= 1


def test_error_worked_by_hand():
    # bins {0.1, 0.2 | 0.7, 0.8}: |0.15 - 0| and |0.75 - 0.5|
    assert equal_mass_ece([0.1, 0.2, 0.7, 0.8], [0, 0, 0, 1], bins=2) == pytest.approx((0.15 + 0.25) / 2)


def test_constant_base_rate_has_almost_no_error_so_the_error_alone_fails_nobody():
    random = np.random.default_rng(4)
    labels = random.random(3000) < 0.03
    constant = np.full(3000, 0.03)
    assert equal_mass_ece(constant, labels) < 0.01
    assert len(reliability(constant, labels).count) == 1
    assert ece_interval(constant, labels, seed=1).high < 0.02


def test_interval_is_repeatable_and_the_seed_matters():
    predicted, labels, _ = simulated(np.random.default_rng(0), 500)
    one = ece_interval(predicted, labels, seed=1, resamples=100)
    assert ece_interval(predicted, labels, seed=1, resamples=100) == one
    assert ece_interval(predicted, labels, seed=2, resamples=100) != one
    assert one.point == equal_mass_ece(predicted, labels)
    assert one.low <= one.point <= one.high


def test_interval_is_the_stated_formula_over_plain_resamples():
    predicted, labels, _ = simulated(np.random.default_rng(0), 300, slope=0.4, shift=1.0)
    order = np.lexsort((labels, predicted))
    p, y = predicted[order], labels[order]
    parts = np.array_split(np.arange(300), 10)
    random = np.random.Generator(np.random.PCG64(9))
    errors = []
    for _ in range(200):
        rows = random.integers(0, 300, 300)
        errors.append(sum(abs((p - y)[rows[np.isin(rows, part)]].sum()) for part in parts) / 300)
    low, high = np.quantile(errors, [0.05, 0.95])
    noise = sum(math.sqrt(2 / math.pi * (p[part] * (1 - p[part])).sum()) for part in parts) / 300
    point = equal_mass_ece(predicted, labels)
    interval = ece_interval(predicted, labels, seed=9, resamples=200, level=0.9)
    assert interval.high == pytest.approx(point + high - np.mean(errors))
    assert interval.low == pytest.approx(point - (np.mean(errors) - low) - noise)
    assert interval.low > 0


@pytest.mark.parametrize(("slope", "shift"), [(1, 0), (0.7, 0), (1, 0.15), (0.5, 0.3), (1, 0.5)])
def test_upper_bound_covers_the_true_error(slope, shift):
    random = np.random.default_rng(17)
    covered = above = 0
    for seed in range(120):
        predicted, labels, truth = simulated(random, 1000, slope=slope, shift=shift)
        interval = ece_interval(predicted, labels, seed=seed, resamples=150)
        covered += true_error(predicted, truth) <= interval.high
        above += interval.low > true_error(predicted, truth)
    assert covered >= 0.94 * 120  # 97.5 % nominal, three standard errors below
    assert above <= 0.06 * 120


def test_upper_bound_shrinks_towards_the_truth_for_a_perfect_model():
    random = np.random.default_rng(5)
    highs = []
    for n in (1000, 4000, 16000):
        predicted, labels, _ = simulated(random, n, rate=0.03)
        interval = ece_interval(predicted, labels, seed=1, resamples=300)
        assert interval.low == 0
        highs.append(interval.high)
    assert highs[0] > highs[1] > highs[2]
    assert highs[1] < 0.02


def test_bad_input_is_refused_by_name():
    for p, y, arguments, field in [
        ([0.1, math.nan], [0, 1], {}, "probabilities"),
        ([0.1, 1.1], [0, 1], {}, "probabilities"),
        ([-0.1, 1.0], [0, 1], {}, "probabilities"),
        ([0.1, 0.2], [0, 0.5], {}, "labels"),
        ([0.1, 0.2], [0], {}, "labels"),
        ([0.1, 0.2], [0, 1], {"bins": 0}, "bins"),
    ]:
        for measure in (equal_mass_ece, reliability, lambda *a, **k: ece_interval(*a, seed=1, **k)):
            with pytest.raises(DataError) as refused:
                measure(p, y, **arguments)
            assert refused.value.field == field


def test_no_rows_have_no_calibration_and_one_class_no_interval():
    for measure in (equal_mass_ece, reliability):
        with pytest.raises(NotEnoughData):
            measure([], [])
    for labels in ([], [0, 0], [1, 1]):
        with pytest.raises(NotEnoughData):
            ece_interval([0.01, 0.02][: len(labels)], labels, seed=1)
