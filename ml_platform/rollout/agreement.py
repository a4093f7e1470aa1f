"""How far two versions agree on the same decisions. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ml_platform.stats import Interval, wilson

__all__ = ["QUANTILES", "Agreement", "agreement"]

QUANTILES: Final = (0.01, 0.1, 0.5, 0.9, 0.99)


@dataclass(frozen=True)
class Agreement:
    """Pairs of decisions about the same rows.

    Attributes:
        disagreement: share of the pairs with other decisions, with its 95 % Wilson interval; None without pairs.
        changes: ``approved→declined`` and the like, with their numbers.
        differences: quantiles of shadow score less primary score, by ``p01`` and the like; empty without pairs.
    """

    pairs: int
    disagreements: int
    disagreement: Interval | None
    changes: dict[str, int]
    differences: dict[str, float]
    mean_difference: float | None

    def to_json(self) -> dict[str, Any]:
        return {
            "pairs": self.pairs,
            "disagreements": self.disagreements,
            "disagreement": None if self.disagreement is None else self.disagreement.to_json(),
            "changes": self.changes,
            "score_difference": {**self.differences, "mean": self.mean_difference} if self.pairs else None,
        }


def agreement(
    decisions: Sequence[tuple[str | None, str | None]], primary: npt.NDArray[Any], shadow: npt.NDArray[Any]
) -> Agreement:
    """Compares pairs.

    Args:
        decisions: (primary, shadow) of each pair; None of a version that only scores.
        primary: scores [n].
        shadow: scores [n] of the same pairs.
    """
    changes = Counter(f"{before}→{after}" for before, after in decisions if before != after)
    different, pairs = sum(changes.values()), len(decisions)
    gaps = shadow.astype(np.float64) - primary.astype(np.float64)
    return Agreement(
        pairs=pairs,
        disagreements=different,
        disagreement=wilson(different, pairs) if pairs else None,
        changes=dict(sorted(changes.items())),
        differences={f"p{round(q * 100):02d}": float(np.quantile(gaps, q)) for q in QUANTILES} if pairs else {},
        mean_difference=float(gaps.mean()) if pairs else None,
    )
