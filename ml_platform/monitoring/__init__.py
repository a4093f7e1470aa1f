"""Drift, performance, alerts, retrain requests."""

from ml_platform.monitoring.monitor import Monitor

__all__ = ["Monitor"]
