"""Calibration over bins of equal mass: reliability table, expected calibration error, and its interval.

Bins follow the rank, not the value: rows sorted by probability are cut into ``bins`` parts of equal size, and rows
with equal probabilities stay together in the part that holds the middle of their ranks. A part that gets no rows is
left out, so a constant predictor has one bin.

The expected calibration error alone fails nobody: always saying the base rate has an error near zero. Gates ask for
``calibration_slope`` and ``brier_skill`` beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ml_platform.stats.inputs import Floats, both_classes, generator, labels01, probabilities01, same_length, whole
from ml_platform.stats.interval import Interval, two_sided_z

__all__ = ["Reliability", "ece_interval", "equal_mass_ece", "reliability"]


@dataclass(frozen=True)
class Reliability:
    """The reliability table: one entry a bin, by rising probability.

    Attributes:
        mean_probability: mean predicted probability of the bin's rows.
        observed: share of positives among them.
        count: rows; their sum is all rows.
    """

    mean_probability: tuple[float, ...]
    observed: tuple[float, ...]
    count: tuple[int, ...]


@dataclass(frozen=True)
class _Binned:
    """Rows in canonical order (probability, label), and the first row of each bin."""

    probabilities: Floats
    labels: Floats
    starts: npt.NDArray[np.int64]

    def sums(self, values: Floats) -> Floats:
        return np.add.reduceat(values, self.starts)


def _binned(probabilities: npt.ArrayLike, labels: npt.ArrayLike, bins: int) -> _Binned:
    probability_array, label_array = probabilities01(probabilities), labels01(labels)
    n = same_length(probabilities=probability_array, labels=label_array)
    whole(bins, "bins", least=1)
    order = np.lexsort((label_array, probability_array))
    probability_array, label_array = probability_array[order], label_array[order]
    first = np.flatnonzero(np.diff(probability_array, prepend=-1.0) > 0)  # of each group of ties
    end = np.append(first[1:], n)
    part = bins * (first + end) // (2 * n)  # whole numbers: no rounding decides where a tie goes
    starts = first[np.flatnonzero(np.diff(part, prepend=-1))].astype(np.int64)
    return _Binned(probability_array, label_array, starts)


def reliability(probabilities: npt.ArrayLike, labels: npt.ArrayLike, bins: int = 10) -> Reliability:
    """Mean probability and observed rate in at most ``bins`` bins of equal mass, ties kept together.

    Raises:
        NotEnoughData: no rows.
        DataError: lengths differ, NaN, probabilities outside [0, 1], labels that are not binary, bins below 1.
    """
    table = _binned(probabilities, labels, bins)
    sizes = table.sums(np.ones(table.labels.size))
    return Reliability(
        tuple((table.sums(table.probabilities) / sizes).tolist()),
        tuple((table.sums(table.labels) / sizes).tolist()),
        tuple(sizes.astype(np.int64).tolist()),
    )


def equal_mass_ece(probabilities: npt.ArrayLike, labels: npt.ArrayLike, bins: int = 10) -> float:
    """The expected calibration error: the mean over rows of |mean probability - observed rate| of the row's bin.

    It is biased upwards: sampling noise alone gives a perfect model about 0.8 sqrt(p (1 - p) bins / n).

    Source: M. P. Naeini et al. (2015), AAAI; R. Roelofs et al. (2022), AISTATS, for bins of equal mass.

    Raises:
        NotEnoughData: no rows.
        DataError: as for ``reliability``.
    """
    table = _binned(probabilities, labels, bins)
    return _error(table, table.probabilities - table.labels)


def _error(table: _Binned, residuals: Floats) -> float:
    return float(np.abs(table.sums(residuals)).sum()) / residuals.size


def ece_interval(
    probabilities: npt.ArrayLike,
    labels: npt.ArrayLike,
    bins: int = 10,
    *,
    seed: int,
    resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """The expected calibration error with a bootstrap interval whose upper bound can be gated on.

    The plain error is too high by its sampling noise, and each resample adds that noise a second time. So a percentile
    bound counts the bias twice (perfect models fail: with 1,000 rows and a rate of 0.15 it is 0.058), and the basic
    ("reversed") bootstrap takes it off, but too much: its upper bound covered the truth in 88 to 96 % of simulations
    instead of 97.5. Here the resamples' spread about *their own mean* is laid around the plain error::

        high = error + (upper quantile - mean of resamples)
        low  = error - (mean of resamples - lower quantile) - noise of a perfect model, at least 0

    The upper bound keeps the plain error's own bias, on the safe side, once (simulated coverage 96 to 100 %). The lower
    bound allows for that bias in full, so it is 0 for models that may well be perfect. Bins are fixed by the rows
    given, and rows are sorted before they are drawn, so their order does not matter. Cost: ``resamples`` passes.

    Args:
        probabilities: within [0, 1], one a row.
        labels: 0 or 1, one a row.
        bins: at most this many.
        seed: whole number ≥ 0 of any size, for PCG64.
        resamples: number of resamples.
        level: coverage in (0, 1), two-sided.

    Raises:
        NotEnoughData: no rows, or one class only.
        DataError: as for ``reliability``.
    """
    table = _binned(probabilities, labels, bins)
    whole(resamples, "resamples", least=2)
    two_sided_z(level)  # refuses an impossible level
    both_classes(table.labels)  # without a single positive, no resample shows how high the rate may be
    random = generator(seed)
    n = table.labels.size
    residuals = table.probabilities - table.labels
    errors = np.empty(resamples)
    for index in range(resamples):
        times_drawn = np.bincount(random.integers(0, n, n), minlength=n)
        errors[index] = _error(table, times_drawn * residuals)
    lowest, highest = np.quantile(errors, [(1 - level) / 2, (1 + level) / 2])
    point, mean = _error(table, residuals), float(np.mean(errors))
    low = max(0.0, point - (mean - float(lowest)) - _noise(table))
    high = min(1.0, point + (float(highest) - mean))
    return Interval(point, low, high, level=level, method="bootstrap-centred")


def _noise(table: _Binned) -> float:
    """The expected error of a perfectly calibrated model with these probabilities (normal approximation)."""
    variances = table.sums(table.probabilities * (1 - table.probabilities))
    return math.sqrt(2 / math.pi) * float(np.sqrt(variances).sum()) / table.labels.size
