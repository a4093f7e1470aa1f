"""Area under the ROC curve with DeLong's interval, alone and paired, in O(n log n).

Sources: E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson (1988), Biometrics 44:837 (structural components);
X. Sun, W. Xu (2014), IEEE Signal Processing Letters 21:1389 (the components from midranks).

Every sum runs over sorted values, so the order of the rows cannot change even the last bit of a result.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ml_platform.stats.inputs import Floats, both_classes, finite, labels01, same_length
from ml_platform.stats.interval import Interval, two_sided_z, wilson_bounds

__all__ = ["auc", "auc_interval", "paired_auc_difference"]


class _Components(NamedTuple):
    """DeLong's structural components before scaling: whole numbers and halves, so that equal ones compare equal."""

    area: float
    wins: Floats  # of each positive: negatives ranked below it, ties by half
    losses: Floats  # of each negative: positives ranked below it, ties by half


def _midranks(values: Floats) -> Floats:
    """Ranks from 1; ties share the mean of their ranks."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(sizes) - (sizes - 1) / 2
    ranks: Floats = middle[group.reshape(-1)]
    return ranks


def _components(scores: Floats, labels: Floats) -> _Components:
    is_positive = labels == 1
    positives, negatives = scores[is_positive], scores[~is_positive]
    ranks = _midranks(scores)
    wins = ranks[is_positive] - _midranks(positives)
    losses = ranks[~is_positive] - _midranks(negatives)
    return _Components(float(wins.sum()) / (positives.size * negatives.size), wins, losses)


def _checked(scores: npt.ArrayLike, labels: npt.ArrayLike, field: str = "scores") -> tuple[Floats, Floats]:
    score_array, label_array = finite(scores, field), labels01(labels)
    same_length(**{field: score_array, "labels": label_array})
    both_classes(label_array)
    return score_array, label_array


def _variance(wins: Floats, losses: Floats) -> float:
    """DeLong's variance; 0 where no component differs from another, NaN where a class has a single row."""
    if min(wins.size, losses.size) < 2:
        return math.nan
    if np.ptp(wins) == 0 and np.ptp(losses) == 0:
        return 0.0
    of_wins = float(np.var(np.sort(wins), ddof=1)) / (losses.size**2 * wins.size)
    return of_wins + float(np.var(np.sort(losses), ddof=1)) / (wins.size**2 * losses.size)


def auc(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The probability that a random positive has a higher score than a random negative; a tie counts one half.

    >>> auc([0.1, 0.4, 0.4, 0.8], [0, 0, 1, 1])
    0.875

    Args:
        scores: one finite number a row; higher means more likely positive.
        labels: 0 or 1 a row.

    Raises:
        NotEnoughData: no rows, or one class only.
        DataError: lengths differ, NaN or infinity, labels that are not binary.
    """
    return _components(*_checked(scores, labels)).area


def auc_interval(scores: npt.ArrayLike, labels: npt.ArrayLike, level: float = 0.95) -> Interval:
    """DeLong's interval of the AUC, on the logit scale, so that it stays within (0, 1) near the ends.

    Where DeLong's variance is zero (perfect separation, constant scores) or a class has a single row, the data show
    no spread and a normal interval would have width zero. Then it is Wilson's interval of the same area over
    min(positives, negatives) pairs of unshared rows, which are independent: wide, never a free pass (5 and 5 rows,
    separated: 0.57 to 1).
    ``method`` is ``delong-logit`` or ``wilson-pairs``.

    Raises:
        NotEnoughData: no rows, or one class only.
        DataError: as for ``auc``.
    """
    parts = _components(*_checked(scores, labels))
    variance = _variance(parts.wins, parts.losses)
    if not variance > 0:
        pairs = min(parts.wins.size, parts.losses.size)
        low, high = wilson_bounds(parts.area, pairs, level)
        return Interval(parts.area, low, high, level=level, method="wilson-pairs")
    odds = math.log(parts.area / (1 - parts.area))  # positive variance implies 0 < area < 1
    half = two_sided_z(level) * math.sqrt(variance) / (parts.area * (1 - parts.area))
    return Interval(parts.area, _logistic(odds - half), _logistic(odds + half), level=level, method="delong-logit")


def _logistic(x: float) -> float:
    return 0.5 * (1 + math.tanh(x / 2))


def paired_auc_difference(
    scores_a: npt.ArrayLike, scores_b: npt.ArrayLike, labels: npt.ArrayLike, level: float = 0.95
) -> Interval:
    """AUC of a minus AUC of b on the same rows, with DeLong's interval for correlated curves.

    The interval is the plain normal one, cut to [-1, 1]. Two score vectors that order all rows alike have the
    difference 0 exactly: the interval is [0, 0] (``same-order``). Where the variance is zero or a class has one row
    although the orders differ, it is Wilson's over min(positives, negatives) pairs, mapped to [-1, 1]
    (``wilson-pairs``); else ``method`` is ``delong-paired``.

    Raises:
        NotEnoughData: no rows, or one class only.
        DataError: as for ``auc``.
    """
    array_a, label_array = _checked(scores_a, labels, "scores_a")
    array_b, _ = _checked(scores_b, labels, "scores_b")
    a, b = _components(array_a, label_array), _components(array_b, label_array)
    difference = a.area - b.area
    if np.array_equal(_midranks(array_a), _midranks(array_b)):
        return Interval(0.0, 0.0, 0.0, level=level, method="same-order")
    variance = _variance(a.wins - b.wins, a.losses - b.losses)
    if not variance > 0:
        pairs = min(a.wins.size, a.losses.size)
        low, high = wilson_bounds((1 + difference) / 2, pairs, level)
        return Interval(difference, 2 * low - 1, 2 * high - 1, level=level, method="wilson-pairs")
    half = two_sided_z(level) * math.sqrt(variance)
    low, high = max(-1.0, difference - half), min(1.0, difference + half)
    return Interval(difference, low, high, level=level, method="delong-paired")
