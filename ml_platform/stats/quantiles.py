"""A quantile with an interval that assumes nothing about the distribution."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ml_platform.core.errors import DataError, NotEnoughData
from ml_platform.stats.inputs import finite
from ml_platform.stats.interval import Interval, two_sided_z

__all__ = ["quantile_interval"]


def quantile_interval(values: npt.ArrayLike, q: float, level: float = 0.95) -> Interval:
    """The q-quantile as an order statistic, between two order statistics (the binomial's, by its normal limit).

    The number of values below the true quantile is binomial (n, q) whatever the distribution, so the two order
    statistics at n q ∓ z √(n q (1 − q)) enclose it with the wanted probability.

    Source: W. J. Conover (1999), Practical Nonparametric Statistics, 3.2.

    >>> interval = quantile_interval(range(1, 1001), 0.5)
    >>> interval.point, interval.low, interval.high
    (500.0, 469.0, 532.0)

    Raises:
        NotEnoughData: no values, or so few that the upper order statistic does not exist: 99 % needs some hundreds.
        DataError: NaN or infinite values, q or level not strictly between 0 and 1.
    """
    if not 0 < q < 1:
        raise DataError("The quantile is not between 0 and 1.", field="q", next_step="Pass for example 0.99.")
    ordered = np.sort(finite(values, "values"))
    n, z = ordered.size, two_sided_z(level)
    half = z * math.sqrt(n * q * (1 - q))
    low, high = math.floor(n * q - half), math.ceil(n * q + half) + 1
    if n == 0 or high > n:
        raise NotEnoughData(
            "Too few values for an interval of this quantile.", field="values", next_step="Use a longer window."
        )
    at = max(1, math.ceil(n * q))
    return Interval(ordered[at - 1], ordered[max(low, 1) - 1], ordered[high - 1], level=level, method="order")
