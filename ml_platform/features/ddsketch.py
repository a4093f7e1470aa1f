"""Quantiles as a DDSketch answers them: every value stands for all that are within 1 % of it.

DDSketch (Masson, Rim, Lee, VLDB 2019) counts values in buckets of growing width. Its answer is the bucket of the value
at the rank, and the buckets of a whole are the sums of those of its parts, so a quantile is a function of the values
alone: ``represented`` of the value at the rank. The mapping is the library's linearly interpolated one, which needs no
logarithm of a value and so gives the same bits on every machine.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ml_platform.core.errors import DeclarationError
from ml_platform.features.aggregations import QUANTILE_ACCURACY

__all__ = ["bucket", "quantile", "represented", "value_of"]

Floats = npt.NDArray[np.float64]


@lru_cache(maxsize=1)
def _mapping() -> Any:
    try:
        from ddsketch.mapping import LinearlyInterpolatedMapping
    except ImportError:
        raise DeclarationError(
            "quantile needs the library ddsketch.",
            field="function",
            next_step="Install dagster-ml-platform[sketches].",
        ) from None
    return LinearlyInterpolatedMapping(QUANTILE_ACCURACY)


def bucket(value: float) -> tuple[int, int]:
    """The bucket of a finite value: (sign, key of its magnitude), (0, 0) for what is as good as zero.

    Sorted by sign × key within a sign, buckets are in the order of their values.
    """
    mapping = _mapping()
    magnitude = abs(value)
    if magnitude <= mapping.min_possible:
        return 0, 0
    return (1 if value > 0 else -1), int(mapping.key(magnitude))


def value_of(sign: int, key: int) -> float:
    """The value that stands for a bucket."""
    if sign == 0:
        return 0.0
    try:
        magnitude = float(_mapping().value(key))
    except OverflowError:
        magnitude = math.inf
    return sign * min(magnitude, sys.float_info.max)


def represented(values: Floats) -> Floats:
    """For each value what its bucket says; NaN stays NaN."""
    distinct, position = np.unique(values, return_inverse=True)
    answers = [value if math.isnan(value) else value_of(*bucket(value)) for value in distinct.tolist()]
    return np.array(answers, np.float64)[position] if answers else values


def quantile(counts: Mapping[tuple[int, int], int], q: float) -> float | None:
    """The value at rank floor(q × (n − 1)) of n values counted by bucket; None of none."""
    left = math.floor(q * (sum(counts.values()) - 1))
    for sign, key in sorted(counts, key=lambda one: (one[0], one[0] * one[1])):
        left -= counts[sign, key]
        if left < 0:
            return value_of(sign, key)
    return None
