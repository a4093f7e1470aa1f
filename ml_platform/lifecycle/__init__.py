"""The use cases, one function each: every way into the platform (Dagster, ``mlp``, a notebook) calls these.

Names load on first use: who only asks for the state does not wait for the engines of training.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ml_platform.lifecycle.candidates import CandidateResult, Registered, build_candidate, register_candidate
    from ml_platform.lifecycle.evaluating import EvaluationResult, evaluate_candidate, read_evaluated
    from ml_platform.lifecycle.features import Materialized, materialize_view
    from ml_platform.lifecycle.online_features import Published, get_online_features, publish_features, publish_view
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

_HOMES: Final[dict[str, str]] = {
    "Approved": "promotion",
    "Candidate": "requesting",
    "CandidateResult": "candidates",
    "EvaluationResult": "evaluating",
    "Landed": "sources",
    "Materialized": "features",
    "Published": "online_features",
    "Registered": "candidates",
    "SealReport": "sealing",
    "TrainedModel": "training",
    "TrainingSetResult": "training",
    "Transitioned": "promotion",
    "TritonServing": "serving",
    "approval_payload": "promotion",
    "approve": "promotion",
    "build_candidate": "candidates",
    "build_training_set": "training",
    "enter_approval": "promotion",
    "evaluate_candidate": "evaluating",
    "get_online_features": "online_features",
    "is_complete": "scoring",
    "land_source": "sources",
    "list_decisions": "queries",
    "list_models": "queries",
    "list_versions": "queries",
    "materialize_view": "features",
    "open_decisions": "promotion",
    "promote": "promotion",
    "publish_features": "online_features",
    "publish_view": "online_features",
    "read_candidate": "requesting",
    "read_clock": "queries",
    "read_evaluated": "evaluating",
    "read_trained": "training",
    "register_candidate": "candidates",
    "request_candidate": "requesting",
    "restore": "promotion",
    "rollback": "promotion",
    "predict": "serving",
    "score_partition": "scoring",
    "seal_follow": "sealing",
    "seal_once": "sealing",
    "show_candidate": "queries",
    "show_version": "queries",
    "stage": "promotion",
    "serve": "serving",
    "state_at": "queries",
    "train_candidate": "training",
}

__all__ = [
    "Approved",
    "Candidate",
    "CandidateResult",
    "EvaluationResult",
    "Landed",
    "Materialized",
    "Published",
    "Registered",
    "SealReport",
    "TrainedModel",
    "TrainingSetResult",
    "Transitioned",
    "TritonServing",
    "approval_payload",
    "approve",
    "build_candidate",
    "build_training_set",
    "enter_approval",
    "evaluate_candidate",
    "get_online_features",
    "is_complete",
    "land_source",
    "list_decisions",
    "list_models",
    "list_versions",
    "materialize_view",
    "open_decisions",
    "predict",
    "promote",
    "publish_features",
    "publish_view",
    "read_candidate",
    "read_clock",
    "read_evaluated",
    "read_trained",
    "register_candidate",
    "request_candidate",
    "restore",
    "rollback",
    "score_partition",
    "seal_follow",
    "seal_once",
    "serve",
    "show_candidate",
    "show_version",
    "stage",
    "state_at",
    "train_candidate",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
