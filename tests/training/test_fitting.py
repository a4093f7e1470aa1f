from __future__ import annotations

import numpy as np
import pytest

from ml_platform.core.errors import DeclarationError
from ml_platform.stats import auc_interval
from ml_platform.training.decision import Decline
from ml_platform.training.fitting import fit
from ml_platform.training.lightgbm import LightGBM
from ml_platform.training.onnxruntime import OnnxModel
from ml_platform.training.reasons import reason_codes
from ml_platform.training.trainer import RunContext
from tests.training import cases

pytest.importorskip("lightgbm", reason="LightGBM is not installed (extra: lightgbm)")
pytest.importorskip("onnx", reason="onnx is not installed (extra: lightgbm)")

TRAINER = LightGBM(num_leaves=7, learning_rate=0.1, rounds=20, min_data_in_leaf=20)
DECISION = Decline(0.5, {"income": "Income", "debt": "Debt", "purpose": "Purpose", "late": "Payments late"})


def test_the_artifact_holds_all_that_a_decision_needs():
    data = cases.data()
    fitted = fit(TRAINER, data, DECISION, RunContext(0))
    artifact = fitted.artifact
    assert set(artifact.parts) == {"model.txt", "model.onnx", "contract.json", "decision.json", "golden.json"}
    assert artifact.contract == data.contract
    assert artifact.decision == DECISION
    assert fit(TRAINER, data, DECISION, RunContext(0, threads=2)).artifact.digest == artifact.digest
    scores = OnnxModel(artifact.part("model.onnx")).scores(data.matrix)
    declined = data.matrix[DECISION.declined(scores)]
    parts = TRAINER.contributions(artifact.part("model.txt"), declined)
    reasons = reason_codes(parts, data.feature_names, DECISION.reasons)
    assert len(reasons) == len(declined) > 0
    assert all(1 <= len(codes) <= 4 for codes in reasons)


def test_metrics_are_those_of_the_training_part():
    data = cases.data()
    fitted = fit(TRAINER, data, None, RunContext(0))
    scores = TRAINER.predict(fitted.artifact.part("model.txt"), data.matrix)
    assert fitted.metrics["rows"] == len(data.labels)
    assert fitted.metrics["positives"] == int(data.labels.sum())
    assert fitted.metrics["base_rate"] == float(np.mean(data.labels))
    assert fitted.metrics["auc"] == auc_interval(scores, data.labels).to_json()


def test_a_feature_without_a_reason_stops_before_training():
    lacking = Decline(0.5, {"income": "Income"})
    with pytest.raises(DeclarationError, match="debt, purpose, late"):
        fit(TRAINER, cases.data(), lacking, RunContext(0))
