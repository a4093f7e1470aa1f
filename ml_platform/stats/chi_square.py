"""Quantiles of the chi-square distribution, near enough for limits against noise."""

from __future__ import annotations

import math

from ml_platform.core.errors import DataError
from ml_platform.stats.interval import normal_quantile

__all__ = ["chi_square_quantile"]


def chi_square_quantile(freedom: float, p: float) -> float:
    """The value below which a chi-square variable lies with probability p.

    Exact for one and two degrees of freedom; otherwise Wilson and Hilferty's cube, within 2 % from three degrees on
    and for p from 0.9 to 0.999.

    Source: E. B. Wilson, M. M. Hilferty (1931), PNAS 17:684.

    >>> round(chi_square_quantile(9, 0.999), 1)
    28.1

    Raises:
        DataError: no positive degrees of freedom, or p is not strictly between 0 and 1.
    """
    if not (math.isfinite(freedom) and freedom > 0):
        raise DataError("The degrees of freedom are not positive.", field="freedom", next_step="Pass bins − 1.")
    z = normal_quantile(p)
    if freedom == 1:
        return normal_quantile((1 + p) / 2) ** 2
    if freedom == 2:
        return -2 * math.log1p(-p)
    share = 2 / (9 * freedom)
    return float(freedom * max(0.0, 1 - share + z * math.sqrt(share)) ** 3)
