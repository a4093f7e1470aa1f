"""The percentile bootstrap: repeatable, right where theory knows the answer, honest where a resample has none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from ml_platform.core.errors import DataError, NotEnoughData
from ml_platform.stats import auc, auc_interval, bootstrap_interval

VALUES = np.random.default_rng(3).normal(5, 2, 400)


def mean(rows):
    return float(VALUES[rows].mean())


def test_same_seed_same_interval_and_another_seed_another():
    one = bootstrap_interval(mean, 400, seed=11, resamples=200)
    assert bootstrap_interval(mean, 400, seed=11, resamples=200) == one
    assert bootstrap_interval(mean, 400, seed=12, resamples=200) != one


def test_resamples_are_those_of_pcg64():
    drawn = []
    bootstrap_interval(lambda rows: drawn.append(rows.tolist()) or 0.0, 4, seed=5, resamples=3)
    judge = np.random.Generator(np.random.PCG64(5))
    assert drawn == [[0, 1, 2, 3], *(judge.integers(0, 4, 4).tolist() for _ in range(3))]


def test_seed_may_be_a_whole_digest():
    assert bootstrap_interval(mean, 400, seed=2**256 - 1, resamples=10).method == "bootstrap-percentile"


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_interval_of_a_mean_is_the_one_of_theory(level):
    interval = bootstrap_interval(mean, 400, seed=1, resamples=4000, level=level)
    low, high = stats.norm.interval(level, VALUES.mean(), stats.sem(VALUES))
    assert interval.point == pytest.approx(VALUES.mean())
    assert interval.low == pytest.approx(low, abs=0.02)
    assert interval.high == pytest.approx(high, abs=0.02)


def test_interval_of_an_auc_is_near_delong():
    random = np.random.default_rng(2)
    labels = np.repeat([0, 1], [300, 60])
    scores = random.normal(size=360) + labels
    ours = bootstrap_interval(lambda rows: auc(scores[rows], labels[rows]), 360, seed=1, resamples=600)
    judge = auc_interval(scores, labels)
    assert (ours.low, ours.high) == pytest.approx((judge.low, judge.high), abs=0.015)


def _undefined_on(share):
    state = np.random.default_rng(0)
    first = [True]

    def statistic(rows):
        if first.pop() if first else False:
            return 1.0
        return math.nan if state.random() < share else float(rows[0])

    return statistic


def test_few_undefined_resamples_are_left_out_and_many_are_refused():
    assert bootstrap_interval(_undefined_on(0.02), 50, seed=1).high <= 49
    with pytest.raises(NotEnoughData):
        bootstrap_interval(_undefined_on(0.2), 50, seed=1)
    with pytest.raises(NotEnoughData):
        bootstrap_interval(lambda rows: math.nan, 50, seed=1, resamples=10)


@pytest.mark.parametrize(("undefined", "enough"), [(1, True), (2, False)])
def test_a_twentieth_of_the_resamples_may_be_undefined(undefined, enough):
    answers = iter([1.0, *[math.nan] * undefined, *[2.0] * 20])
    if enough:
        assert bootstrap_interval(lambda rows: next(answers), 5, seed=1, resamples=20).high == 2.0
    else:
        with pytest.raises(NotEnoughData):
            bootstrap_interval(lambda rows: next(answers), 5, seed=1, resamples=20)


def test_bad_arguments_are_refused_by_name():
    for arguments, field in [
        ({"n": 3, "seed": -1}, "seed"),
        ({"n": 3, "seed": 1.5}, "seed"),
        ({"n": 3, "seed": True}, "seed"),
        ({"n": -3, "seed": 1}, "n"),
        ({"n": 3, "seed": 1, "resamples": 1}, "resamples"),
        ({"n": 3, "seed": 1, "level": 1.0}, "level"),
    ]:
        with pytest.raises(DataError) as refused:
            bootstrap_interval(lambda rows: 0.0, **arguments)
        assert refused.value.field == field
    with pytest.raises(NotEnoughData):
        bootstrap_interval(lambda rows: 0.0, 0, seed=1)
