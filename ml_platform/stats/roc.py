"""The ROC curve."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ml_platform.stats.inputs import Floats, both_classes, finite, labels01, same_length

__all__ = ["roc_curve"]


def roc_curve(scores: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
    """(false positive rates, true positive rates, thresholds), from (0, 0) to (1, 1), one point a distinct score.

    A row is called positive when its score ≥ the threshold. Thresholds fall strictly; the first is +infinity, at
    which nothing is positive. The trapezoids under the curve are ``auc``.

    Raises:
        NotEnoughData: no rows, or one class only.
        DataError: lengths differ, NaN or infinity, labels that are not binary.
    """
    score_array, label_array = finite(scores, "scores"), labels01(labels)
    same_length(scores=score_array, labels=label_array)
    positives, negatives = both_classes(label_array)
    distinct, group = np.unique(-score_array, return_inverse=True)
    group = group.reshape(-1)
    true = np.cumsum(np.bincount(group, weights=label_array))
    false = np.cumsum(np.bincount(group, weights=1 - label_array))
    start = np.zeros(1)
    return (
        np.concatenate([start, false / negatives]),
        np.concatenate([start, true / positives]),
        np.concatenate([np.array([np.inf]), -distinct]),
    )
