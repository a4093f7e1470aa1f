"""Logistic recalibration: the slope and the intercept of outcomes on the logit of the predicted probability.

Probabilities are clipped to [1e-6, 1 - 1e-6] before the logit, so that a predicted 0 or 1 has a finite one.

Sources: D. R. Cox (1958), Biometrika 45:562; B. Van Calster et al. (2019), BMC Medicine 17:230, for the names.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from ml_platform.core.errors import NotEnoughData
from ml_platform.stats.inputs import Floats, both_classes, labels01, probabilities01, same_length
from ml_platform.stats.interval import Interval, two_sided_z

__all__ = ["PROBABILITY_CLIP", "calibration_intercept", "calibration_slope"]

PROBABILITY_CLIP: Final = 1e-6
_STEPS: Final = 100
_TOLERANCE: Final = 1e-9
_LEAST_REACH: Final = 4.0
_ROUNDING: Final = 1e-12
_CONSTANT_LOGITS: Final = 1e-9


def calibration_slope(probabilities: npt.ArrayLike, labels: npt.ArrayLike, level: float = 0.95) -> Interval:
    """The slope b of logit P(y = 1) = a + b logit(p), both fitted by maximum likelihood, with its Wald interval.

    1 is calibrated; below 1 the predictions are too extreme (overfitted), above 1 too timid. A constant predictor has
    no slope: it raises, so that no gate can pass it. A nearly constant one has an interval so wide that it holds 1:
    gate on ``brier_skill`` too.

    Raises:
        NotEnoughData: no rows, one class only, constant probabilities, or probabilities that separate the classes
            without overlap (the likelihood then has no maximum).
        DataError: lengths differ, NaN, probabilities outside [0, 1], labels that are not binary.
    """
    logits, label_array = _checked(probabilities, labels)
    if np.ptp(logits) < _CONSTANT_LOGITS:
        raise NotEnoughData(
            "The predicted probability is constant, so it has no calibration slope.",
            field="probabilities",
            next_step="Train a model that tells rows apart.",
        )
    negatives, positives = logits[label_array == 0], logits[label_array == 1]
    if negatives.max() <= positives.min() or positives.max() <= negatives.min():
        raise NotEnoughData(
            "The predictions separate the classes without overlap, so the calibration slope is infinite.",
            field="probabilities",
            next_step="Look for a feature that knows the label, or use more rows.",
        )
    centred = logits - logits.mean()  # centre and unit condition the system; the slope is scaled back
    unit = float(np.abs(centred).max())
    design = np.column_stack([np.ones_like(centred), centred / unit])
    weights, covariance = _newton(design, label_array, np.zeros_like(centred))
    return _wald(float(weights[1]) / unit, float(covariance[1, 1]) / unit**2, level)


def calibration_intercept(probabilities: npt.ArrayLike, labels: npt.ArrayLike, level: float = 0.95) -> Interval:
    """The intercept a of logit P(y = 1) = a + logit(p), the slope held at 1 (calibration in the large), Wald interval.

    0 is calibrated; above 0 the predictions are too low on the whole, below 0 too high. Defined for constants too.

    Raises:
        NotEnoughData: no rows, or one class only.
        DataError: as for ``calibration_slope``.
    """
    logits, label_array = _checked(probabilities, labels)
    weights, covariance = _newton(np.ones((logits.size, 1)), label_array, logits)
    return _wald(float(weights[0]), float(covariance[0, 0]), level)


def _checked(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Logits and labels in canonical order, so that the order of the rows changes no bit of the sums."""
    probability_array, label_array = probabilities01(probabilities), labels01(labels)
    same_length(probabilities=probability_array, labels=label_array)
    both_classes(label_array)
    order = np.lexsort((label_array, probability_array))
    clipped = np.clip(probability_array[order], PROBABILITY_CLIP, 1 - PROBABILITY_CLIP)
    return np.log(clipped) - np.log1p(-clipped), label_array[order]


def _wald(point: float, variance: float, level: float) -> Interval:
    half = two_sided_z(level) * math.sqrt(variance)
    return Interval(point, point - half, point + half, level=level, method="wald")


def _loss(labels: Floats, linear: Floats) -> float:
    return float(np.sum(np.logaddexp(0, linear) - labels * linear))


def _newton(design: Floats, labels: Floats, offset: Floats) -> tuple[Floats, Floats]:
    """Weights and their covariance (inverse information) of a logistic regression whose maximum exists.

    Newton's method; a step moves no logit by more than its present size and a little, and is halved until the loss
    does not rise, so that flat regions cannot throw it away.
    """
    weights, linear = np.zeros(design.shape[1]), offset
    loss = _loss(labels, linear)
    for _ in range(_STEPS):
        odds = np.exp(-np.abs(linear))  # at most 1: neither overflows nor rounds the curvature to 0
        fitted = np.where(linear > 0, 1, odds) / (1 + odds)
        information = design.T @ (design * (odds / (1 + odds) ** 2)[:, None])
        try:
            covariance = np.linalg.inv(information)
        except np.linalg.LinAlgError:
            break
        step = covariance @ (design.T @ (labels - fitted))
        size, largest = float(np.abs(design @ step).max()), float(np.abs(linear).max())
        if size <= _TOLERANCE * (1 + largest):
            return weights + step, covariance
        scale = min(1.0, (_LEAST_REACH + largest) / size)
        highest = loss + _ROUNDING * (1 + abs(loss))  # near the maximum, losses differ by rounding only
        while (loss := _loss(labels, design @ (weights + scale * step) + offset)) > highest and scale > _ROUNDING:
            scale /= 2
        weights = weights + scale * step
        linear = design @ weights + offset
    raise NotEnoughData(
        "The recalibration did not converge.", field="probabilities", next_step="Use more rows of both classes."
    )
