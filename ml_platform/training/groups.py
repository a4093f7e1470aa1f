"""Groups of a protected attribute: their counts, the best-off group, ratios and gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ml_platform.stats import Interval, rate_difference, rate_ratio
from ml_platform.training.evaluation_table import EvaluationTable

__all__ = ["LEAST_GROUP_ROWS", "GroupCounts", "best_off", "count_groups"]

LEAST_GROUP_ROWS: Final = 100
"""Smaller groups are reported, not gated."""


@dataclass(frozen=True)
class GroupCounts:
    """What was decided about one group; a positive is a row whose adverse event came true."""

    name: str
    rows: int
    approved: int
    positives: int
    declined_positives: int

    @property
    def gated(self) -> bool:
        return self.rows >= LEAST_GROUP_ROWS

    @property
    def negatives(self) -> int:
        return self.rows - self.positives

    @property
    def declined_negatives(self) -> int:
        return self.rows - self.approved - self.declined_positives

    @property
    def approval_rate(self) -> float:
        return self.approved / self.rows

    def approval_ratio(self, reference: GroupCounts) -> Interval:
        """Approval rate over the reference's; raises `NotEnoughData` where nobody of the reference was approved."""
        return rate_ratio(self.approved, self.rows, reference.approved, reference.rows)

    def true_positive_gap(self, reference: GroupCounts) -> Interval:
        """Share declined among those whose event came true, less the reference's."""
        return rate_difference(
            self.declined_positives, self.positives, reference.declined_positives, reference.positives
        )

    def false_positive_gap(self, reference: GroupCounts) -> Interval:
        """Share declined among those whose event did not come, less the reference's."""
        return rate_difference(
            self.declined_negatives, self.negatives, reference.declined_negatives, reference.negatives
        )


def count_groups(table: EvaluationTable, attribute: str, declined: npt.NDArray[np.bool_]) -> tuple[GroupCounts, ...]:
    """The groups by name; rows without a group are in none."""
    groups, positive = table.group(attribute), table.labels == 1
    counted = []
    for name in sorted({str(group) for group in groups if group is not None}):
        inside = groups == name
        counted.append(
            GroupCounts(
                name=name,
                rows=int(np.count_nonzero(inside)),
                approved=int(np.count_nonzero(inside & ~declined)),
                positives=int(np.count_nonzero(inside & positive)),
                declined_positives=int(np.count_nonzero(inside & positive & declined)),
            )
        )
    return tuple(counted)


def best_off(groups: Sequence[GroupCounts]) -> GroupCounts | None:
    """The gated group with the highest approval rate, the first by name among equals; None without a gated one."""
    gated = [group for group in groups if group.gated]
    return min(gated, key=lambda group: (-group.approval_rate, group.name), default=None)
