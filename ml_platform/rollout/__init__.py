"""Plans, shadow, canary, A/B, guardrails, rollback."""

from ml_platform.rollout.plan import Rollout

__all__ = ["Rollout"]
