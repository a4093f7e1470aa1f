"""Two independent estimates compared, each known by its interval only."""

from __future__ import annotations

import math

from ml_platform.core.errors import DataError
from ml_platform.stats.interval import Interval

__all__ = ["interval_difference", "interval_ratio"]


def interval_difference(a: Interval, b: Interval) -> Interval:
    """The difference a − b of two independent estimates, by the method of variance estimates recovery (MOVER).

    What each interval says about the spread on its own side is squared and added; for two Wilson intervals this is
    Newcombe's interval.

    Source: G. Y. Zou, A. Donner (2008), Statistics in Medicine 27:1693.

    >>> from ml_platform.stats import wilson
    >>> found = interval_difference(wilson(56, 70), wilson(48, 80))
    >>> round(found.low, 4), round(found.high, 4)
    (0.0524, 0.3339)

    Raises:
        DataError: the intervals have two levels.
    """
    if a.level != b.level:
        raise DataError("The intervals have two levels.", field="level", next_step="Compare intervals of one level.")
    point = a.point - b.point
    low = point - math.hypot(a.point - a.low, b.high - b.point)
    high = point + math.hypot(a.high - a.point, b.point - b.low)
    return Interval(point, low, high, level=a.level, method="mover")


def interval_ratio(a: Interval, b: Interval) -> Interval:
    """The ratio a / b of two independent positive estimates: their difference on the scale of logarithms.

    Raises:
        DataError: a bound is not positive, or the intervals have two levels.
    """
    if min(a.low, b.low) <= 0:
        raise DataError("A bound is not positive.", field="low", next_step="Compare the difference.")
    logs = [
        Interval(math.log(one.point), math.log(one.low), math.log(one.high), level=one.level, method=one.method)
        for one in (a, b)
    ]
    found = interval_difference(*logs)
    low, high = math.exp(found.low), math.exp(found.high)
    return Interval(math.exp(found.point), low, high, level=a.level, method="mover-log")
