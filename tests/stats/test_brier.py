"""The Brier score, its skill against the training base rate, and the interval against a bootstrap."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from ml_platform.core.errors import DataError, NotEnoughData
from ml_platform.stats import bootstrap_interval, brier, brier_skill, brier_skill_interval

ROWS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=2, max_size=50).filter(
    lambda rows: len({y for _, y in rows}) == 2
)


def sample(n=3000, noise=0.5, seed=0):
    random = np.random.default_rng(seed)
    logits = random.normal(-2, 1, n)
    labels = (random.random(n) < 1 / (1 + np.exp(-logits))).astype(int)
    return 1 / (1 + np.exp(-(logits + noise * random.normal(size=n)))), labels


@given(ROWS)
def test_brier_agrees_with_scikit_learn(rows):
    p, y = zip(*rows, strict=True)
    assert brier(p, y) == pytest.approx(brier_score_loss(y, p), abs=1e-12)


@given(ROWS, st.floats(0.01, 0.99))
def test_skill_is_one_minus_the_ratio_and_its_interval_holds_it(rows, rate):
    p, y = zip(*rows, strict=True)
    skill = brier_skill(p, y, rate)
    assert skill == pytest.approx(1 - brier_score_loss(y, p) / brier_score_loss(y, [rate] * len(y)), abs=1e-9)
    interval = brier_skill_interval(p, y, rate)
    assert interval.point == skill
    assert interval.low <= skill <= interval.high <= 1


def test_skill_worked_by_hand():
    # losses 0.04 + 0.04 against 0.25 + 0.25
    assert brier_skill([0.2, 0.8], [0, 1], 0.5) == pytest.approx(1 - 0.04 / 0.25)


@pytest.mark.parametrize("rate", [0.03, 0.1, 0.37])
def test_saying_the_base_rate_has_no_skill_at_all(rate):
    labels = [0] * 90 + [1] * 10
    assert brier_skill([rate] * 100, labels, rate) == 0
    interval = brier_skill_interval([rate] * 100, labels, rate)
    assert (interval.point, interval.low, interval.high) == (0, 0, 0)


@given(st.floats(0, 1), st.integers(1, 99))
def test_no_constant_beats_the_rate_of_the_rows(constant, positives):
    labels = [1] * positives + [0] * (100 - positives)
    assert brier_skill([constant] * 100, labels, positives / 100) <= 1e-12


def test_constant_nearer_to_the_new_rate_has_skill_which_is_why_the_slope_is_gated_too():
    labels = [0] * 97 + [1] * 3
    assert brier_skill([0.03] * 100, labels, 0.15) > 0


def test_skill_tells_a_good_model_from_noise():
    good, labels = sample()
    assert brier_skill_interval(good, labels, labels.mean()).low > 0
    noise = np.random.default_rng(1).permutation(good)
    assert brier_skill_interval(noise, labels, labels.mean()).high < 0


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_interval_is_the_one_of_a_paired_bootstrap(level):
    p, y = sample()
    ours, reference = (p - y) ** 2, (0.15 - y) ** 2
    judge = bootstrap_interval(
        lambda rows: 1 - ours[rows].mean() / reference[rows].mean(), y.size, seed=1, resamples=2000, level=level
    )
    interval = brier_skill_interval(p, y, 0.15, level)
    assert (interval.low, interval.high) == pytest.approx((judge.low, judge.high), abs=0.005)


def test_order_of_rows_changes_no_bit():
    p, y = sample(999)
    order = np.random.default_rng(1).permutation(999)
    assert brier(p[order], y[order]) == brier(p, y)
    assert brier_skill_interval(p[order], y[order], 0.1) == brier_skill_interval(p, y, 0.1)


def test_rows_or_training_of_one_class_are_not_enough():
    for measure in (brier_skill, brier_skill_interval):
        for p, y, rate in [([], [], 0.1), ([0.1, 0.1], [0, 0], 0.1), ([0.1, 0.1], [1, 1], 0.1)]:
            with pytest.raises(NotEnoughData):
                measure(p, y, rate)
        for rate in (0.0, 1.0):
            with pytest.raises(NotEnoughData) as refused:
                measure([0.1, 0.2], [0, 1], rate)
            assert refused.value.field == "base_rate"
        for rate in (-0.1, 1.5, math.nan):
            with pytest.raises(DataError) as refused:
                measure([0.1, 0.2], [0, 1], rate)
            assert refused.value.field == "base_rate"
    with pytest.raises(NotEnoughData):
        brier([], [])
    with pytest.raises(DataError) as bad:
        brier([0.1, 2.0], [0, 1])
    assert bad.value.field == "probabilities"
