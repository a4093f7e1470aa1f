"""How far two distributions are apart, over aligned counts; and the exact bins that such counts come from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ml_platform.core.errors import DataError, NotEnoughData
from ml_platform.stats.chi_square import chi_square_quantile
from ml_platform.stats.inputs import Floats, counts, finite, generator, vector, whole

__all__ = ["BinCounts", "bin_counts", "js_divergence", "kl_divergence", "psi", "psi_noise", "quantile_edges"]

_COCHRAN = 5  # expected rows a bin from which the chi-square limit holds
_DRAWS = 200


@dataclass(frozen=True)
class BinCounts:
    """Rows a bin (one more than there are edges), and the rows without a value."""

    counts: tuple[int, ...]
    nulls: int


def psi(expected_counts: npt.ArrayLike, actual_counts: npt.ArrayLike, smoothing: float = 0.5) -> float:
    """The Population Stability Index: the sum of (a - e) ln(a / e) over the bins' shares; at least 0, in nats.

    Shares are smoothed on both sides, (count + smoothing) / (total + smoothing × bins), so that an empty bin gives a
    finite number; the default is Jeffreys' prior. It equals kl(actual, expected) + kl(expected, actual). Without any
    shift it is about (bins - 1) (1 / n_expected + 1 / n_actual) by noise alone: judge it beside that.

    Sources: N. Siddiqi (2006), Credit Risk Scorecards; B. Yurdakul (2018), Statistical Properties of PSI.

    >>> round(psi([100, 300, 600], [200, 300, 500], smoothing=0), 6)
    0.087547

    Args:
        expected_counts: counts (or shares, with ``smoothing=0``) of the reference, one a bin.
        actual_counts: counts of the rows compared, same bins in the same order.
        smoothing: added to each count, ≥ 0.

    Raises:
        NotEnoughData: nothing was counted on one side.
        DataError: lengths differ, negative or NaN counts; without smoothing, a bin that only one side has.
    """
    e, a = _shares(expected_counts, actual_counts, smoothing, "expected_counts", "actual_counts")
    _refuse_infinite((e == 0) != (a == 0), "actual_counts")
    held = e > 0
    return float(np.sum((a[held] - e[held]) * np.log(a[held] / e[held])))


def psi_noise(
    expected_counts: npt.ArrayLike,
    actual_counts: npt.ArrayLike,
    *,
    level: float = 0.999,
    smoothing: float = 0.5,
    seed: int = 0,
) -> float:
    """The PSI that two samples of these sizes from one population stay below with probability ``level``.

    A PSI above a fixed limit, but not above this, says nothing. Without a shift PSI / (1 / n + 1 / m) is chi-square
    with bins − 1 degrees of freedom; that limit holds where every bin expects five rows on both sides (Cochran). With
    rarer bins, where smoothing and discreteness matter, both samples are drawn 200 times from the pooled shares, and a
    scaled chi-square with the mean and the variance of their PSI gives the bound (Satterthwaite). Where most categories
    have been seen once or twice, the pooled shares know too few of them, and the bound is some percent low.

    Sources: B. Yurdakul (2018), Statistical Properties of PSI, 3.3; W. G. Cochran (1952), Annals of Mathematical
    Statistics 23:315; F. E. Satterthwaite (1946), Biometrics Bulletin 2:110.

    >>> round(psi_noise([100] * 10, [100] * 10), 3)
    0.056

    Args:
        expected_counts: rows a bin of the reference.
        actual_counts: rows a bin of the window, same bins.
        level: probability of staying below.
        smoothing: as for ``psi``.
        seed: of the draws.

    Raises:
        NotEnoughData: nothing was counted on one side.
        DataError: lengths differ, negative or NaN counts; a level outside (0, 1).
    """
    e, a = _aligned(expected_counts, actual_counts, "expected_counts", "actual_counts")
    held = e + a > 0
    e, a = e[held], a[held]
    n, m = e.sum(), a.sum()
    if e.size == 1:
        return 0.0
    pooled = (e + a) / (n + m)
    if pooled.min() * min(n, m) >= _COCHRAN:
        return chi_square_quantile(e.size - 1, level) * float(1 / n + 1 / m)
    random = generator(seed)
    drawn = _psi_rows(random.multinomial(int(n), pooled, _DRAWS), random.multinomial(int(m), pooled, _DRAWS), smoothing)
    mean, variance = float(drawn.mean()), float(drawn.var(ddof=1))
    if variance == 0:
        return mean
    return variance / (2 * mean) * chi_square_quantile(2 * mean * mean / variance, level)


def _psi_rows(expected: npt.NDArray[np.int64], actual: npt.NDArray[np.int64], smoothing: float) -> Floats:
    """The PSI of each row of counts; a bin that a row has on neither side counts for nothing there."""
    held = expected + actual > 0
    bins = held.sum(axis=1, keepdims=True)
    e, a = (
        (counted + smoothing) / (counted.sum(axis=1, keepdims=True) + smoothing * bins)
        for counted in (expected, actual)
    )
    rows: Floats = np.where(held, (a - e) * np.log(a / e), 0.0).sum(axis=1)
    return rows


def kl_divergence(p_counts: npt.ArrayLike, q_counts: npt.ArrayLike, smoothing: float = 0.5) -> float:
    """The Kullback-Leibler divergence of q from p, sum p ln(p / q), in nats; smoothed as ``psi`` is.

    Source: S. Kullback, R. A. Leibler (1951), Annals of Mathematical Statistics 22:79.

    Raises:
        NotEnoughData: nothing was counted on one side.
        DataError: as for ``psi``; without smoothing, a bin that p has and q has not.
    """
    p, q = _shares(p_counts, q_counts, smoothing, "p_counts", "q_counts")
    _refuse_infinite((p > 0) & (q == 0), "q_counts")
    return max(0.0, _relative_entropy(p, q))


def js_divergence(p_counts: npt.ArrayLike, q_counts: npt.ArrayLike) -> float:
    """The Jensen-Shannon divergence in bits: 0 for equal shares, 1 for no common bin; symmetric, needs no smoothing.

    It is the divergence; the distance that some libraries return is its square root.

    Source: J. Lin (1991), IEEE Transactions on Information Theory 37:145.

    Raises:
        NotEnoughData: nothing was counted on one side.
        DataError: lengths differ, negative or NaN counts.
    """
    p, q = _shares(p_counts, q_counts, 0.0, "p_counts", "q_counts")
    middle = (p + q) / 2
    nats = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return min(1.0, max(0.0, nats / float(np.log(2))))


def _shares(
    first: npt.ArrayLike, second: npt.ArrayLike, smoothing: float, first_field: str, second_field: str
) -> tuple[Floats, Floats]:
    one, other = _aligned(first, second, first_field, second_field)
    if not 0 <= smoothing < np.inf:
        raise DataError("The smoothing is negative or not finite.", field="smoothing", next_step="Pass 0.5.")
    one, other = one + smoothing, other + smoothing
    return one / one.sum(), other / other.sum()


def _aligned(first: npt.ArrayLike, second: npt.ArrayLike, first_field: str, second_field: str) -> tuple[Floats, Floats]:
    one, other = counts(first, first_field), counts(second, second_field)
    if one.size != other.size:
        raise DataError("The counts differ in length.", field=second_field, next_step="Count over the same bins.")
    return one, other


def _refuse_infinite(bins: npt.NDArray[np.bool_], field: str) -> None:
    if bins.any():
        raise DataError(
            "A bin is empty on one side only, so the divergence is infinite.",
            field=field,
            next_step="Pass a positive smoothing.",
        )


def _relative_entropy(p: Floats, q: Floats) -> float:
    held = p > 0
    return float(np.sum(p[held] * np.log(p[held] / q[held])))


def quantile_edges(values: npt.ArrayLike, bins: int = 10, min_rows: int = 10) -> Floats:
    """Strictly increasing interior edges at exact quantiles, each bin holding at least ``min_rows`` of the values.

    The i-th edge has (as nearly as ties allow) i / bins of the values below it and lies midway between the two
    neighbouring distinct values: an exact quantile, but no row's own value, and strictly between minimum and maximum.
    Equal values share a bin: an edge that would cut a tie moves to its nearer end, to the lower one when both are as
    near. Edges are then dropped, going up, until each bin holds ``min_rows``. At most bins - 1 edges; none for one
    distinct value or fewer than 2 × min_rows rows. NaN means null and is left out.

    Raises:
        NotEnoughData: no values, or all null.
        DataError: infinite values, bins or min_rows below 1.
    """
    array = vector(values, "values")
    ordered = np.sort(finite(array[~np.isnan(array)], "values"))
    whole(bins, "bins", least=1)
    whole(min_rows, "min_rows", least=1)
    n = ordered.size
    if n == 0:
        raise NotEnoughData("There are no values.", field="values", next_step="Use a column that has values.")
    cuts = np.flatnonzero(np.diff(ordered) > 0) + 1  # rows below each border between distinct values
    if cuts.size == 0:
        return np.empty(0)
    wanted = np.arange(1, bins) * n / bins
    after = np.minimum(np.searchsorted(cuts, wanted), cuts.size - 1)
    before = np.maximum(after - 1, 0)
    nearer = np.where(wanted - cuts[before] <= np.abs(cuts[after] - wanted), before, after)
    edges: Floats = np.array(
        [_between(ordered, cut) for cut in _merged(np.unique(cuts[nearer]), n, min_rows)], dtype=float
    )
    return np.compress(edges < ordered[-1], edges)


def _merged(cuts: npt.NDArray[np.int64], n: int, min_rows: int) -> list[int]:
    kept: list[int] = []
    last = 0
    for cut in cuts.tolist():
        if cut - last >= min_rows and n - cut >= min_rows:
            kept.append(cut)
            last = cut
    return kept


def _between(ordered: Floats, cut: int) -> float:
    below, above = float(ordered[cut - 1]), float(ordered[cut])
    middle = below / 2 + above / 2  # halves first: the sum of two large numbers may overflow
    return middle if below < middle < above else above  # neighbours in float64 have nothing between them


def bin_counts(values: npt.ArrayLike, edges: npt.ArrayLike) -> BinCounts:
    """How many values fall into each of the len(edges) + 1 bins, and how many are null (NaN).

    Bins are left-closed: bin i holds edges[i - 1] ≤ value < edges[i]; the first has no lower end, the last no upper, so
    -infinity and +infinity are counted there. No values at all is an answer (zeros), not an error.

    Raises:
        DataError: edges that are NaN, infinite or not strictly increasing; values that are not numbers.
    """
    array, edge_array = vector(values, "values"), finite(edges, "edges")
    if (np.diff(edge_array) <= 0).any():
        raise DataError("The edges do not increase strictly.", field="edges", next_step="Sort and deduplicate them.")
    null = np.isnan(array)
    bins = np.searchsorted(edge_array, array[~null], side="right")
    return BinCounts(tuple(np.bincount(bins, minlength=edge_array.size + 1).tolist()), int(np.count_nonzero(null)))
