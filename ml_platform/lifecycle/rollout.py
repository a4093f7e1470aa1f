"""A canary on its way: judged by evidence, decided in the log, carried out by the route.

The order is fixed: evidence object, decision in the log, route. Killed between any two of them, the next call carries
out what was decided before it decides anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from ml_platform.core.clock import format_utc
from ml_platform.core.digests import canonical_json, parse_canonical
from ml_platform.core.durations import Duration
from ml_platform.core.errors import ApprovalMissing, Refused
from ml_platform.lifecycle.promotion import archive
from ml_platform.lifecycle.rollout_evidence import Step, current_step, declared_plan, read_evidence
from ml_platform.lifecycle.routing import running_server
from ml_platform.lifecycle.sharing import set_share
from ml_platform.platform import Platform
from ml_platform.registry.loop_state import RolloutStep
from ml_platform.registry.state import ModelState
from ml_platform.rollout import ALL_UNITS_BP, Evidence, Rollout, RolloutDecision, StepState, decide

__all__ = ["RolloutAdvanced", "advance_rollout", "rollout_document", "rollout_status"]

EVIDENCE_FORMAT: Final = "ml-platform/rollout-evidence/1"
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
_GROWTH_PERCENT: Final = 110  # a look costs confidence in the next ones: it waits for a tenth more units


@dataclass(frozen=True)
class RolloutAdvanced:
    """What was decided about a canary, and what came of it.

    Args:
        decision: ``advance``, ``hold``, ``rollback`` or ``ask``.
        share_bp: of the units that the canary has now, basis points.
        ready: whether it has passed its last step: production is a person's approval away.
        log_index: of the decision; None where there was nothing new to look at.
        epoch: of the route in force.
    """

    model: str
    version: int
    decision: str
    share_bp: int
    ready: bool
    reasons: tuple[str, ...]
    log_index: int | None
    epoch: int | None

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "version": self.version,
            "decision": self.decision,
            "share_bp": self.share_bp,
            "ready_for_production": self.ready,
            "reasons": list(self.reasons),
            "log_index": self.log_index,
            "epoch": self.epoch,
        }


def rollout_status(platform: Platform, model: str) -> dict[str, Any]:
    """Where a model's canary stands and what its evidence says now; writes nothing.

    Raises:
        NotFound: unknown model.
        IllegalTransition: no version is in canary.
    """
    known = platform.registry.state().model(model)
    step = current_step(platform, known)
    plan = declared_plan(platform, known, step.canary)
    document: dict[str, Any] = {
        "model": model,
        "version": step.canary,
        "primary": step.primary,
        "share_bp": step.share_bp,
        "started_at": None if step.started_at is None else format_utc(step.started_at),
        "plan": plan.spec(),
        "decisions": [_said(one) for one in _steps(known)],
    }
    if step.share_bp == 0:
        return {**document, "arms": None, "judgement": None}
    evidence = read_evidence(platform, step)
    found = decide(plan, _state(known, step), evidence, platform.clock.now())
    return {**document, "arms": _arms(evidence), "judgement": found.to_json()}


def advance_rollout(
    platform: Platform, model: str, *, actor: str | None = None, despite: str | None = None
) -> RolloutAdvanced:
    """Judges the canary's step, enters the decision and carries it out: the next share, the archive, or nothing.

    Called again without new evidence it changes nothing: a look is taken when the canary's units have grown by a tenth,
    or a person is to be asked. At the last step the share is not touched: production needs its approvals as always.

    Args:
        platform: the root.
        model: model name.
        actor: principal or service; the settings' launcher by default.
        despite: a person's reason to advance where the evidence holds or asks; kept as evidence. Shown harm cannot be
            overruled.

    Raises:
        IllegalTransition: no version is in canary.
        ApprovalMissing: an empty reason.
        Refused: a guardrail shows harm.
    """
    if despite is not None and not despite.strip():
        raise ApprovalMissing("To overrule evidence needs a reason.", field="despite", next_step="Say why.")
    who = actor or platform.settings.launcher
    known = platform.registry.state().model(model)
    step = current_step(platform, known)
    plan, last = declared_plan(platform, known, step.canary), _steps(known)[-1:]
    if last and last[0].decision in {"advance", "rollback"} and not _carried_out(step, last[0]):  # killed between
        return _carry_out(platform, step, last[0], ("decided before, carried out now",), who)
    if step.share_bp == 0 or (last and last[0].share_bp == ALL_UNITS_BP):
        return _standing(platform, step, last[0] if last else None)
    evidence, state, now = read_evidence(platform, step), _state(known, step), platform.clock.now()
    found = decide(plan, state, evidence, now)
    if despite is not None:
        found = _overruled(plan, state, found)
    elif last and state.looks and not _worth_a_look(platform, plan, step, last[0], evidence, now):
        return _standing(platform, step, last[0])
    document = rollout_document(plan, step, state, evidence, found, now, despite)
    digest = platform.objects.put(canonical_json(document))
    index = platform.registry.decide_rollout(
        model, version=step.canary, decision=found.decision, share_bp=found.share_bp, evidence=digest, actor=who
    )
    entered = next(one for one in _steps(platform.registry.state().model(model)) if one.index == index)
    return _carry_out(platform, step, entered, found.reasons, who)


def _steps(known: ModelState) -> tuple[RolloutStep, ...]:
    """The decisions about the version in canary."""
    rollout = known.rollout
    return rollout.steps if rollout is not None and rollout.version == known.canary else ()


def _state(known: ModelState, step: Step) -> StepState:
    begun = -1 if step.route is None else step.route.index
    looks = sum(1 for one in _steps(known) if one.index > begun)
    return StepState(step.share_bp, step.started_at or _NEVER, looks)


def _carried_out(step: Step, last: RolloutStep) -> bool:
    """Whether the route follows the newest decision; with all units it need not: promotion makes that route."""
    newer = step.route is not None and step.route.index > last.index
    return newer or last.share_bp in {step.share_bp, ALL_UNITS_BP}


def _carry_out(
    platform: Platform, step: Step, entered: RolloutStep, reasons: tuple[str, ...], actor: str
) -> RolloutAdvanced:
    if entered.decision == "rollback":
        why = f"Rolled back by the evidence {entered.evidence}."
        archive(platform, step.model, step.canary, principal=actor, reason=why)
    elif not _carried_out(step, entered):
        set_share(platform, step.model, entered.share_bp, principal=actor, server=running_server(platform))
    route = platform.registry.state().model(step.model).route
    ready = entered.share_bp == ALL_UNITS_BP
    return RolloutAdvanced(
        model=step.model,
        version=step.canary,
        decision=entered.decision,
        share_bp=step.share_bp if ready else entered.share_bp,
        ready=ready,
        reasons=reasons,
        log_index=entered.index,
        epoch=None if route is None else route.epoch,
    )


def _standing(platform: Platform, step: Step, last: RolloutStep | None) -> RolloutAdvanced:
    """Nothing new: what was decided last stands."""
    route = platform.registry.state().model(step.model).route
    return RolloutAdvanced(
        model=step.model,
        version=step.canary,
        decision="hold" if last is None else last.decision,
        share_bp=step.share_bp,
        ready=last is not None and last.share_bp == ALL_UNITS_BP,
        reasons=("the canary has no units" if step.share_bp == 0 else "no new evidence since the last decision",),
        log_index=None,
        epoch=None if route is None else route.epoch,
    )


def _worth_a_look(
    platform: Platform, plan: Rollout, step: Step, last: RolloutStep, evidence: Evidence, now: datetime
) -> bool:
    before = parse_canonical(platform.objects.get(last.evidence))
    seen_units, units = int(before["arms"]["canary"]["units"]), evidence.canary.units
    if units > 0 and units * 100 >= seen_units * _GROWTH_PERCENT:
        return True
    limits = (plan.max_hold, plan.guardrails.min_time)
    due = (Duration.parse(text).after(step.started_at) for text in limits if step.started_at is not None)
    seen = before["now"]
    return any(seen < format_utc(at) <= format_utc(now) for at in due)


def _overruled(plan: Rollout, state: StepState, found: RolloutDecision) -> RolloutDecision:
    """A person advances where the evidence does not say it.

    Raises:
        Refused: it shows harm.
    """
    harmful = [reading.name for reading in found.readings if reading.harmful]
    if harmful:
        raise Refused(
            f"The evidence shows harm: {', '.join(harmful)}.",
            field="despite",
            next_step="Let it roll back; mend the version, or declare another margin and train it again.",
        )
    reasons = ("a person advanced it", *found.reasons)
    share = plan.share_after(state.share_bp)
    return RolloutDecision("advance", share, reasons, found.look, found.ratio, found.readings)


def _arms(evidence: Evidence) -> dict[str, dict[str, int]]:
    return {"primary": evidence.primary.counts(), "canary": evidence.canary.counts()}


def _said(one: RolloutStep) -> dict[str, Any]:
    names = ("decision", "share_bp", "actor", "effective_at", "evidence")
    return {"log_index": one.index, **{name: getattr(one, name) for name in names}}


def rollout_document(
    plan: Rollout, step: Step, state: StepState, evidence: Evidence, found: RolloutDecision, now: datetime,
    despite: str | None,
) -> dict[str, Any]:  # fmt: skip
    """What a decision rests on (``ml-platform/rollout-evidence/1``): counts and bounds, no row of anybody."""
    return {
        "format": EVIDENCE_FORMAT,
        "model": step.model,
        "version": step.canary,
        "plan": plan.spec(),
        "route": None if step.route is None else step.route.digest,
        "share_bp": state.share_bp,
        "started_at": format_utc(state.started_at),
        "now": format_utc(now),
        "looks": state.looks,
        "arms": _arms(evidence),
        "judgement": found.to_json(),
        "despite": despite,
    }
