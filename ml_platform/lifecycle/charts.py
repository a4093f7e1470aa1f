"""What the pictures of monitoring show, as plain lists: drawing is orchestration's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ml_platform.core.digests import parse_canonical
from ml_platform.core.errors import NotEnoughData
from ml_platform.lifecycle.monitoring import DriftResult, drift_report
from ml_platform.lifecycle.performance import PerformanceResult
from ml_platform.model import Model
from ml_platform.platform import Platform
from ml_platform.profiles import ReferenceProfile, WindowProfile

__all__ = ["PsiLine", "ScoreHistogram", "calibration_bins", "psi_lines", "score_histogram"]


@dataclass(frozen=True)
class PsiLine:
    """A feature's PSI over windows, beside what no shift would show; None where nothing was decided."""

    feature: str
    critical: bool
    windows: tuple[str, ...]
    psi: tuple[float | None, ...]
    noise: tuple[float | None, ...]


@dataclass(frozen=True)
class ScoreHistogram:
    """Shares of the scores over the reference's bins, which hold about equal shares of it.

    Attributes:
        edges: interior edges, one fewer than shares.
        reference: shares of the training part.
        window: shares of the window.
    """

    version: int
    edges: tuple[float, ...]
    reference: tuple[float, ...]
    window: tuple[float, ...]


def psi_lines(platform: Platform, model: Model, windows: Sequence[str]) -> tuple[PsiLine, ...]:
    """The PSI of each feature over windows, of the newest version that decided in each; the farthest moved first."""
    found = [_newest(platform, model, window) for window in windows]
    names = dict.fromkeys(name for one in found for name in one)
    lines = [
        PsiLine(
            feature=name,
            critical=name in model.monitor.critical,
            windows=tuple(windows),
            psi=tuple(one[name][0] if name in one else None for one in found),
            noise=tuple(one[name][1] if name in one else None for one in found),
        )
        for name in names
    ]
    return tuple(sorted(lines, key=lambda line: (-max(psi or 0.0 for psi in line.psi), line.feature)))


def _newest(platform: Platform, model: Model, window: str) -> dict[str, tuple[float, float]]:
    try:
        newest = drift_report(platform, model, window).versions[-1]
    except NotEnoughData:
        return {}
    return {one.name: (one.shift.psi, one.shift.noise) for one in newest.report.fields}


def score_histogram(platform: Platform, result: DriftResult) -> tuple[ScoreHistogram, ...]:
    """The scores of each version of a window beside those of its training part, where there are scores."""
    found = []
    for one in result.versions:
        reference = ReferenceProfile.from_json(parse_canonical(platform.objects.get(one.reference))).score
        window = WindowProfile.from_json(parse_canonical(platform.objects.get(one.profile))).score
        if reference is not None and window is not None:
            shares = (_shares(reference.counts), _shares(window.counts))
            found.append(ScoreHistogram(one.version, reference.edges, *shares))
    return tuple(found)


def _shares(counts: Sequence[int]) -> tuple[float, ...]:
    total = max(1, sum(counts))
    return tuple(count / total for count in counts)


def calibration_bins(result: PerformanceResult) -> dict[int, list[dict[str, Any]]]:
    """By version {mean_probability, observed, rows} a bin of equal mass, where labels are mature."""
    return {
        one.version: list(one.report.measured["calibration"])
        for one in result.versions
        if one.report.measured is not None
    }
