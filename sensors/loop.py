"""Drift is watched, promotions pushed, labels and freshness waited for: each asks for a run, none works itself."""

from assets.credit_risk import credit_risk
from jobs import jobs
from ml_platform.orchestration import drift_watch, freshness_watch, label_watch, promotion_push

MODELS = [credit_risk]

loop = [
    drift_watch(MODELS, jobs, interval_seconds=30),
    promotion_push(MODELS, jobs, interval_seconds=30),
    label_watch(MODELS, jobs, interval_seconds=60),
    freshness_watch(MODELS, jobs, interval_seconds=300),
]

__all__ = ["loop"]
