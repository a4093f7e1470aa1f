"""AUC and DeLong: published examples, a brute-force reference, scikit-learn, and the corners where it degenerates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ml_platform.core.errors import DataError, NotEnoughData
from ml_platform.stats import auc, auc_interval, paired_auc_difference, wilson

# DeLong et al. (1988): 43 complete patients with ovarian cancer as in the SAS/STAT User's Guide, "Comparing Receiver
# Operating Characteristic Curves": albumin, total protein, K-G score (used as 10 - score), outcome.
PATIENTS = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1
3.8 5.7 5 1  3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0
2.3 4.4 6 1  4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1
3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0
3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1  2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1
3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""
OVARIAN = np.array(PATIENTS.split(), dtype=float).reshape(-1, 4)
ALBUMIN, PROTEIN, KG, OUTCOME = OVARIAN[:, 0], OVARIAN[:, 1], 10 - OVARIAN[:, 2], OVARIAN[:, 3]

# Hanley & McNeil (1982): five ratings of 109 images; 0.8932 with standard error 0.0307 in Stata's roctab.
RATINGS = np.repeat([1, 2, 3, 4, 5] * 2, [33, 6, 6, 11, 2, 3, 2, 2, 11, 33])
ABNORMAL = np.repeat([0, 1], [58, 51])


def brute_force(scores, labels):
    """DeLong's structural components by comparing every pair: (area, of positives, of negatives)."""
    positives, negatives = scores[labels == 1], scores[labels == 0]
    wins = np.array([[(p > q) + 0.5 * (p == q) for q in negatives] for p in positives])
    return wins.mean(), wins.mean(axis=1), wins.mean(axis=0)


def brute_force_covariance(parts_a, parts_b):
    (_, positives_a, negatives_a), (_, positives_b, negatives_b) = parts_a, parts_b
    return (
        np.cov(positives_a, positives_b)[0, 1] / positives_a.size
        + np.cov(negatives_a, negatives_b)[0, 1] / negatives_a.size
    )


@st.composite
def scored_rows(draw, least_per_class=1):
    """Two tied score vectors and labels that have both classes."""
    positives = draw(st.integers(least_per_class, 12))
    negatives = draw(st.integers(least_per_class, 12))
    n = positives + negatives
    scores = st.lists(st.integers(-3, 4), min_size=n, max_size=n)
    labels = draw(st.permutations([1] * positives + [0] * negatives))
    return np.array(draw(scores)) / 4, np.array(draw(scores)) / 4, np.array(labels)


def half_width_on_logit(interval):
    low, high = (math.log(x / (1 - x)) for x in (interval.low, interval.high))
    return (high - low) / 2


def standard_error(interval):
    return half_width_on_logit(interval) / 1.959963984540054 * interval.point * (1 - interval.point)


@pytest.mark.parametrize(
    ("scores", "labels", "area", "error"),
    [
        (RATINGS, ABNORMAL, 0.8932, 0.0307),
        (ALBUMIN, OUTCOME, 0.7366, 0.0927),
        (KG, OUTCOME, 0.7258, 0.1028),
        (PROTEIN, OUTCOME, 0.6478, 0.1000),
    ],
)
def test_auc_and_standard_error_are_the_published_ones(scores, labels, area, error):
    interval = auc_interval(scores, labels)
    assert round(interval.point, 4) == area
    assert round(standard_error(interval), 4) == error


@pytest.mark.parametrize(
    ("scores", "difference", "low", "high"),
    [(ALBUMIN, 0.0108, -0.1761, 0.1976), (PROTEIN, -0.0780, -0.2830, 0.1271)],
)
def test_paired_difference_is_the_published_one(scores, difference, low, high):
    interval = paired_auc_difference(scores, KG, OUTCOME)
    assert (round(interval.point, 4), round(interval.low, 4), round(interval.high, 4)) == (difference, low, high)
    assert interval.method == "delong-paired"


@given(scored_rows())
def test_auc_agrees_with_every_pair_and_with_scikit_learn(rows):
    scores, _, labels = rows
    assert auc(scores, labels) == pytest.approx(brute_force(scores, labels)[0], abs=1e-14)
    assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-14)


@given(scored_rows(least_per_class=2), st.sampled_from([0.8, 0.95, 0.99]))
def test_interval_agrees_with_brute_force_delong(rows, level):
    scores, _, labels = rows
    parts = brute_force(scores, labels)
    variance = brute_force_covariance(parts, parts)
    assume(variance > 1e-9)
    interval = auc_interval(scores, labels, level)
    area = parts[0]
    z = {0.8: 1.2815515655446004, 0.95: 1.959963984540054, 0.99: 2.5758293035489004}[level]
    middle, half = math.log(area / (1 - area)), z * math.sqrt(variance) / (area * (1 - area))
    assert interval.low == pytest.approx(1 / (1 + math.exp(half - middle)), abs=1e-12)
    assert interval.high == pytest.approx(1 / (1 + math.exp(-half - middle)), abs=1e-12)
    assert interval.level == level
    assert interval.method == "delong-logit"


@given(scored_rows(least_per_class=2))
def test_paired_difference_agrees_with_brute_force_delong(rows):
    scores_a, scores_b, labels = rows
    a, b = brute_force(scores_a, labels), brute_force(scores_b, labels)
    variance = brute_force_covariance(a, a) + brute_force_covariance(b, b) - 2 * brute_force_covariance(a, b)
    assume(variance > 1e-9)
    interval = paired_auc_difference(scores_a, scores_b, labels)
    half = 1.959963984540054 * math.sqrt(variance)
    assert interval.point == pytest.approx(a[0] - b[0], abs=1e-14)
    assert interval.low == pytest.approx(max(-1, a[0] - b[0] - half), abs=1e-9)
    assert interval.high == pytest.approx(min(1, a[0] - b[0] + half), abs=1e-9)


@given(scored_rows(), st.randoms(use_true_random=False))
def test_order_of_rows_changes_no_bit(rows, random):
    scores_a, scores_b, labels = rows
    order = list(range(labels.size))
    random.shuffle(order)
    assert auc_interval(scores_a[order], labels[order]) == auc_interval(scores_a, labels)
    assert paired_auc_difference(scores_a[order], scores_b[order], labels[order]) == paired_auc_difference(
        scores_a, scores_b, labels
    )


@given(scored_rows())
def test_exchanging_the_models_turns_the_difference_round(rows):
    scores_a, scores_b, labels = rows
    one = paired_auc_difference(scores_a, scores_b, labels)
    other = paired_auc_difference(scores_b, scores_a, labels)
    assert (other.point, other.low, other.high) == pytest.approx((-one.point, -one.high, -one.low), abs=1e-12)


@settings(max_examples=50)
@given(scored_rows(), st.sampled_from([lambda x: 3 * x - 1, np.exp, lambda x: x**3]))
def test_only_the_order_of_scores_matters(rows, increasing):
    scores, _, labels = rows
    assert auc_interval(increasing(scores), labels) == auc_interval(scores, labels)
    same = paired_auc_difference(increasing(scores), scores, labels)
    assert (same.point, same.low, same.high, same.method) == (0.0, 0.0, 0.0, "same-order")


def test_perfect_separation_is_not_a_free_pass():
    interval = auc_interval(range(10), [0] * 5 + [1] * 5)
    judge = wilson(5, 5)
    assert (interval.point, interval.low, interval.high) == (1.0, judge.low, 1.0)
    assert interval.method == "wilson-pairs"
    assert auc_interval(range(1000), [0] * 500 + [1] * 500).low > 0.99


def test_pairs_are_counted_by_the_smaller_class():
    interval = auc_interval(range(100), [0] * 97 + [1] * 3)
    assert interval.low == wilson(3, 3).low


def test_constant_scores_have_one_half_and_exclude_no_side():
    interval = auc_interval([0.3] * 40, [0, 1] * 20)
    assert interval.point == 0.5
    assert interval.low < 0.5 < interval.high


def test_single_positive_gives_a_wide_interval_and_no_warning():
    interval = auc_interval([0.1, 0.2, 0.3, 0.4], [0, 0, 0, 1])
    assert interval.method == "wilson-pairs"
    assert interval.low < 0.25


def test_two_perfect_models_that_differ_are_not_proven_equal():
    labels = [0, 0, 0, 1, 1, 1]
    interval = paired_auc_difference([1, 2, 3, 4, 5, 6], [3, 2, 1, 6, 5, 4], labels)
    assert interval.point == 0
    assert interval.method == "wilson-pairs"
    assert interval.low < -0.3
    assert interval.high > 0.3


def test_constant_gain_over_constant_scores_is_not_proven_by_few_rows():
    interval = paired_auc_difference([1, 2, 3, 4], [0, 0, 0, 0], [0, 0, 1, 1])
    assert interval.point == 0.5
    assert interval.method == "wilson-pairs"
    assert -1 <= interval.low < 0.1
    assert interval.high <= 1


@pytest.mark.parametrize("labels", [[], [0, 0, 0], [1, 1, 1]])
def test_one_class_or_no_rows_is_not_enough(labels):
    scores = [0.1, 0.2, 0.3][: len(labels)]
    for measure in (auc, auc_interval, lambda s, y: paired_auc_difference(s, s, y)):
        with pytest.raises(NotEnoughData):
            measure(scores, labels)


@pytest.mark.parametrize(
    ("scores", "labels", "field"),
    [
        ([0.1, math.nan], [0, 1], "scores"),
        ([0.1, math.inf], [0, 1], "scores"),
        ([0.1, 0.2], [0, 2], "labels"),
        ([0.1, 0.2], [0, math.nan], "labels"),
        ([0.1, 0.2, 0.3], [0, 1], "labels"),
        ([[0.1, 0.2]], [0, 1], "scores"),
        (["a", "b"], [0, 1], "scores"),
    ],
)
def test_bad_input_is_refused_by_name(scores, labels, field):
    with pytest.raises(DataError) as refused:
        auc(scores, labels)
    assert refused.value.field == field


def test_bad_second_scores_are_named():
    with pytest.raises(DataError) as refused:
        paired_auc_difference([0.1, 0.2], [0.1, math.nan], [0, 1])
    assert refused.value.field == "scores_b"
    with pytest.raises(DataError) as refused:
        paired_auc_difference([math.nan, 0.2], [0.1, 0.3], [0, 1])
    assert refused.value.field == "scores_a"


def test_interval_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(7)
    truth = 0.7602499389065233  # P(N(1, 1) > N(0, 1)) = Phi(1 / sqrt(2))
    labels = np.repeat([0, 1], [150, 30])
    covered = sum(auc_interval(random.normal(size=180) + labels, labels).contains(truth) for _ in range(400))
    assert 0.92 * 400 <= covered <= 0.98 * 400
