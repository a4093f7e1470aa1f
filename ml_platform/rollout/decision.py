"""What to do with a canary: advance, hold, roll back or ask a person. Pure: plan, state, evidence and time come in.

The order is fixed. Sample ratio first: where the arms did not get the units that the route gives them, no number
computed from them means what it says. Then harm: any guardrail whose interval lies beyond its margin rolls back, at
once. Only then may a step end well, and only if *every* interval excludes its margin and the minimum of units and time
is met. Everything else holds, and after the declared time a person is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from ml_platform.core.clock import format_utc
from ml_platform.core.durations import Duration
from ml_platform.core.errors import DataError
from ml_platform.rollout.intervals import Bounds, Intervals, Share, SpentIntervals
from ml_platform.rollout.plan import ALL_UNITS_BP, Rollout

__all__ = ["ArmEvidence", "Evidence", "Reading", "RolloutDecision", "StepState", "Verdict", "decide"]

Verdict = Literal["advance", "hold", "rollback", "ask"]
# A broken assignment is a fault of ours, not a property of a version: a false alarm about it wastes a person's day.
RATIO_ALPHA: Final = 0.001
_GUARDRAILS: Final = 5


@dataclass(frozen=True, eq=False)
class ArmEvidence:
    """What one arm did during a step.

    Attributes:
        version: the arm's version.
        units: distinct units that were routed to it, refused ones too.
        answered, refused: requests.
        decided, declined: first exposures: units with a decision, and those whose decision was adverse.
        latency_ms: of each answered request, float64, in any order.
        scores: of each unit's first exposure, float64.
    """

    version: int
    units: int
    answered: int
    refused: int
    decided: int
    declined: int
    latency_ms: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        counts = (self.units, self.answered, self.refused, self.decided, self.declined)
        if min(counts) < 0 or self.declined > self.decided or self.decided > self.units:
            raise DataError("The counts of an arm contradict each other.", field="units", next_step="Count them again.")
        if not np.isfinite(self.latency_ms).all() or not np.isfinite(self.scores).all():
            raise DataError("A latency or score is not finite.", field="scores", next_step="Count finite ones only.")

    @property
    def refusals(self) -> Share:
        """Of all requests."""
        return Share(self.refused, self.refused + self.answered)

    @property
    def declines(self) -> Share:
        """Of the units decided about."""
        return Share(self.declined, self.decided)

    def counts(self) -> dict[str, int]:
        names = ("version", "units", "answered", "refused", "decided", "declined")
        return {name: int(getattr(self, name)) for name in names}


@dataclass(frozen=True, eq=False)
class Evidence:
    """Both arms of a step, over the same time."""

    primary: ArmEvidence
    canary: ArmEvidence


@dataclass(frozen=True)
class StepState:
    """Where the rollout stands.

    Attributes:
        share_bp: of the units that the route gives to the canary, basis points.
        started_at: when the step began, on the platform's clock.
        looks: decisions that were taken in this step before.
    """

    share_bp: int
    started_at: datetime
    looks: int = 0


@dataclass(frozen=True)
class Reading:
    """One guardrail: the difference in its unit, its margin, and what it says."""

    name: str
    unit: str
    bounds: Bounds
    margin: float

    @property
    def harmful(self) -> bool:
        """The whole interval lies beyond the margin."""
        return self.bounds.low > self.margin

    @property
    def excluded(self) -> bool:
        """The whole interval lies on this side of the margin: harm is excluded."""
        return self.bounds.high < self.margin

    def to_json(self) -> dict[str, Any]:
        says = "harm" if self.harmful else "excluded" if self.excluded else "not yet known"
        return {"guardrail": self.name, "unit": self.unit, "margin": self.margin, "says": says} | self.bounds.to_json()


@dataclass(frozen=True)
class RolloutDecision:
    """What to do, the share of units that follows from it (0: none, 10,000: production), and why.

    ``ratio`` is the canary's share of the units, with what the route gives it; None before any unit came.
    """

    decision: Verdict
    share_bp: int
    reasons: tuple[str, ...]
    look: int
    ratio: Bounds
    readings: tuple[Reading, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "decision": self.decision,
            "share_bp": self.share_bp,
            "reasons": list(self.reasons),
            "look": self.look,
            "ratio": self.ratio.to_json(),
            "guardrails": [reading.to_json() for reading in self.readings],
        }


def decide(
    plan: Rollout, state: StepState, evidence: Evidence, now: datetime, intervals: Intervals | None = None
) -> RolloutDecision:
    """Judges one step; see the module for the order.

    Args:
        plan: as declared with the version.
        state: the step, and how often it was looked at.
        evidence: both arms since the step began.
        now: on the platform's clock.
        intervals: how sure one is; ``SpentIntervals`` by default.

    Raises:
        DataError: the share is not between 0 and all, or the step begins in the future.
    """
    if not 0 < state.share_bp < ALL_UNITS_BP:
        raise DataError(
            "A canary has a share between 0 and all units.",
            field="share_bp",
            next_step="Set a share of the plan's steps; a version with all units is the primary.",
        )
    if now < state.started_at:
        raise DataError("The step begins in the future.", field="now", next_step="Check the platform's clock.")
    rule, look = intervals or SpentIntervals(), state.looks + 1
    readings = _readings(plan, evidence, rule, look)
    units = Share(evidence.canary.units, evidence.canary.units + evidence.primary.units)
    ratio = rule.share(units, RATIO_ALPHA, look)

    def said(decision: Verdict, share_bp: int, reasons: list[str]) -> RolloutDecision:
        return RolloutDecision(decision, share_bp, tuple(reasons), look, ratio, readings)

    given = state.share_bp / ALL_UNITS_BP
    if not ratio.low <= given <= ratio.high:
        return said("ask", state.share_bp, [f"sample ratio: {ratio.point:.4f} of the units, the route gives {given}"])
    harmful = [_sentence(reading, "is beyond") for reading in readings if reading.harmful]
    if harmful:
        return said("rollback", 0, harmful)
    missing = _missing(plan, state, evidence, now)
    open_ones = [_sentence(one, "does not exclude") for one in readings if not one.excluded]
    if not missing and not open_ones:
        return said("advance", plan.share_after(state.share_bp), ["every guardrail excludes its margin"])
    if now >= Duration.parse(plan.max_hold, field="max_hold").after(state.started_at):
        return said("ask", state.share_bp, [f"no answer within {plan.max_hold}", *missing, *open_ones])
    return said("hold", state.share_bp, [*missing, *open_ones])


def _missing(plan: Rollout, state: StepState, evidence: Evidence, now: datetime) -> list[str]:
    """What of the minimum is not met."""
    limits, missing = plan.guardrails, []
    if evidence.canary.decided < limits.min_units:
        missing.append(f"{evidence.canary.decided} of {limits.min_units} units decided")
    ready = Duration.parse(limits.min_time, field="min_time").after(state.started_at)
    if now < ready:
        missing.append(f"the step lasts until {format_utc(ready)} at least")
    return missing


def _sentence(reading: Reading, verb: str) -> str:
    low, high = (f"{value:.4g}" for value in (reading.bounds.low, reading.bounds.high))
    return f"{reading.name}: [{low}, {high}] {reading.unit} {verb} {reading.margin:g}"


def _readings(plan: Rollout, evidence: Evidence, rule: Intervals, look: int) -> tuple[Reading, ...]:
    """Every guardrail, each with its part of alpha (Bonferroni)."""
    limits, canary, primary = plan.guardrails, evidence.canary, evidence.primary
    alpha = limits.alpha / _GUARDRAILS
    errors = rule.share_difference(canary.refusals, primary.refusals, alpha, look)
    adverse = rule.share_difference(canary.declines, primary.declines, alpha, look)
    p50, p99 = (rule.quantile_difference(canary.latency_ms, primary.latency_ms, q, alpha, look) for q in (0.5, 0.99))
    return (
        Reading("errors", "of requests", errors, limits.errors),
        Reading("latency_p50", "ms", p50, limits.latency_p50_ms),
        Reading("latency_p99", "ms", p99, limits.latency_p99_ms),
        Reading("decision_rate", "of units", _either_way(adverse), limits.decision_rate),
        Reading(
            "score_shift", "standard deviations", _either_way(_shift(evidence, rule, alpha, look)), limits.score_shift
        ),
    )


def _shift(evidence: Evidence, rule: Intervals, alpha: float, look: int) -> Bounds:
    """The difference of mean scores in standard deviations of the primary's, which are taken as known."""
    found = rule.mean_difference(evidence.canary.scores, evidence.primary.scores, alpha, look)
    spread = float(evidence.primary.scores.std()) if len(evidence.primary.scores) else 0.0
    if spread > 0:
        return found.scaled(1 / spread)
    # A primary that always says the same: any difference is without measure, and none is none.
    return found if found.low == found.high == 0 else Bounds.nothing_known(found.method)


def _either_way(bounds: Bounds) -> Bounds:
    """The bounds of the absolute value: harm is a change in either direction."""
    ends = (abs(bounds.low), abs(bounds.high))
    low = 0.0 if bounds.low <= 0 <= bounds.high else min(ends)
    return Bounds(abs(bounds.point), low, max(ends), bounds.method)
