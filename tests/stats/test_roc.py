"""The ROC curve against scikit-learn and against the AUC."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from ml_platform.core.errors import DataError, NotEnoughData
from ml_platform.stats import auc, roc_curve

ROWS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 1)), min_size=2, max_size=40).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


@given(ROWS)
def test_curve_agrees_with_scikit_learn(rows):
    scores, labels = np.array(rows).T
    for ours, judge in zip(
        roc_curve(scores, labels), metrics.roc_curve(labels, scores, drop_intermediate=False), strict=True
    ):
        np.testing.assert_allclose(ours, judge)


@given(ROWS)
def test_area_under_the_curve_is_the_auc(rows):
    scores, labels = np.array(rows).T
    false, true, _ = roc_curve(scores, labels)
    trapezoids = np.diff(false) * (true[1:] + true[:-1]) / 2
    assert trapezoids.sum() == pytest.approx(auc(scores, labels), abs=1e-12)


def test_curve_runs_from_nothing_positive_to_all():
    false, true, thresholds = roc_curve([0.9, 0.4, 0.4, 0.1], [1, 1, 0, 0])
    assert false.tolist() == [0, 0, 0.5, 1]
    assert true.tolist() == [0, 0.5, 1, 1]
    assert thresholds.tolist() == [math.inf, 0.9, 0.4, 0.1]


def test_one_class_is_not_enough_and_nan_is_refused():
    with pytest.raises(NotEnoughData):
        roc_curve([0.1, 0.2], [1, 1])
    with pytest.raises(DataError) as refused:
        roc_curve([0.1, math.nan], [0, 1])
    assert refused.value.field == "scores"
