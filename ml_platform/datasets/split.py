"""The split by time: the newest mature rows are the test, everything before the cut is training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from ml_platform.core.digests import document_digest
from ml_platform.core.durations import Duration
from ml_platform.core.errors import DataError, DeclarationError, NotEnoughData
from ml_platform.core.rows import micros

__all__ = ["Split", "TimeSplit", "require_two_classes"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Split:
    """What the split made of n mature rows.

    Attributes:
        train: bool[n]: rows with start < cut − gap.
        test: bool[n]: rows with start ≥ cut. A row of neither part lies in the gap.
        cut_us: label start of the oldest test row, µs since 1970 UTC.
        train_until_us: cut − gap: where training ends, exclusive.
        matured_after_cut: training rows whose label was not yet known at the cut. They are mature at the as-of time,
            so they count; the manifest says how many there are.
    """

    train: npt.NDArray[np.bool_]
    test: npt.NDArray[np.bool_]
    cut_us: int
    train_until_us: int
    matured_after_cut: int


@dataclass(frozen=True)
class TimeSplit:
    """Test = the newest share of the mature rows by label start; rows of one instant stay together.

    The test part is the smallest set of newest instants that holds at least the share. Training is every mature row
    that started before cut − gap. Moving the cut back by the label's horizon instead would leave young models without
    a positive; the manifest counts the rows concerned.

    Args:
        test: share of the mature rows, strictly between 0 and 1.
        gap: rows that started less than this before the cut belong to neither part.

    Raises:
        DeclarationError: an impossible share or duration.
    """

    test: float = 0.3
    gap: str = "0d"

    def __post_init__(self) -> None:
        if isinstance(self.test, bool) or not isinstance(self.test, int | float) or not 0 < self.test < 1:
            raise DeclarationError(
                "The test share is not between 0 and 1.", field="test", next_step="Write a share such as 0.3."
            )
        Duration.parse(self.gap, field="gap")

    def spec(self) -> dict[str, object]:
        """The canonical form."""
        return {"type": "time_split", "test": float(self.test), "gap": self.gap}

    @property
    def digest(self) -> str:
        return document_digest("definition", self.spec())

    def split(self, times_us: npt.NDArray[np.int64], matured_us: npt.NDArray[np.int64]) -> Split:
        """Splits mature rows.

        Args:
            times_us: label start of each row, int64[n], µs since 1970 UTC, in any order.
            matured_us: when each label was mature, int64[n].

        Raises:
            NotEnoughData: a part would be empty.
            DataError: the arrays differ in length.
        """
        if len(times_us) != len(matured_us):
            raise DataError("Starts and maturities differ in length.", field="matured_us", next_step="Pass one a row.")
        rows = len(times_us)
        if rows == 0:
            raise NotEnoughData(
                "There are 0 mature rows to split.", field="rows", next_step="Wait until labels mature, or move as_of."
            )
        # Fraction of the declared decimal: 0.07 * 100 is 7.000000000000001 in floating point.
        newest = math.ceil(Fraction(repr(float(self.test))) * rows)
        cut_us = int(np.sort(times_us)[rows - newest])
        cut = _EPOCH + timedelta(microseconds=cut_us)
        until_us = micros(Duration.parse(self.gap, field="gap").before(cut))
        train = times_us < until_us
        if not train.any():
            raise NotEnoughData(
                f"The training part is empty: of {rows} mature rows none started before the cut less the gap.",
                field="split",
                next_step="Use a smaller test share or gap, or wait for more instants to mature.",
            )
        late = int(np.count_nonzero(matured_us[train] > cut_us))
        return Split(train, times_us >= cut_us, cut_us, until_us, late)


def require_two_classes(labels: npt.NDArray[np.float64]) -> None:
    """Refuses a training part from which no classifier can learn.

    Raises:
        NotEnoughData: only one class; names rows and positives.
    """
    positives = int(np.count_nonzero(labels))
    if positives in {0, len(labels)}:
        raise NotEnoughData(
            f"The training part has one class only: {len(labels)} rows, {positives} positive.",
            field="label",
            next_step="Use a later as-of time, a longer horizon, or check that the outcome's column is the right one.",
        )
