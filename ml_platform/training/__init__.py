"""Trainers, contracts, ONNX, run records, evaluation and gates."""

from __future__ import annotations

from ml_platform.training.absent import Absent, as_json
from ml_platform.training.artifact import (
    CONTRACT_PART,
    DECISION_PART,
    ONNX_PART,
    Artifact,
    artifact_digest,
    load_artifact,
    make_artifact,
    store_artifact,
)
from ml_platform.training.code import CodeState
from ml_platform.training.contract import Prepared, ResolvedInput, build, prepare, resolve
from ml_platform.training.decision import APPROVED, DECLINED, Decline
from ml_platform.training.environment import Environment, capture
from ml_platform.training.evaluation import Evaluation, EvaluationSubject, evaluate, recompute_verdicts, seed_of
from ml_platform.training.evaluation_table import EvaluationTable
from ml_platform.training.fitting import Fitted, fit
from ml_platform.training.function import Function
from ml_platform.training.gates import (
    ONNX_PARITY,
    Gate,
    at_least,
    brier_skill,
    calibrated,
    group_ratio,
    not_worse_than_production,
    stricter_or_equal,
)
from ml_platform.training.lightgbm import LightGBM
from ml_platform.training.onnx_adopted import Onnx
from ml_platform.training.onnxruntime import OnnxModel
from ml_platform.training.reasons import reason_codes
from ml_platform.training.run_record import RUN_RECORD_ITEMS, RunRecord, first_difference
from ml_platform.training.trainer import Explains, RunContext, Trainer, TrainingData, training_data
from ml_platform.training.verdict import BaselineRef, GateContext, Verdict, verdicts

__all__ = [
    "APPROVED",
    "CONTRACT_PART",
    "DECISION_PART",
    "DECLINED",
    "ONNX_PARITY",
    "ONNX_PART",
    "RUN_RECORD_ITEMS",
    "Absent",
    "Artifact",
    "BaselineRef",
    "CodeState",
    "Decline",
    "Environment",
    "Evaluation",
    "EvaluationSubject",
    "EvaluationTable",
    "Explains",
    "Fitted",
    "Function",
    "Gate",
    "GateContext",
    "LightGBM",
    "Onnx",
    "OnnxModel",
    "Prepared",
    "ResolvedInput",
    "RunContext",
    "RunRecord",
    "Trainer",
    "TrainingData",
    "Verdict",
    "artifact_digest",
    "as_json",
    "at_least",
    "brier_skill",
    "build",
    "calibrated",
    "capture",
    "evaluate",
    "first_difference",
    "fit",
    "group_ratio",
    "load_artifact",
    "make_artifact",
    "not_worse_than_production",
    "prepare",
    "reason_codes",
    "recompute_verdicts",
    "resolve",
    "seed_of",
    "store_artifact",
    "stricter_or_equal",
    "training_data",
    "verdicts",
]
