"""Exact profile and sketches of a window's rows together, each column read once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy.typing as npt
import pyarrow as pa

from ml_platform.profiles.profile import ReferenceProfile
from ml_platform.profiles.whylogs import Sketches, why_absent
from ml_platform.profiles.window import WindowCategory, WindowNumber, WindowProfile, window_numbers

__all__ = ["ProfiledWindow", "profile_window"]

_SCORE = "output.score"


@dataclass(frozen=True)
class ProfiledWindow:
    """A window's exact profile, and its sketches or why there are none."""

    exact: WindowProfile
    sketches: Sketches | None
    absent: str | None = None


def profile_window(
    table: pa.Table,
    reference: ReferenceProfile,
    at: datetime,
    *,
    scores: npt.NDArray[Any] | None = None,
    decisions: dict[str, int] | None = None,
) -> ProfiledWindow:
    """Profiles rows of decisions: see `WindowProfile.of`. ``at`` is the window's start."""
    exact = WindowProfile.of(table, reference, scores=scores, decisions=decisions)
    absent = why_absent()
    return ProfiledWindow(exact, None if absent else _sketches(table, exact, reference, at, scores), absent)


def _sketches(
    table: pa.Table, exact: WindowProfile, reference: ReferenceProfile, at: datetime, scores: npt.NDArray[Any] | None
) -> Sketches:
    named = exact.stored(reference)
    numbers = [
        (name, found, window_numbers(table, name))
        for name, found in exact.fields.items()
        if isinstance(found, WindowNumber)
    ]
    if exact.score is not None and scores is not None:
        numbers.append((_SCORE, exact.score, scores))
    categories = [
        (name, found, named.fields[name]) for name, found in exact.fields.items() if isinstance(found, WindowCategory)
    ]
    return Sketches.of(numbers, categories, at)  # type: ignore[arg-type]
