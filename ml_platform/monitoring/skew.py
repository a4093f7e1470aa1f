"""Skew: whether a logged decision used the stored features that it should have, and if not, why. Pure.

The judge is the history of the view as it is known now, cut at the request's time: what the point-in-time join says.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np

from ml_platform.core.contract import ResolvedField
from ml_platform.features.online import ChangePoint, answer
from ml_platform.features.views import FeatureView

__all__ = ["REASONS", "FeatureSkew", "Reason", "as_used", "skew_reason"]

Reason = Literal["late_data", "ttl", "code"]
REASONS: Final[Mapping[Reason, str]] = {
    "late_data": "The online store had an older state: it was published too late, or the data came late.",
    "ttl": "A value was used after its ttl, or left out before it.",
    "code": "No state that the view ever had gives this value: online computed or encoded something else.",
}


@dataclass(frozen=True)
class FeatureSkew:
    """Of one stored feature: decisions compared, how many used the right value, and why the others did not.

    ``examples`` has up to three prediction ids a reason, to trace.
    """

    feature: str
    reference: str
    compared: int
    equal: int
    reasons: Mapping[str, int] = field(default_factory=Counter)
    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Equal of compared; 1 where nothing was compared."""
        return self.equal / self.compared if self.compared else 1.0

    def to_json(self) -> dict[str, Any]:
        return {
            "feature": self.feature,
            "reference": self.reference,
            "compared": self.compared,
            "equal": self.equal,
            "share": self.share,
            "reasons": dict(sorted(self.reasons.items())),
            "examples": {name: list(ids) for name, ids in sorted(self.examples.items())},
        }


def as_used(item: ResolvedField, value: Any) -> Any:
    """A stored value as a record holds it: the field's defaults applied, a number rounded to float32 once."""
    if value is None and item.on_null == "default":
        value = item.default
    if item.kind == "category":
        return None if value is None else str(value)
    if value is None:
        return None
    low, high = item.range or (None, None)
    outside = (low is not None and value < low) or (high is not None and value > high)
    if outside and item.on_range == "default":
        value = item.default
    return float(np.float32(value))


def skew_reason(
    view: FeatureView, item: ResolvedField, place: int, points: Sequence[ChangePoint], t_us: int, logged: Any
) -> Reason | None:
    """Why a logged value of a feature is not the one that held at T; None where it is.

    Args:
        view: the view of the feature.
        item: the field of the contract of the version that decided.
        place: of the feature among the view's.
        points: all change points of the row's key, in the order of their times.
        t_us: T, microseconds UTC.
        logged: as the record has it.
    """
    refresh = view.refresh_us or 1
    until = bisect_right([point.at_us for point in points], t_us - t_us % refresh)
    last = points[until - 1] if until else None
    if logged == as_used(item, answer(view, last, t_us).values[place]):
        return None
    if view.ttl_us is not None and last is not None and last.event_us is not None:
        expired = t_us - last.event_us >= view.ttl_us
        held = as_used(item, last.values[place])
        unheld = as_used(item, answer(view, None, t_us).values[place])
        if logged == (held if expired else unheld):
            return "ttl"
    before = (None, *points[: max(until - 1, 0)])
    states = (answer(view, point, t_us if point is None else point.at_us).values[place] for point in before)
    return "late_data" if any(logged == as_used(item, value) for value in states) else "code"
