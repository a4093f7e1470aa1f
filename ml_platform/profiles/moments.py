"""Mean and variance of float32 values from exact sums: any order, any split into parts, the same bits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

__all__ = ["Moments"]

_SHIFT: Final = 149  # the least float32 is 2^-149, so that every value is a whole number of it
_CHUNK: Final = 1 << 17  # so many products of 36 bits of one exponent add up within the 53 of a float64
_CLASSES: Final = 1 << 9  # sign and exponent
_HIGH: Final = np.uint32(0xFFFFF000)  # sign, exponent and the upper half of the significand


@dataclass(frozen=True)
class Moments:
    """Exact sums of n float32 values.

    Values of one sign and exponent are whole numbers of one unit, so float64 adds them without rounding; the sums by
    exponent are then added as Python's whole numbers. Merging two parts gives exactly the whole.

    Attributes:
        n: values.
        total: their sum, in units of 2^-149.
        squares: the sum of their squares, in units of 2^-298.
    """

    n: int = 0
    total: int = 0
    squares: int = 0

    @classmethod
    def of(cls, values: npt.NDArray[np.float32]) -> Self:
        """Of finite values."""
        total = squares = 0
        for start in range(0, len(values), _CHUNK):
            part = np.ascontiguousarray(values[start : start + _CHUNK], np.float32)
            bits = part.view(np.uint32)
            classes = (bits >> np.uint32(23)).astype(np.int64)
            x = part.astype(np.float64)
            high = (bits & _HIGH).view(np.float32).astype(np.float64)
            total += _exact(classes, x, _SHIFT)
            squares += _exact(classes, x * high, 2 * _SHIFT) + _exact(classes, x * (x - high), 2 * _SHIFT)
        return cls(len(values), total, squares)

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.n + other.n, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> float | None:
        """Rounded once; None without values."""
        return None if self.n == 0 else float(Fraction(self.total, self.n << _SHIFT))

    @property
    def variance(self) -> float | None:
        """Of the sample (n − 1), rounded once; None below two values."""
        if self.n < 2:
            return None
        spread = self.n * self.squares - self.total * self.total
        return float(Fraction(spread, self.n * (self.n - 1) << 2 * _SHIFT))

    def to_json(self) -> dict[str, Any]:
        """Whole numbers beyond 2^53 as text, as JSON wants them."""
        return {"n": self.n, "total": str(self.total), "squares": str(self.squares)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(int(document["n"]), int(document["total"]), int(document["squares"]))


def _exact(classes: npt.NDArray[np.int64], weights: npt.NDArray[np.float64], shift: int) -> int:
    sums = np.bincount(classes, weights=weights, minlength=_CLASSES)
    return sum(int(math.ldexp(value, shift)) for value in sums[sums != 0].tolist())
