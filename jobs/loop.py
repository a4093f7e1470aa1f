"""Serving and the closed loop, for every model of this deployment: asked for by the sensors, or started by hand."""

from assets.credit_risk import credit_risk
from ml_platform.orchestration import loop_jobs
from resources import platform

loop = loop_jobs([credit_risk], platform)

__all__ = ["loop"]
