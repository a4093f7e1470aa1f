"""What the statistics accept: checked, float64, one-dimensional; errors name the argument, never a value."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ml_platform.core.errors import DataError, NotEnoughData

__all__ = [
    "Floats",
    "both_classes",
    "count",
    "counts",
    "finite",
    "generator",
    "labels01",
    "probabilities01",
    "same_length",
    "vector",
    "whole",
]

Floats = npt.NDArray[np.float64]

_NUMERIC_KINDS: Final = "biuf"


def vector(values: npt.ArrayLike, field: str) -> Floats:
    """One-dimensional float64; NaN may be in it."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise DataError("The array does not have one dimension.", field=field, next_step="Pass one value a row.")
    if array.dtype.kind not in _NUMERIC_KINDS and array.size:
        raise DataError("The array is not numeric.", field=field, next_step="Convert it to numbers.")
    return array.astype(np.float64)


def finite(values: npt.ArrayLike, field: str) -> Floats:
    """One-dimensional float64 without NaN and infinity.

    Raises:
        DataError: another shape or kind, NaN or infinity; names the argument.
    """
    array = vector(values, field)
    if not np.isfinite(array).all():
        raise DataError(
            "The array has NaN or infinite values.", field=field, next_step="Leave out or refuse such rows first."
        )
    return array


def probabilities01(values: npt.ArrayLike, field: str = "probabilities") -> Floats:
    """Finite and within [0, 1]."""
    array = finite(values, field)
    if ((array < 0) | (array > 1)).any():
        raise DataError(
            "A probability is outside [0, 1].", field=field, next_step="Pass probabilities, not scores or logits."
        )
    return array


def labels01(values: npt.ArrayLike, field: str = "labels") -> Floats:
    """Finite and each 0 or 1 (booleans too)."""
    array = finite(values, field)
    if ((array != 0) & (array != 1)).any():
        raise DataError("A label is neither 0 nor 1.", field=field, next_step="Pass binary labels.")
    return array


def same_length(**arrays: Floats) -> int:
    """The common number of rows, at least one.

    Raises:
        DataError: lengths differ; names the first argument whose length differs from the first one's.
        NotEnoughData: no rows.
    """
    rows: int | None = None
    for field, array in arrays.items():
        if rows is not None and array.size != rows:
            raise DataError("The arrays differ in length.", field=field, next_step="Pass the same rows in all.")
        rows = array.size
    if not rows:
        raise NotEnoughData("There are no rows.", field=next(iter(arrays)), next_step="Pass at least one row.")
    return rows


def both_classes(labels: Floats) -> tuple[int, int]:
    """(positives, negatives), both at least one.

    Raises:
        NotEnoughData: one class only.
    """
    positives = int(np.count_nonzero(labels))
    negatives = labels.size - positives
    if positives == 0 or negatives == 0:
        raise NotEnoughData(
            "The labels have one class only.", field="labels", next_step="Use rows that have both outcomes."
        )
    return positives, negatives


def counts(values: npt.ArrayLike, field: str) -> Floats:
    """Finite and not negative, with a positive sum.

    Raises:
        NotEnoughData: nothing was counted.
    """
    array = finite(values, field)
    if (array < 0).any():
        raise DataError("A count is negative.", field=field, next_step="Pass counts.")
    if not array.sum() > 0:
        raise NotEnoughData("Nothing was counted.", field=field, next_step="Use a period that has rows.")
    return array


def whole(value: int, field: str, *, least: int) -> int:
    """A whole number that is at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise DataError(
            f"The number is not a whole one of at least {least}.", field=field, next_step="Pass such a number."
        )
    return int(value)


def count(successes: int, n: int, *, successes_field: str, n_field: str) -> tuple[int, int]:
    """(successes, n) with 0 ≤ successes ≤ n and n ≥ 1.

    Raises:
        NotEnoughData: n is 0.
    """
    whole(successes, successes_field, least=0)
    if whole(n, n_field, least=0) == 0:
        raise NotEnoughData("There are no trials.", field=n_field, next_step="Use a group that has rows.")
    if successes > n:
        raise DataError("More successes than trials.", field=successes_field, next_step="Check the counts.")
    return int(successes), int(n)


def generator(seed: int) -> np.random.Generator:
    """PCG64 seeded by an integer of any size (for example 256 bits of a digest)."""
    return np.random.Generator(np.random.PCG64(whole(seed, "seed", least=0)))
