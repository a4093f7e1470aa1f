"""The use cases, one function each: every way into the platform (Dagster, ``mlp``, a notebook) calls these.

Names load on first use: who only asks for the state does not wait for the engines of training.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ml_platform.lifecycle.alerting import acknowledge_alert, close_alert, deliver_notices, list_alerts, show_alert
    from ml_platform.lifecycle.candidates import CandidateResult, Registered, build_candidate, register_candidate
    from ml_platform.lifecycle.evaluating import EvaluationResult, evaluate_candidate, read_evaluated
    from ml_platform.lifecycle.features import Materialized, materialize_view
    from ml_platform.lifecycle.monitoring import (
        DriftResult,
        WindowProfiles,
        drift_report,
        drifted_features,
        profile_window,
    )
    from ml_platform.lifecycle.online_features import Published, get_online_features, publish_features, publish_view
    from ml_platform.lifecycle.performance import PerformanceResult, performance_report
    from ml_platform.lifecycle.promotion import (
        Approved,
        Transitioned,
        approval_payload,
        approve,
        enter_approval,
        open_decisions,
        promote,
        restore,
        rollback,
        stage,
    )
    from ml_platform.lifecycle.queries import (
        list_decisions,
        list_models,
        list_versions,
        read_clock,
        show_candidate,
        show_version,
        state_at,
    )
    from ml_platform.lifecycle.requesting import Candidate, read_candidate, request_candidate
    from ml_platform.lifecycle.retrain_queries import list_retrains, ready_retrains
    from ml_platform.lifecycle.retrain_runs import RetrainFinished, finish_retrain, run_retrain, start_retrain
    from ml_platform.lifecycle.retraining import RetrainAsked, decide_retrain, request_retrain, watch_retrains
    from ml_platform.lifecycle.scoring import is_complete, score_partition
    from ml_platform.lifecycle.sealing import SealReport, seal_follow, seal_once
    from ml_platform.lifecycle.serving import TritonServing, predict, serve
    from ml_platform.lifecycle.sources import Landed, land_source
    from ml_platform.lifecycle.training import (
        TrainedModel,
        TrainingSetResult,
        build_training_set,
        read_trained,
        train_candidate,
    )
    from ml_platform.lifecycle.watching import WatchResult, watch

_HOMES: Final[dict[str, str]] = {
    "Approved": "promotion",
    "Candidate": "requesting",
    "CandidateResult": "candidates",
    "DriftResult": "monitoring",
    "EvaluationResult": "evaluating",
    "Landed": "sources",
    "Materialized": "features",
    "PerformanceResult": "performance",
    "Published": "online_features",
    "Registered": "candidates",
    "RetrainAsked": "retraining",
    "RetrainFinished": "retrain_runs",
    "SealReport": "sealing",
    "TrainedModel": "training",
    "TrainingSetResult": "training",
    "Transitioned": "promotion",
    "TritonServing": "serving",
    "WatchResult": "watching",
    "WindowProfiles": "monitoring",
    "acknowledge_alert": "alerting",
    "approval_payload": "promotion",
    "approve": "promotion",
    "build_candidate": "candidates",
    "build_training_set": "training",
    "close_alert": "alerting",
    "decide_retrain": "retraining",
    "deliver_notices": "alerting",
    "drift_report": "monitoring",
    "drifted_features": "monitoring",
    "enter_approval": "promotion",
    "evaluate_candidate": "evaluating",
    "finish_retrain": "retrain_runs",
    "get_online_features": "online_features",
    "is_complete": "scoring",
    "land_source": "sources",
    "list_alerts": "alerting",
    "list_decisions": "queries",
    "list_models": "queries",
    "list_retrains": "retrain_queries",
    "list_versions": "queries",
    "materialize_view": "features",
    "open_decisions": "promotion",
    "performance_report": "performance",
    "predict": "serving",
    "profile_window": "monitoring",
    "promote": "promotion",
    "publish_features": "online_features",
    "publish_view": "online_features",
    "read_candidate": "requesting",
    "read_clock": "queries",
    "read_evaluated": "evaluating",
    "read_trained": "training",
    "ready_retrains": "retrain_queries",
    "register_candidate": "candidates",
    "request_candidate": "requesting",
    "request_retrain": "retraining",
    "restore": "promotion",
    "rollback": "promotion",
    "run_retrain": "retrain_runs",
    "score_partition": "scoring",
    "seal_follow": "sealing",
    "seal_once": "sealing",
    "serve": "serving",
    "show_alert": "alerting",
    "show_candidate": "queries",
    "show_version": "queries",
    "stage": "promotion",
    "start_retrain": "retrain_runs",
    "state_at": "queries",
    "train_candidate": "training",
    "watch": "watching",
    "watch_retrains": "retraining",
}

__all__ = [
    "Approved",
    "Candidate",
    "CandidateResult",
    "DriftResult",
    "EvaluationResult",
    "Landed",
    "Materialized",
    "PerformanceResult",
    "Published",
    "Registered",
    "RetrainAsked",
    "RetrainFinished",
    "SealReport",
    "TrainedModel",
    "TrainingSetResult",
    "Transitioned",
    "TritonServing",
    "WatchResult",
    "WindowProfiles",
    "acknowledge_alert",
    "approval_payload",
    "approve",
    "build_candidate",
    "build_training_set",
    "close_alert",
    "decide_retrain",
    "deliver_notices",
    "drift_report",
    "drifted_features",
    "enter_approval",
    "evaluate_candidate",
    "finish_retrain",
    "get_online_features",
    "is_complete",
    "land_source",
    "list_alerts",
    "list_decisions",
    "list_models",
    "list_retrains",
    "list_versions",
    "materialize_view",
    "open_decisions",
    "performance_report",
    "predict",
    "profile_window",
    "promote",
    "publish_features",
    "publish_view",
    "read_candidate",
    "read_clock",
    "read_evaluated",
    "read_trained",
    "ready_retrains",
    "register_candidate",
    "request_candidate",
    "request_retrain",
    "restore",
    "rollback",
    "run_retrain",
    "score_partition",
    "seal_follow",
    "seal_once",
    "serve",
    "show_alert",
    "show_candidate",
    "show_version",
    "stage",
    "start_retrain",
    "state_at",
    "train_candidate",
    "watch",
    "watch_retrains",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
