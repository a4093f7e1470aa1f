"""How sure we are of a difference between two arms: the interface, and simple intervals that may be looked at often.

A decision about a canary is taken again and again while records come in; an interval that is right once is wrong for
somebody who looks until it pleases. ``SpentIntervals`` keeps its promise over all looks of a step by giving the k-th
look the share 1 / (k (k + 1)) of the allowed error: the shares add up to one however often one looks. Confidence
sequences can take its place behind ``Intervals``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from ml_platform.core.errors import DataError
from ml_platform.stats import normal_quantile, rate_difference, wilson

__all__ = ["Bounds", "Intervals", "Share", "SpentIntervals", "quantile_bounds"]

Floats = npt.NDArray[np.float64]
_UNKNOWN: Final = math.inf


@dataclass(frozen=True)
class Share:
    """``count`` of ``n``."""

    count: int
    n: int


@dataclass(frozen=True)
class Bounds:
    """An estimate and how far off it may be; a bound is infinite where the data cannot say.

    Raises:
        DataError: a number is NaN, or the bounds are exchanged.
    """

    point: float
    low: float
    high: float
    method: str

    def __post_init__(self) -> None:
        if any(math.isnan(value) for value in (self.point, self.low, self.high)) or self.low > self.high:
            raise DataError("The bounds are no interval.", field="low", next_step="Report this: a rule is wrong.")

    @classmethod
    def nothing_known(cls, method: str) -> Bounds:
        return cls(0.0, -_UNKNOWN, _UNKNOWN, method)

    def scaled(self, by: float) -> Bounds:
        """The bounds in another unit; ``by`` is positive."""
        return Bounds(self.point * by, self.low * by, self.high * by, self.method)

    def to_json(self) -> dict[str, Any]:
        """Infinite bounds are null."""
        finite = {name: getattr(self, name) for name in ("point", "low", "high")}
        return {name: value if math.isfinite(value) else None for name, value in finite.items()} | {
            "method": self.method
        }


class Intervals(Protocol):
    """Two-sided bounds of differences, canary less primary; over all looks they fail together with chance ``alpha``.

    ``look`` counts from 1 within a step.
    """

    def share(self, one: Share, alpha: float, look: int) -> Bounds:
        """Of one share."""
        ...

    def share_difference(self, canary: Share, primary: Share, alpha: float, look: int) -> Bounds:
        """Of two shares of independent units."""
        ...

    def quantile_difference(self, canary: Floats, primary: Floats, q: float, alpha: float, look: int) -> Bounds:
        """Of the q-quantiles of two samples, in any order."""
        ...

    def mean_difference(self, canary: Floats, primary: Floats, alpha: float, look: int) -> Bounds:
        """Of two means."""
        ...


@dataclass(frozen=True)
class SpentIntervals:
    """Wilson, Newcombe, order statistics, Welch; the allowed error is spent over the looks, see the module.

    Sources: E. B. Wilson (1927), JASA 22:209; R. G. Newcombe (1998), Statistics in Medicine 17:873; H. A. David and
    H. N. Nagaraja, Order Statistics (2003), section 7.1; B. L. Welch (1947), Biometrika 34:28 (with the normal
    quantile: arms of fewer than 30 values are said to be unknown); the union bound over looks.
    """

    least_for_mean: int = 30

    @staticmethod
    def spent(alpha: float, look: int) -> float:
        """The k-th look's part of the error; the parts of all looks add up to ``alpha``.

        >>> SpentIntervals.spent(0.05, 1), round(SpentIntervals.spent(0.05, 4), 6)
        (0.025, 0.0025)
        """
        if look < 1:
            raise DataError("Looks count from 1.", field="look", next_step="Pass the number of this look.")
        return alpha / (look * (look + 1))

    def share(self, one: Share, alpha: float, look: int) -> Bounds:
        if one.n == 0:
            return Bounds.nothing_known("wilson")
        found = wilson(one.count, one.n, 1 - self.spent(alpha, look))
        return Bounds(found.point, found.low, found.high, found.method)

    def share_difference(self, canary: Share, primary: Share, alpha: float, look: int) -> Bounds:
        if not canary.n or not primary.n:
            return Bounds.nothing_known("newcombe")
        level = 1 - self.spent(alpha, look)
        found = rate_difference(canary.count, canary.n, primary.count, primary.n, level)
        return Bounds(found.point, found.low, found.high, found.method)

    def quantile_difference(self, canary: Floats, primary: Floats, q: float, alpha: float, look: int) -> Bounds:
        method = "order-statistics"
        if not len(canary) or not len(primary):
            return Bounds.nothing_known(method)
        each = self.spent(alpha, look) / 2
        one, other = quantile_bounds(canary, q, each), quantile_bounds(primary, q, each)
        return Bounds(one.point - other.point, one.low - other.high, one.high - other.low, method)

    def mean_difference(self, canary: Floats, primary: Floats, alpha: float, look: int) -> Bounds:
        if min(len(canary), len(primary)) < self.least_for_mean:
            return Bounds.nothing_known("welch-normal")
        point = float(canary.mean() - primary.mean())
        variance = canary.var(ddof=1) / len(canary) + primary.var(ddof=1) / len(primary)
        half = normal_quantile(1 - self.spent(alpha, look) / 2) * math.sqrt(float(variance))
        return Bounds(point, point - half, point + half, "welch-normal")


def quantile_bounds(values: Floats, q: float, alpha: float) -> Bounds:
    """Order statistics that hold the q-quantile with chance at least 1 − alpha, whatever the distribution.

    The number of values at or below the quantile is binomial (n, at least q): the r-th smallest is above it only if
    fewer than r are, the s-th smallest below it only if s or more are under it. Where no value is far enough out, the
    bound is infinite: 200 values cannot say how high a 99th percentile may be.

    Args:
        values: in any order, at least one.
        q: between 0 and 1, both excluded.
        alpha: chance that the bounds do not hold the quantile, half of it on each side.
    """
    if not len(values):
        raise DataError("There are no values.", field="values", next_step="Pass at least one.")
    ordered, n = np.sort(values), len(values)
    below = _binomial_cdf(n, q)
    # Index of an order statistic, from 1: the largest r with P(X < r) <= alpha/2, the smallest s with P(X >= s) <= it.
    r = int(np.searchsorted(below, alpha / 2, side="right"))
    s = int(np.searchsorted(below, 1 - alpha / 2, side="left")) + 1
    low = float(ordered[r - 1]) if r >= 1 else -_UNKNOWN
    high = float(ordered[s - 1]) if s <= n else _UNKNOWN
    return Bounds(float(ordered[min(n, max(1, math.ceil(q * n))) - 1]), low, high, "order-statistics")


def _binomial_cdf(n: int, q: float) -> Floats:
    """P(X <= k) for k = 0 … n, X binomial (n, q)."""
    if not 0 < q < 1:
        raise DataError("A quantile lies between 0 and 1.", field="q", next_step="Pass for example 0.99.")
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    k = np.arange(n + 1)
    log_mass = log_factorial[n] - log_factorial[k] - log_factorial[n - k] + k * math.log(q) + (n - k) * math.log1p(-q)
    result: Floats = np.minimum(np.cumsum(np.exp(log_mass)), 1.0)
    return result
