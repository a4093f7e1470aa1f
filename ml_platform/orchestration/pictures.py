"""Which pictures an evaluation shows in Dagster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.compute as pc

from ml_platform import lifecycle
from ml_platform.core.digests import parse_canonical
from ml_platform.model import Model
from ml_platform.orchestration import plots
from ml_platform.orchestration.metadata import Metadata
from ml_platform.profiles import ReferenceProfile, psi
from ml_platform.stats import auc_interval

if TYPE_CHECKING:
    from ml_platform.lifecycle import DriftResult, EvaluationResult, PerformanceResult
    from ml_platform.platform import Platform

__all__ = ["drift_pictures", "evaluation_pictures", "performance_pictures"]


def evaluation_pictures(platform: Platform, model: Model, made: EvaluationResult) -> Metadata:
    """ROC, calibration and scores of the test part, and its features' PSI against the training part."""
    scores, labels = made.table.scores, made.table.labels
    area = auc_interval(scores, labels)
    drawn = {
        "roc": plots.roc_png(scores, labels, auc=area.point, low=area.low, high=area.high),
        "calibration": plots.calibration_png(scores, labels),
        "scores": plots.scores_png(scores, labels, limit=None if model.decision is None else model.decision.above),
        "psi": plots.psi_png(_test_psi(platform, model.name, made.candidate), limit=model.monitor.psi_limit),
    }
    return {f"ml/plot_{name}": plots.as_markdown(png, name) for name, png in drawn.items()}


def _test_psi(platform: Platform, model: str, candidate: str) -> dict[str, float]:
    from ml_platform.datasets import SPLIT, TEST, read_snapshot, snapshot_path

    stored = platform.objects.get(lifecycle.read_trained(platform, model, candidate).profile_digest)
    rows = read_snapshot(platform.objects, snapshot_path(model, candidate)).read(platform.objects)
    reference = ReferenceProfile.from_json(parse_canonical(stored))
    return psi(reference, rows.filter(pc.field(SPLIT) == TEST))


def drift_pictures(drift: DriftResult | None, model: Model) -> Metadata:
    """The features' PSI, of each version that decided in the window."""
    found: Metadata = {}
    for one in drift.versions if drift is not None else ():
        title = f"Version {one.version} in {drift.window if drift else ''}: PSI against its training part"
        png = plots.psi_png(one.psi, limit=model.monitor.psi_limit, title=title)
        found[f"ml/plot_psi_v{one.version}"] = plots.as_markdown(png, f"psi v{one.version}")
    return found


def performance_pictures(performance: PerformanceResult) -> Metadata:
    """Calibration on matured labels, of each version that decided in the window."""
    found: Metadata = {}
    for one in performance.versions:
        bins = (one.report.measured or {}).get("calibration", [])
        if bins:
            png = plots.bins_png(bins, f"Version {one.version} in {performance.window}: calibration on mature labels")
            found[f"ml/plot_calibration_v{one.version}"] = plots.as_markdown(png, f"calibration v{one.version}")
    return found
