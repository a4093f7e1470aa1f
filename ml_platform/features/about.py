"""What is said about a feature view and changes no value: whose it is, how it is kept, whether it is on its way out."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from ml_platform.core.durations import Duration
from ml_platform.core.errors import DeclarationError
from ml_platform.features.declaration import check_unique
from ml_platform.features.periods import GRAINS, Grain
from ml_platform.features.quality import QualityCheck, check_quality

__all__ = ["About", "Deprecated"]

_OWNER: Final = re.compile(r"team:[a-z0-9_.-]+|[^@\s]+@[^@\s]+\.[^@\s]+")


@dataclass(frozen=True)
class Deprecated:
    """A view that new models should not use, and versions in service still may.

    Args:
        since: ISO date.
        reason: why, in words.
        instead: what to use.
        refuse: a model none of whose registered versions reads the view is refused, others are warned.

    Raises:
        DeclarationError: the date is none, or the reason is empty.
    """

    since: str
    reason: str
    instead: str = ""
    refuse: bool = False

    def __post_init__(self) -> None:
        try:
            date.fromisoformat(self.since)
        except ValueError:
            raise DeclarationError("This is no date.", field="since", next_step='Write it as "2011-07-01".') from None
        if not self.reason.strip():
            raise DeclarationError(
                "A deprecation has a reason.", field="reason", next_step="Say why others should not use the view."
            )

    def words(self) -> str:
        """In one sentence or two, for warnings and errors."""
        instead = f" Use {self.instead} instead." if self.instead else ""
        return f"Deprecated since {self.since}: {self.reason.rstrip('.')}.{instead}"

    def to_json(self) -> dict[str, Any]:
        return {"since": self.since, "reason": self.reason, "instead": self.instead, "refuse": self.refuse}


@dataclass(frozen=True)
class About:
    """Beside a view's definition, and never in its digest: changing it changes no table and no version.

    Args:
        description: what the view tells, for people who search.
        owners: ``team:x`` or e-mail addresses; empty: those of the models that use it.
        partition: the grain in which it is materialised; the stored rows are the same.
        freshness: how long after a period's end its values may be missing at most; an exact duration.
        quality: checks of every period before it becomes visible.
        deprecated: that new models should not, or may not, use it.

    Raises:
        DeclarationError: names the field and the choices.
    """

    description: str = ""
    owners: tuple[str, ...] = ()
    partition: Grain = "month"
    freshness: str | None = None
    quality: tuple[QualityCheck, ...] = ()
    deprecated: Deprecated | None = None

    def __post_init__(self) -> None:
        for attribute in ("owners", "quality"):
            object.__setattr__(self, attribute, tuple(getattr(self, attribute)))
        for owner in self.owners:
            if not _OWNER.fullmatch(owner):
                raise DeclarationError(
                    "This is no owner.", field="owners", next_step='Write "team:credit" or an e-mail address.'
                )
        if self.partition not in GRAINS:
            raise DeclarationError(
                "There is no such partition.", field="partition", next_step=f"Choose one of {', '.join(GRAINS)}."
            )
        if self.freshness is not None and Duration.parse(self.freshness, field="freshness").microseconds <= 0:
            raise DeclarationError(
                "freshness is an exact, positive duration.", field="freshness", next_step='Write it as "2d" or "6h".'
            )
        check_unique((check.name for check in self.quality), field="quality")

    def check(self, *, numbers: Collection[str], columns: Collection[str]) -> None:
        """Holds what is said against the view's stored columns.

        Raises:
            DeclarationError: a quality check reads a column that is not there.
        """
        check_quality(self.quality, numbers=numbers, columns=columns)
