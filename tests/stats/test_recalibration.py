"""Calibration slope and intercept against scikit-learn and scipy, and what has no slope."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import optimize, special
from sklearn.linear_model import LogisticRegression

from ml_platform.core.errors import DataError, NotEnoughData
from ml_platform.stats import calibration_intercept, calibration_slope
from ml_platform.stats.recalibration import PROBABILITY_CLIP

Z = 1.959963984540054


def sample(n=2000, slope=1.0, intercept=0.0, seed=0):
    random = np.random.default_rng(seed)
    logits = random.normal(-2, 1, n)
    labels = random.random(n) < special.expit(intercept + slope * logits)
    return special.expit(logits), labels.astype(int)


@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (0.4, -1), (2, 1)])
def test_slope_and_its_error_agree_with_scikit_learn(slope, intercept):
    p, y = sample(slope=slope, intercept=intercept)
    logits = special.logit(p)
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logits[:, None], y)
    fitted = model.predict_proba(logits[:, None])[:, 1]
    design = np.column_stack([np.ones(p.size), logits])
    errors = np.sqrt(np.diag(np.linalg.inv(design.T @ (design * (fitted * (1 - fitted))[:, None]))))
    interval = calibration_slope(p, y)
    assert interval.point == pytest.approx(model.coef_[0, 0], abs=1e-5)
    assert interval.high - interval.point == pytest.approx(Z * errors[1], rel=1e-4)
    assert interval.point - interval.low == pytest.approx(Z * errors[1], rel=1e-4)


@pytest.mark.parametrize("shift", [-1.0, 0.0, 0.7])
def test_intercept_is_calibration_in_the_large(shift):
    p, y = sample(intercept=shift)
    logits = special.logit(p)
    judge = optimize.brentq(lambda a: (special.expit(a + logits) - y).sum(), -10, 10, xtol=1e-12)
    fitted = special.expit(judge + logits)
    interval = calibration_intercept(p, y)
    assert interval.point == pytest.approx(judge, abs=1e-9)
    assert interval.high - interval.low == pytest.approx(2 * Z / math.sqrt((fitted * (1 - fitted)).sum()), rel=1e-6)
    assert interval.contains(shift)


def test_slope_tells_overfitted_from_timid():
    assert calibration_slope(*sample(slope=0.5)).high < 1
    assert calibration_slope(*sample(slope=1.0)).contains(1)
    assert calibration_slope(*sample(slope=2.0)).low > 1


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=4, max_size=40))
def test_slope_zeroes_the_score_or_says_why_not(rows):
    p, y = np.array([p for p, _ in rows]), np.array([y for _, y in rows])
    assume(0 < y.sum() < y.size)
    try:
        slope = calibration_slope(p, y).point
    except NotEnoughData:
        x = special.logit(np.clip(p, PROBABILITY_CLIP, 1 - PROBABILITY_CLIP))
        separated = x[y == 0].max() <= x[y == 1].min() or x[y == 1].max() <= x[y == 0].min()
        assert np.ptp(x) < 1e-9 or separated
        return
    x = special.logit(np.clip(p, PROBABILITY_CLIP, 1 - PROBABILITY_CLIP))
    x = x - x.mean()
    bound = 60 + abs(slope) * np.abs(x).max()
    intercept = optimize.brentq(lambda a: (special.expit(a + slope * x) - y).sum(), -bound, bound, xtol=1e-13)
    assert abs(((special.expit(intercept + slope * x) - y) * x).sum()) < 1e-5 * (1 + np.abs(x).sum())


@pytest.mark.parametrize("constant", [0.03, 0.5, 0.0, 1.0])
def test_constant_predictor_has_no_slope_so_no_gate_can_pass_it(constant):
    with pytest.raises(NotEnoughData) as refused:
        calibration_slope([constant] * 50, [0] * 45 + [1] * 5)
    assert refused.value.field == "probabilities"
    assert "constant" in refused.value.what
    assert calibration_intercept([0.1] * 50, [0] * 45 + [1] * 5).point == pytest.approx(0, abs=1e-9)


def test_separated_classes_have_no_finite_slope():
    for p, y in [
        ([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1]),
        ([0.1, 0.2, 0.3, 0.4], [1, 1, 0, 0]),
        ([0.1, 0.2, 0.2, 0.4], [0, 0, 1, 1]),
        ([0.1, 0.2, 0.2, 0.4], [1, 1, 0, 0]),
    ]:
        with pytest.raises(NotEnoughData) as refused:
            calibration_slope(p, y)
        assert "separate" in refused.value.what
    assert math.isfinite(calibration_slope([0.1, 0.25, 0.2, 0.4], [0, 0, 1, 1]).point)


def test_certain_predictions_are_clipped_as_stated():
    p, y = sample(300)
    p[:2], y[:2] = [0, 1], [1, 0]
    clipped = np.clip(p, 1e-6, 1 - 1e-6)
    assert calibration_slope(p, y) == calibration_slope(clipped, y)
    assert calibration_intercept(p, y) == calibration_intercept(clipped, y)
    assert PROBABILITY_CLIP == 1e-6


def test_fit_converges_where_the_last_steps_change_the_loss_by_rounding_only():
    # found by search: halving such a step until the loss falls never ends
    p = [0.5, 0.5, 0.75, 0.9453125, 0.95, 0.9975716502120011, 0.25, 0.375, 0.2523487764598272, 0.171875, 0.10261063507]
    assert math.isfinite(calibration_slope(p, [1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 0]).point)


def test_every_intercept_exists_even_where_all_predictions_are_extreme():
    random = np.random.default_rng(0)
    for _ in range(300):
        n = random.integers(3, 40)
        p = special.expit(random.normal(0, 8, n))
        y = np.where(np.arange(n) < random.integers(1, n), 1, 0)
        interval = calibration_intercept(p, y)
        logits = special.logit(np.clip(p, PROBABILITY_CLIP, 1 - PROBABILITY_CLIP))
        assert abs((special.expit(interval.point + logits) - y).sum()) < 1e-6


def test_order_of_rows_changes_no_bit():
    p, y = sample(501)
    order = np.random.default_rng(1).permutation(501)
    assert calibration_slope(p[order], y[order]) == calibration_slope(p, y)
    assert calibration_intercept(p[order], y[order]) == calibration_intercept(p, y)


def test_one_class_is_not_enough_and_bad_input_is_named():
    for measure in (calibration_slope, calibration_intercept):
        for p, y in [([], []), ([0.1, 0.2], [0, 0]), ([0.1, 0.2], [1, 1])]:
            with pytest.raises(NotEnoughData):
                measure(p, y)
        with pytest.raises(DataError) as refused:
            measure([0.1, math.nan], [0, 1])
        assert refused.value.field == "probabilities"
