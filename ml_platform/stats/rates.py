"""Two proportions compared: their ratio and their difference."""

from __future__ import annotations

import math

from ml_platform.core.errors import NotEnoughData
from ml_platform.stats.inputs import count
from ml_platform.stats.interval import Interval, two_sided_z, wilson_bounds

__all__ = ["rate_difference", "rate_ratio"]


def _counts(successes_a: int, n_a: int, successes_b: int, n_b: int) -> tuple[int, int, int, int]:
    a, n_a = count(successes_a, n_a, successes_field="successes_a", n_field="n_a")
    b, n_b = count(successes_b, n_b, successes_field="successes_b", n_field="n_b")
    return a, n_a, b, n_b


def rate_ratio(successes_a: int, n_a: int, successes_b: int, n_b: int, level: float = 0.95) -> Interval:
    """(successes_a / n_a) / (successes_b / n_b) with Katz' log interval.

    Where a cell of the two-by-two table is zero (no success, or no failure), Katz' variance is infinite or leaves
    a group out (two full groups would give [1, 1]). The bounds then come from the table with 0.5 added to each of the
    four cells (Haldane, Anscombe), widened to hold the plain ratio, which stays the point; with no success in a the
    lower bound is 0. With no success in b the ratio does not exist.

    Sources: D. Katz et al. (1978), Biometrics 34:469; S. D. Walter (1975), Biometrika 62:371 for the 0.5.

    Raises:
        NotEnoughData: an empty group, or no success in b.
        DataError: counts that are negative, not whole, or more successes than trials.
    """
    a, n_a, b, n_b = _counts(successes_a, n_a, successes_b, n_b)
    if b == 0:
        raise NotEnoughData(
            "The second group has no successes, so the ratio does not exist.",
            field="successes_b",
            next_step="Use more rows, or compare the difference.",
        )
    point = (a / n_a) / (b / n_b)
    if 0 < a < n_a and b < n_b:
        low, high = _katz(a, n_a, b, n_b, level)
        return Interval(point, low, high, level=level, method="katz-log")
    low, high = _katz(a + 0.5, n_a + 1, b + 0.5, n_b + 1, level)
    low = 0.0 if a == 0 else min(low, point)
    return Interval(point, low, max(high, point), level=level, method="katz-log-half")


def _katz(a: float, n_a: float, b: float, n_b: float, level: float) -> tuple[float, float]:
    middle = math.log((a / n_a) / (b / n_b))
    half = two_sided_z(level) * math.sqrt(1 / a - 1 / n_a + 1 / b - 1 / n_b)
    return math.exp(middle - half), math.exp(middle + half)


def rate_difference(successes_a: int, n_a: int, successes_b: int, n_b: int, level: float = 0.95) -> Interval:
    """successes_a / n_a - successes_b / n_b with Newcombe's hybrid score interval (Wilson's bounds squared and added).

    Always within [-1, 1], never of width zero, no special case for zeros.

    Source: R. G. Newcombe (1998), Statistics in Medicine 17:873, method 10.

    >>> interval = rate_difference(56, 70, 48, 80)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.0524, 0.3339)

    Raises:
        NotEnoughData: an empty group.
        DataError: counts that are negative, not whole, or more successes than trials.
    """
    a, n_a, b, n_b = _counts(successes_a, n_a, successes_b, n_b)
    share_a, share_b = a / n_a, b / n_b
    (low_a, high_a), (low_b, high_b) = wilson_bounds(share_a, n_a, level), wilson_bounds(share_b, n_b, level)
    point = share_a - share_b
    low = max(-1.0, point - math.hypot(share_a - low_a, high_b - share_b))
    high = min(1.0, point + math.hypot(high_a - share_a, share_b - low_b))
    return Interval(point, low, high, level=level, method="newcombe")
