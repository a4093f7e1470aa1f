"""A code location for a real daemon: one quick model, the standard jobs, and sensors that look every few seconds."""

from __future__ import annotations

from dataclasses import replace

from assets.credit_risk import REASONS, application, credit_risk
from assets.sources import outcomes
from ml_platform import Label, LightGBM, Monitor, at_least
from ml_platform.monitoring import Retraining
from ml_platform.orchestration import (
    PlatformResource,
    definitions,
    drift_watch,
    freshness_watch,
    label_watch,
    loop_jobs,
    promotion_push,
    reconcile_sensor,
    score_job,
    train_job,
)

# A default within nine months: what is new in May 2010 can be learned from in February 2011.
quick_risk = replace(
    credit_risk,
    name="quick_risk",
    features=[application],
    label=Label(rows=application, outcome=outcomes, column="defaulted", horizon="9mo"),
    trainer=LightGBM(objective="binary", num_leaves=4, learning_rate=0.1, rounds=10, min_data_in_leaf=20),
    gates=[at_least("auc", 0.2)],
    protected=[],
    decision=replace(
        credit_risk.decline,
        reasons={name: text for name, text in REASONS.items() if name in {one.name for one in application.features}},
    ),
    monitor=Monitor(
        critical=["term", "dti", "revol_util"],
        retrain="queued",
        freshness="540d",
        retraining=Retraining(min_rows=100, min_positives=0, cool_down="365d"),
    ),
)

MODELS = [quick_risk]
platform = PlatformResource()  # the root is told by the environment, the code is the folder in which the daemon runs
jobs = [train_job(quick_risk), score_job(quick_risk), *loop_jobs(MODELS, platform)]
sensors = [
    reconcile_sensor(MODELS, interval_seconds=2),
    *(watch(MODELS, jobs, interval_seconds=2) for watch in (drift_watch, promotion_push, label_watch, freshness_watch)),
]
defs = definitions(MODELS, platform, jobs=jobs, schedules=[], sensors=sensors)
