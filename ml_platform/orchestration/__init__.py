"""Dagster: assets, checks, jobs, sensors and resources of governed models. The only package that imports dagster."""

from __future__ import annotations

from ml_platform.orchestration.batch import batch_schedule
from ml_platform.orchestration.jobs import (
    features_job,
    promote_job,
    request_candidate,
    request_candidate_job,
    rollback_job,
    score_job,
    train_job,
)
from ml_platform.orchestration.location import definitions
from ml_platform.orchestration.loop_jobs import loop_jobs
from ml_platform.orchestration.resource import PlatformResource
from ml_platform.orchestration.sensor import reconcile_now, reconcile_sensor
from ml_platform.orchestration.watchers import drift_watch, freshness_watch, label_watch, loop_sensors, promotion_push

__all__ = [
    "PlatformResource",
    "batch_schedule",
    "definitions",
    "drift_watch",
    "features_job",
    "freshness_watch",
    "label_watch",
    "loop_jobs",
    "loop_sensors",
    "promote_job",
    "promotion_push",
    "reconcile_now",
    "reconcile_sensor",
    "request_candidate",
    "request_candidate_job",
    "rollback_job",
    "score_job",
    "train_job",
]
