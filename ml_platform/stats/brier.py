"""The Brier score and its skill against a given base rate."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ml_platform.core.errors import NotEnoughData
from ml_platform.stats.inputs import Floats, both_classes, labels01, probabilities01, same_length
from ml_platform.stats.interval import Interval, two_sided_z

__all__ = ["brier", "brier_skill", "brier_skill_interval"]


def brier(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The mean squared difference of probability and outcome: 0 is perfect.

    Source: G. W. Brier (1950), Monthly Weather Review 78:1.

    Raises:
        NotEnoughData: no rows.
        DataError: lengths differ, NaN, probabilities outside [0, 1], labels that are not binary.
    """
    probability_array, label_array = probabilities01(probabilities), labels01(labels)
    same_length(probabilities=probability_array, labels=label_array)
    return _mean(np.square(probability_array - label_array))


def brier_skill(probabilities: npt.ArrayLike, labels: npt.ArrayLike, base_rate: float) -> float:
    """1 - brier(probabilities) / brier(base rate): above 0 means better than always saying the base rate.

    The base rate is *given*: the training one, the best constant that could be known. Saying it for all rows has the
    skill 0 exactly. Another constant has a positive skill only where it lies nearer to the rate of these rows than
    the training rate does, so this number alone does not stop constants: ``calibration_slope`` has none for them.

    Raises:
        NotEnoughData: no rows, or one class only.
        DataError: as for ``brier``, or a base rate outside (0, 1).
    """
    ours, reference = _losses(probabilities, labels, base_rate)
    return 1 - _mean(ours) / _mean(reference)


def brier_skill_interval(
    probabilities: npt.ArrayLike, labels: npt.ArrayLike, base_rate: float, level: float = 0.95
) -> Interval:
    """The skill with its normal interval by the delta method for a ratio of two means over the same rows.

    With losses a (ours) and b (base rate's) and r = mean a / mean b, the variance is var(a - r b) / (n mean(b)²). It
    pairs the rows as a bootstrap would, needs no seed, and costs one pass. The skill is at most 1, so is the bound.
    Saying the base rate gives [0, 0]: a gate must ask for a lower bound *above* 0.

    Raises:
        NotEnoughData: no rows, or one class only.
        DataError: as for ``brier_skill``.
    """
    ours, reference = _losses(probabilities, labels, base_rate)
    scale = _mean(reference)
    ratio = _mean(ours) / scale
    spread = ours - ratio * reference  # mean 0 by construction
    variance = _mean(np.square(spread)) / (ours.size - 1)
    half = two_sided_z(level) * math.sqrt(variance) / scale
    point = 1 - ratio
    return Interval(point, point - half, min(1.0, point + half), level=level, method="delta")


def _losses(probabilities: npt.ArrayLike, labels: npt.ArrayLike, base_rate: float) -> tuple[Floats, Floats]:
    probability_array, label_array = probabilities01(probabilities), labels01(labels)
    same_length(probabilities=probability_array, labels=label_array)
    both_classes(label_array)
    rate = float(probabilities01(np.array([base_rate], dtype=np.float64), "base_rate")[0])
    if rate in {0.0, 1.0}:
        raise NotEnoughData(
            "The training rows had one class only.", field="base_rate", next_step="Train on rows of both classes."
        )
    return np.square(probability_array - label_array), np.square(rate - label_array)


def _mean(values: Floats) -> float:
    return float(np.sort(values).sum()) / values.size  # sorted: the order of rows changes no bit
