"""The use cases, one function each: every way into the platform (Dagster, ``mlp``, a notebook) calls these.

Names load on first use: who only asks for the state does not wait for the engines of training.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ml_platform.lifecycle.alerting import acknowledge_alert, close_alert, deliver_notices, list_alerts, show_alert
    from ml_platform.lifecycle.approving import (
        Approved,
        approval_payload,
        approve,
        enter_approval,
        open_decisions,
    )
    from ml_platform.lifecycle.candidates import CandidateResult, Registered, build_candidate, register_candidate
    from ml_platform.lifecycle.charts import calibration_bins, psi_lines, score_histogram
    from ml_platform.lifecycle.evaluating import EvaluationResult, evaluate_candidate, read_evaluated
    from ml_platform.lifecycle.feature_catalogue import (
        diff_features,
        find_definition,
        forget_online,
        retirement,
        search_features,
    )
    from ml_platform.lifecycle.feature_status import Freshness, view_freshness
    from ml_platform.lifecycle.features import Materialized, materialize_view
    from ml_platform.lifecycle.locking import lock_definitions
    from ml_platform.lifecycle.logged import PredictionLog, prediction_log
    from ml_platform.lifecycle.loop import Monitored, finished_windows, is_stale, mature_window, monitor_window
    from ml_platform.lifecycle.monitoring import DriftResult, drift_report, drifted_features
    from ml_platform.lifecycle.online_features import Published, get_online_features, publish_features, publish_view
    from ml_platform.lifecycle.openlineage import export_lineage, lineage_events
    from ml_platform.lifecycle.performance import PerformanceResult, performance_report
    from ml_platform.lifecycle.promotion import Transitioned, archive, promote, restore, rollback, stage
    from ml_platform.lifecycle.pushing import Pushed, push_repository
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
    from ml_platform.lifecycle.rollout import RolloutAdvanced, advance_rollout, rollout_status
    from ml_platform.lifecycle.route_view import show_route
    from ml_platform.lifecycle.routing import enter_pending_flips, settle
    from ml_platform.lifecycle.scoring import is_complete, score_partition
    from ml_platform.lifecycle.sealing import SealReport, seal_follow, seal_once
    from ml_platform.lifecycle.serving import TritonServing, predict, serve
    from ml_platform.lifecycle.shadow import shadow_follow, shadow_once
    from ml_platform.lifecycle.shadow_pairs import shadow_report
    from ml_platform.lifecycle.sharing import Shared, set_share
    from ml_platform.lifecycle.skew import SkewReport, feature_skew
    from ml_platform.lifecycle.sources import Landed, land_source
    from ml_platform.lifecycle.training import (
        TrainedModel,
        TrainingSetResult,
        build_training_set,
        read_trained,
        train_candidate,
    )
    from ml_platform.lifecycle.watching import WatchResult, watch
    from ml_platform.lifecycle.window_profiles import WindowProfiles, profile_window

_HOMES: Final[dict[str, str]] = {
    "Approved": "approving",
    "Candidate": "requesting",
    "CandidateResult": "candidates",
    "DriftResult": "monitoring",
    "EvaluationResult": "evaluating",
    "Freshness": "feature_status",
    "Landed": "sources",
    "Materialized": "features",
    "Monitored": "loop",
    "PerformanceResult": "performance",
    "PredictionLog": "logged",
    "Published": "online_features",
    "Pushed": "pushing",
    "Registered": "candidates",
    "RetrainAsked": "retraining",
    "RetrainFinished": "retrain_runs",
    "RolloutAdvanced": "rollout",
    "SealReport": "sealing",
    "Shared": "sharing",
    "SkewReport": "skew",
    "TrainedModel": "training",
    "TrainingSetResult": "training",
    "Transitioned": "promotion",
    "TritonServing": "serving",
    "WatchResult": "watching",
    "WindowProfiles": "window_profiles",
    "acknowledge_alert": "alerting",
    "advance_rollout": "rollout",
    "approval_payload": "approving",
    "approve": "approving",
    "archive": "promotion",
    "build_candidate": "candidates",
    "build_training_set": "training",
    "calibration_bins": "charts",
    "close_alert": "alerting",
    "decide_retrain": "retraining",
    "deliver_notices": "alerting",
    "diff_features": "feature_catalogue",
    "drift_report": "monitoring",
    "drifted_features": "monitoring",
    "enter_approval": "approving",
    "enter_pending_flips": "routing",
    "evaluate_candidate": "evaluating",
    "export_lineage": "openlineage",
    "feature_skew": "skew",
    "find_definition": "feature_catalogue",
    "finish_retrain": "retrain_runs",
    "finished_windows": "loop",
    "forget_online": "feature_catalogue",
    "get_online_features": "online_features",
    "is_complete": "scoring",
    "is_stale": "loop",
    "land_source": "sources",
    "lineage_events": "openlineage",
    "list_alerts": "alerting",
    "list_decisions": "queries",
    "list_models": "queries",
    "list_retrains": "retrain_queries",
    "list_versions": "queries",
    "lock_definitions": "locking",
    "materialize_view": "features",
    "mature_window": "loop",
    "monitor_window": "loop",
    "open_decisions": "approving",
    "performance_report": "performance",
    "predict": "serving",
    "prediction_log": "logged",
    "profile_window": "window_profiles",
    "promote": "promotion",
    "psi_lines": "charts",
    "publish_features": "online_features",
    "publish_view": "online_features",
    "push_repository": "pushing",
    "read_candidate": "requesting",
    "read_clock": "queries",
    "read_evaluated": "evaluating",
    "read_trained": "training",
    "ready_retrains": "retrain_queries",
    "register_candidate": "candidates",
    "request_candidate": "requesting",
    "request_retrain": "retraining",
    "restore": "promotion",
    "retirement": "feature_catalogue",
    "rollback": "promotion",
    "rollout_status": "rollout",
    "run_retrain": "retrain_runs",
    "score_histogram": "charts",
    "score_partition": "scoring",
    "seal_follow": "sealing",
    "seal_once": "sealing",
    "search_features": "feature_catalogue",
    "serve": "serving",
    "set_share": "sharing",
    "settle": "routing",
    "shadow_follow": "shadow",
    "shadow_once": "shadow",
    "shadow_report": "shadow_pairs",
    "show_alert": "alerting",
    "show_candidate": "queries",
    "show_route": "route_view",
    "show_version": "queries",
    "stage": "promotion",
    "start_retrain": "retrain_runs",
    "state_at": "queries",
    "train_candidate": "training",
    "view_freshness": "feature_status",
    "watch": "watching",
    "watch_retrains": "retraining",
}

__all__ = [
    "Approved",
    "Candidate",
    "CandidateResult",
    "DriftResult",
    "EvaluationResult",
    "Freshness",
    "Landed",
    "Materialized",
    "Monitored",
    "PerformanceResult",
    "PredictionLog",
    "Published",
    "Pushed",
    "Registered",
    "RetrainAsked",
    "RetrainFinished",
    "RolloutAdvanced",
    "SealReport",
    "Shared",
    "SkewReport",
    "TrainedModel",
    "TrainingSetResult",
    "Transitioned",
    "TritonServing",
    "WatchResult",
    "WindowProfiles",
    "acknowledge_alert",
    "advance_rollout",
    "approval_payload",
    "approve",
    "archive",
    "build_candidate",
    "build_training_set",
    "calibration_bins",
    "close_alert",
    "decide_retrain",
    "deliver_notices",
    "diff_features",
    "drift_report",
    "drifted_features",
    "enter_approval",
    "enter_pending_flips",
    "evaluate_candidate",
    "export_lineage",
    "feature_skew",
    "find_definition",
    "finish_retrain",
    "finished_windows",
    "forget_online",
    "get_online_features",
    "is_complete",
    "is_stale",
    "land_source",
    "lineage_events",
    "list_alerts",
    "list_decisions",
    "list_models",
    "list_retrains",
    "list_versions",
    "lock_definitions",
    "materialize_view",
    "mature_window",
    "monitor_window",
    "open_decisions",
    "performance_report",
    "predict",
    "prediction_log",
    "profile_window",
    "promote",
    "psi_lines",
    "publish_features",
    "publish_view",
    "push_repository",
    "read_candidate",
    "read_clock",
    "read_evaluated",
    "read_trained",
    "ready_retrains",
    "register_candidate",
    "request_candidate",
    "request_retrain",
    "restore",
    "retirement",
    "rollback",
    "rollout_status",
    "run_retrain",
    "score_histogram",
    "score_partition",
    "seal_follow",
    "seal_once",
    "search_features",
    "serve",
    "set_share",
    "settle",
    "shadow_follow",
    "shadow_once",
    "shadow_report",
    "show_alert",
    "show_candidate",
    "show_route",
    "show_version",
    "stage",
    "start_retrain",
    "state_at",
    "train_candidate",
    "view_freshness",
    "watch",
    "watch_retrains",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
