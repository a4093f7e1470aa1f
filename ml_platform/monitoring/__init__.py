"""Drift, performance, alerts, retrain requests."""

from ml_platform.monitoring.monitor import Monitor
from ml_platform.monitoring.retrain import Retraining

__all__ = ["Monitor", "Retraining"]
