"""Plans, shadow, canary, A/B, guardrails, rollback."""

from ml_platform.rollout.decision import ArmEvidence, Evidence, Reading, RolloutDecision, StepState, decide
from ml_platform.rollout.intervals import Bounds, Intervals, Share, SpentIntervals
from ml_platform.rollout.plan import ALL_UNITS_BP, Guardrails, Rollout

__all__ = [
    "ALL_UNITS_BP",
    "ArmEvidence",
    "Bounds",
    "Evidence",
    "Guardrails",
    "Intervals",
    "Reading",
    "Rollout",
    "RolloutDecision",
    "Share",
    "SpentIntervals",
    "StepState",
    "decide",
]
