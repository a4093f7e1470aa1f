"""Governed models on Dagster: declare, train, register, approve, decide, and trace every decision.

The names below are the public surface for declarations. They load on first use, so that importing the package costs
little (a benchmark measures it) and a process that only needs one part does not pay for the others.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ml_platform.core.errors import PlatformError
    from ml_platform.core.fields import category, number
    from ml_platform.datasets import Label, TimeSplit
    from ml_platform.features import (
        INGESTED,
        Entity,
        FeatureView,
        RequestView,
        SameAsEvent,
        Source,
        approx_distinct,
        count,
        distinct,
        first,
        last,
        max_,
        mean,
        min_,
        pivot,
        quantile,
        stddev,
        sum_,
    )
    from ml_platform.model import Approvals, Attribute, Model
    from ml_platform.monitoring import Monitor, Retraining
    from ml_platform.platform import Platform
    from ml_platform.rollout import Guardrails, Rollout
    from ml_platform.serving.declaration import Serving
    from ml_platform.training import (
        Decline,
        Function,
        LightGBM,
        Onnx,
        at_least,
        brier_skill,
        calibrated,
        group_ratio,
        not_worse_than_production,
    )

_HOMES: Final[dict[str, str]] = {
    "INGESTED": "features",
    "Approvals": "model",
    "Attribute": "model",
    "Decline": "training",
    "Entity": "features",
    "FeatureView": "features",
    "Function": "training",
    "Guardrails": "rollout",
    "Label": "datasets",
    "LightGBM": "training",
    "Model": "model",
    "Monitor": "monitoring",
    "Onnx": "training",
    "Platform": "platform",
    "PlatformError": "core.errors",
    "RequestView": "features",
    "Retraining": "monitoring",
    "Rollout": "rollout",
    "SameAsEvent": "features",
    "Serving": "serving.declaration",
    "Source": "features",
    "TimeSplit": "datasets",
    "approx_distinct": "features",
    "at_least": "training",
    "brier_skill": "training",
    "calibrated": "training",
    "category": "core.fields",
    "count": "features",
    "distinct": "features",
    "first": "features",
    "group_ratio": "training",
    "last": "features",
    "max_": "features",
    "mean": "features",
    "min_": "features",
    "not_worse_than_production": "training",
    "number": "core.fields",
    "pivot": "features",
    "quantile": "features",
    "stddev": "features",
    "sum_": "features",
}

__all__ = [
    "INGESTED",
    "Approvals",
    "Attribute",
    "Decline",
    "Entity",
    "FeatureView",
    "Function",
    "Guardrails",
    "Label",
    "LightGBM",
    "Model",
    "Monitor",
    "Onnx",
    "Platform",
    "PlatformError",
    "RequestView",
    "Retraining",
    "Rollout",
    "SameAsEvent",
    "Serving",
    "Source",
    "TimeSplit",
    "approx_distinct",
    "at_least",
    "brier_skill",
    "calibrated",
    "category",
    "count",
    "distinct",
    "first",
    "group_ratio",
    "last",
    "max_",
    "mean",
    "min_",
    "not_worse_than_production",
    "number",
    "pivot",
    "quantile",
    "stddev",
    "sum_",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
