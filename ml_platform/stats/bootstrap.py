"""The percentile bootstrap for any statistic of rows."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ml_platform.core.errors import NotEnoughData
from ml_platform.stats.inputs import generator, whole
from ml_platform.stats.interval import Interval, two_sided_z

__all__ = ["bootstrap_interval"]

_LARGEST_UNDEFINED_SHARE = 0.05


def bootstrap_interval(
    statistic: Callable[[npt.NDArray[np.int64]], float],
    n: int,
    *,
    seed: int,
    resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """The percentile interval of a statistic over resampled rows, equal for equal arguments.

    Resampling is paired by nature: the statistic gets row numbers and may index as many arrays as it likes. Row
    numbers mean the caller's row order: bring rows into a canonical order first where it may differ.

    Args:
        statistic: from row numbers (int64, length n, with repeats) to a number; NaN where a resample leaves it
            undefined (one class only, for example). Those are left out, up to 5 % of the resamples.
        n: number of rows.
        seed: whole number ≥ 0 of any size, for PCG64.
        resamples: how many; the ends of a 95 % interval want 1,000.
        level: coverage in (0, 1).

    Source: B. Efron, R. Tibshirani (1993), An Introduction to the Bootstrap, chapter 13.

    Raises:
        NotEnoughData: no rows, the statistic is undefined on the rows themselves or on over 5 % of the resamples.
    """
    whole(resamples, "resamples", least=2)
    two_sided_z(level)  # refuses an impossible level
    random = generator(seed)
    if whole(n, "n", least=0) == 0:
        raise NotEnoughData("There are no rows.", field="n", next_step="Pass at least one row.")
    point = float(statistic(np.arange(n, dtype=np.int64)))
    values = np.array([statistic(random.integers(0, n, n)) for _ in range(resamples)], dtype=np.float64)
    defined = values[~np.isnan(values)]
    if math.isnan(point) or resamples - defined.size > _LARGEST_UNDEFINED_SHARE * resamples:
        raise NotEnoughData(
            "The statistic is undefined on too many resamples.",
            field="statistic",
            next_step="Use more rows of both classes.",
        )
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(point, low, high, level=level, method="bootstrap-percentile")
