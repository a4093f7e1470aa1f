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
    from ml_platform.lifecycle import EvaluationResult
    from ml_platform.platform import Platform

__all__ = ["evaluation_pictures"]


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
