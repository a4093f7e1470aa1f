"""A number with its confidence interval, and the interval of one proportion."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist

from ml_platform.core.errors import DataError
from ml_platform.stats.inputs import count

__all__ = ["Interval", "normal_quantile", "two_sided_z", "wilson", "wilson_bounds"]

_JSON_NUMBERS = ("point", "low", "high", "level")


@dataclass(frozen=True)
class Interval:
    """An estimate with its two-sided confidence interval; all numbers are finite, so it is always JSON.

    Attributes:
        point: the estimate.
        low: lower bound, at most ``high``.
        high: upper bound.
        level: coverage in (0, 1).
        method: how it was computed, a short stable name (``delong-logit``, ``wilson`` …).

    Raises:
        DataError: a number is not finite, the bounds are exchanged, or the level is not in (0, 1).
    """

    point: float
    low: float
    high: float
    level: float = field(default=0.95, kw_only=True)
    method: str = field(kw_only=True)

    def __post_init__(self) -> None:
        for name in _JSON_NUMBERS:
            value = float(getattr(self, name))  # numpy scalars would leak into JSON and into digests
            object.__setattr__(self, name, value)
            if not math.isfinite(value):
                raise DataError(
                    "The interval is not finite.", field=name, next_step="Measure on more rows of both classes."
                )
        if self.low > self.high:
            raise DataError("The lower bound is above the upper.", field="low", next_step="Exchange the bounds.")
        _check_level(self.level)

    def contains(self, value: float) -> bool:
        """Whether the value lies within the closed interval."""
        return self.low <= value <= self.high

    def to_json(self) -> dict[str, float | str]:
        """A flat JSON object; ``from_json`` gives back an equal interval."""
        return {**{name: getattr(self, name) for name in _JSON_NUMBERS}, "method": self.method}

    @classmethod
    def from_json(cls, document: Mapping[str, float | str]) -> Interval:
        """The interval that ``to_json`` wrote.

        Raises:
            DataError: a key is missing; names it.
        """
        for name in (*_JSON_NUMBERS, "method"):
            if name not in document:
                raise DataError("The stored interval lacks a field.", field=name, next_step="Rebuild the evaluation.")
        return cls(
            float(document["point"]),
            float(document["low"]),
            float(document["high"]),
            level=float(document["level"]),
            method=str(document["method"]),
        )


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise DataError("The level is not between 0 and 1.", field="level", next_step="Pass for example 0.95.")


def normal_quantile(p: float) -> float:
    """The value below which a standard normal variable lies with probability p.

    >>> round(normal_quantile(0.975), 4)
    1.96

    Raises:
        DataError: p is not strictly between 0 and 1.
    """
    if not 0 < p < 1:
        raise DataError("The probability is not between 0 and 1.", field="p", next_step="Pass for example 0.975.")
    return NormalDist().inv_cdf(p)


def two_sided_z(level: float) -> float:
    """The normal quantile of a two-sided interval: 1.96 for 0.95."""
    _check_level(level)
    return normal_quantile((1 + level) / 2)


def wilson_bounds(share: float, n: float, level: float) -> tuple[float, float]:
    """Wilson's score bounds of a share of n; the share need not be a whole number of n."""
    z = two_sided_z(level)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if share == 0 else max(0.0, centre - half)  # exact at the ends, where rounding would leave 1e-17
    high = 1.0 if share == 1 else min(1.0, centre + half)
    return low, high


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """The Wilson score interval of a proportion, without continuity correction; never empty, never outside [0, 1].

    Source: E. B. Wilson (1927), JASA 22:209; method 3 in R. G. Newcombe (1998), Statistics in Medicine 17:857.

    >>> interval = wilson(81, 263)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.2553, 0.3662)

    Raises:
        NotEnoughData: n is 0.
        DataError: counts that are negative, not whole, or more successes than trials.
    """
    successes, n = count(successes, n, successes_field="successes", n_field="n")
    low, high = wilson_bounds(successes / n, n, level)
    return Interval(successes / n, low, high, level=level, method="wilson")
