"""From the training part to the bytes of a version, and what the training part itself says of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ml_platform.core.errors import NotEnoughData
from ml_platform.stats import auc_interval, brier
from ml_platform.training.absent import Absent
from ml_platform.training.artifact import CONTRACT_PART, DECISION_PART, ONNX_PART, Artifact, make_artifact
from ml_platform.training.decision import Decline
from ml_platform.training.golden import GOLDEN_PART, make_golden, matrix_edges
from ml_platform.training.trainer import RunContext, Trainer, TrainingData

__all__ = ["Fitted", "fit"]


@dataclass(frozen=True)
class Fitted:
    """An artifact, stored nowhere yet, and metrics on the rows that it was trained on."""

    artifact: Artifact
    metrics: dict[str, Any] = field(hash=False)


def fit(trainer: Trainer, data: TrainingData, decision: Decline | None, run: RunContext) -> Fitted:
    """Trains, exports, and packs native model, ONNX, contract, decision and golden rows.

    Raises:
        DeclarationError: a feature has no reason, or the model cannot be exported.
    """
    if decision is not None:
        decision.check_features(data.feature_names)
    native = trainer.fit(data, run)
    parts = {
        trainer.native_part: native,
        ONNX_PART: trainer.to_onnx(native, data.contract),
        CONTRACT_PART: data.contract.to_bytes(),
    }
    if decision is not None:
        parts[DECISION_PART] = decision.to_bytes()
    edges = matrix_edges(data.contract, data.matrix)
    parts[GOLDEN_PART] = make_golden(data.contract, parts[ONNX_PART], edges).to_bytes()
    return Fitted(make_artifact(parts), _metrics(trainer, native, data))


def _metrics(trainer: Trainer, native: bytes, data: TrainingData) -> dict[str, Any]:
    scores = trainer.predict(native, data.matrix)
    try:
        auc: dict[str, Any] = dict(auc_interval(scores, data.labels).to_json())
    except NotEnoughData as error:
        auc = dict(Absent(error.what).to_json())
    return {
        "rows": int(data.labels.size),
        "positives": int(np.count_nonzero(data.labels)),
        "base_rate": data.base_rate,
        "auc": auc,
        "brier": brier(scores, data.labels),
    }
