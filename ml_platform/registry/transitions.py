"""Whether a version may change its stage. Pure: evidence comes as an argument.

`plan` writes the body of a transition from the state; `check_intended` and `check_transition` judge one, before it
is written (inside the append's lock) and again in ``verify``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_platform.core.errors import (
    ApprovalInvalid,
    ConcurrentTransition,
    EvaluationStale,
    IllegalTransition,
    PolicyViolation,
)
from ml_platform.registry.approvals import why_unusable
from ml_platform.registry.events import Entry
from ml_platform.registry.judging import Judging
from ml_platform.registry.policy import check_declaration, require_enough, required_approvals, risk_class
from ml_platform.registry.state import ApprovalState, ModelState, State, VersionState
from ml_platform.registry.table import SINGLE, Rule, rule_for
from ml_platform.registry.verdicts import open_verdicts

__all__ = ["check_intended", "check_transition", "plan", "why_not_back"]


def plan(
    state: State,
    judging: Judging,
    model: str,
    number: int,
    *,
    action: str,
    to: str,
    actor: str,
    reason: str,
    recorded_at: str,
) -> dict[str, Any]:
    """The body of a transition, as the state now demands it.

    Args:
        state: the state now.
        judging: evidence.
        model: model name.
        number: version number.
        action: an action of the table.
        to: the stage after.
        actor: principal who asks for it.
        reason: digest of the written reason.
        recorded_at: now, RFC 3339.

    Raises:
        NotFound: unknown model or version.
        IllegalTransition: no such move.
        ApprovalMissing: too few approvals.
        ApprovalInvalid: there are approvals, and they do not count; says why.
    """
    known = state.model(model)
    version = known.version(number)
    rule = rule_for(action, version.stage, to)
    required, approvals = 0, list[str]()
    if rule.approvals:
        required = required_approvals(state.policy.document, judging.evidence.spec(version.digests.spec), version, to)
        approvals = _collect(state, known, version, rule, required, recorded_at)
    return {
        "version": number,
        "action": action,
        "from": version.stage,
        "to": to,
        "displaced": _displaced(known, rule),
        "baseline": version.baseline if rule.checked else None,
        "required": required,
        "approvals": approvals,
        "actor": actor,
        "reason": reason,
    }


def _displaced(model: ModelState, rule: Rule) -> int | None:
    return model.holder(rule.to) if rule.to in SINGLE else None


def _collect(
    state: State, model: ModelState, version: VersionState, rule: Rule, required: int, recorded_at: str
) -> list[str]:
    usable: dict[str, ApprovalState] = {}
    refused: str | None = None
    for approval in sorted(model.approvals.values(), key=lambda one: one.index):
        if (approval.version, approval.action, approval.source, approval.to) != (
            version.number,
            rule.action,
            rule.source,
            rule.to,
        ):
            continue
        why = why_unusable(state, version, approval, recorded_at)
        if why is None:
            usable.setdefault(approval.principal, approval)
        else:
            refused = why
    if not usable and required and refused is not None:
        raise _does_not_count(refused)
    require_enough(state.policy.document, version, len(usable), required, rule.to)
    return [approval.payload for approval in usable.values()]


def check_intended(state: State, entry: Entry, judging: Judging) -> None:
    """An announcement passes all checks of the transition itself, on the head that it names.

    Raises:
        ConcurrentTransition: that head is not this log's, or the model moved since.
        PlatformError: as `check_transition`.
    """
    expected, model = entry.body["expected"], state.model(str(entry.model))
    if not judging.is_prefix(expected) or model.last_transition >= expected["size"]:
        raise _overtaken()
    _check(state, model, entry, judging)


def check_transition(state: State, entry: Entry, judging: Judging) -> None:
    """A transition: announced, not overtaken, legal, and with everything that the move requires.

    Raises:
        ConcurrentTransition: another transition of the model was written since it was announced.
        IllegalTransition: no such move, or a rollback to a version that never held production.
        EvaluationStale: it was evaluated against another version than the one now in production.
        GateFailed: a gate is red by the stored evaluation.
        ApprovalMissing: too few approvals.
        ApprovalInvalid: one of them does not count.
        PolicyViolation: the declaration is laxer than the policy in force.
    """
    model = state.model(str(entry.model))
    intent = model.intents.get(entry.body["intended"])
    if intent is None:
        raise _overtaken()
    body = entry.body
    if (intent.version, intent.action, intent.source, intent.to) != (
        body["version"], body["action"], body["from"], body["to"],
    ):  # fmt: skip
        raise IllegalTransition(
            "The transition is not the one that was announced.", field="intended", next_step="Announce it again."
        )
    _check(state, model, entry, judging)


def _check(state: State, model: ModelState, entry: Entry, judging: Judging) -> None:
    body = entry.body
    version = model.version(body["version"])
    rule = rule_for(body["action"], version.stage, body["to"])
    if body["from"] != version.stage or body["displaced"] != _displaced(model, rule):
        raise _overtaken()
    if body["baseline"] != (version.baseline if rule.checked else None):
        raise IllegalTransition(
            "The baseline is not that of the evaluation.", field="baseline", next_step="Plan the move again."
        )
    if rule.checked:
        _check_promotion(state, model, version, body, judging, recorded_at=entry.recorded_at, rule=rule)
    elif body["approvals"] or body["required"]:
        raise IllegalTransition(
            "This move needs no approvals and names some.", field="approvals", next_step="Plan the move again."
        )
    if rule.earlier:
        _check_earlier(state, model, version, rule)


def _check_promotion(
    state: State,
    model: ModelState,
    version: VersionState,
    body: Mapping[str, Any],
    judging: Judging,
    *,
    recorded_at: str,
    rule: Rule,
) -> None:
    if model.blocked or state.blocked:
        raise PolicyViolation(
            "The log holds a critical entry of a kind that this version of the library does not know.",
            field=f"entry {[*model.blocked, *state.blocked][0]}",
            next_step="Upgrade the library; rollbacks still work.",
        )
    _require_fresh(model, version, judging)
    policy, spec = state.policy.document, judging.evidence.spec(version.digests.spec)
    check_declaration(policy, spec)
    if risk_class(spec) != version.risk_class:
        raise PolicyViolation(
            "The version was registered under another risk class.", field="risk_class", next_step="Register it again."
        )
    asked = open_verdicts(
        policy,
        version.risk_class,
        judging.evidence.verdicts(version.digests.spec, version.digests.evaluation),
        model=version.model,
        candidate=version.candidate,
    )
    required = required_approvals(policy, spec, version, rule.to)
    if body["required"] != required:
        raise PolicyViolation(
            f"{required} approvals are required here.", field="required", next_step="Plan the move again."
        )
    people: set[str] = set()
    for payload in body["approvals"]:
        approval = model.approvals.get(payload)
        _require_counts(state, version, approval, rule, recorded_at)
        assert approval is not None  # noqa: S101  # said by the line before
        if not approval.accepts >= {one.gate for one in asked}:
            raise _does_not_count("does not decide about every gate that is inconclusive")
        people.add(approval.principal)
    require_enough(state.policy.document, version, len(people), required, rule.to)


def _require_fresh(model: ModelState, version: VersionState, judging: Judging) -> None:
    """The evaluation's baseline is the version that is in production now, by number and by artifact."""
    baseline = judging.evidence.evaluation(version.digests.evaluation).baseline
    production = None
    if model.production is not None:
        production = (model.production, model.version(model.production).digests.artifact)
    if baseline != production:
        now = "no version" if production is None else f"version {production[0]}"
        then = "no version" if baseline is None else f"version {baseline[0]}"
        raise EvaluationStale(
            f"It was compared with {then}; {now} is in production.",
            field="baseline",
            next_step="Evaluate the candidate again, against the version in production.",
        )


def _require_counts(
    state: State, version: VersionState, approval: ApprovalState | None, rule: Rule, recorded_at: str
) -> None:
    if approval is None:
        raise _does_not_count("was never entered")
    move = (approval.version, approval.action, approval.source, approval.to)
    if move != (version.number, rule.action, rule.source, rule.to):
        raise _does_not_count("is for another move")
    why = why_unusable(state, version, approval, recorded_at)
    if why is not None:
        raise _does_not_count(why)


def _check_earlier(state: State, model: ModelState, version: VersionState, rule: Rule) -> None:
    """The version held production, under approvals that still stand; rollback goes back, restore forward."""
    if not version.productions:
        raise IllegalTransition(
            f"Version {version.number} never held production.",
            field="version",
            next_step="Roll back to a version that did; `mlp versions` shows them.",
        )
    if not _approvals_stand(state, model, version):
        raise ApprovalInvalid(
            "The approvals under which this version held production were withdrawn.",
            field="approvals",
            next_step="Roll back to another version.",
        )
    if model.production is not None:
        first = version.productions[0].index
        forward = first > model.version(model.production).productions[0].index
        if forward != (rule.action == "restore"):
            raise IllegalTransition(
                "Rollback goes to a version that held production earlier, restore to one that held it later.",
                field="action",
                next_step=f"Use {'restore' if forward else 'rollback'}.",
            )


def why_not_back(state: State, model: ModelState, number: int) -> str | None:
    """Why a version may not be put into production again; None when it may."""
    version = model.version(number)
    if not version.productions:
        return "it never held production."
    if not _approvals_stand(state, model, version):
        return "the approvals under which it held production were withdrawn."
    return None


def _approvals_stand(state: State, model: ModelState, version: VersionState) -> bool:
    """Whether as many approvals as were required at its promotion still stand."""
    # Rollbacks carry no approvals of their own: those of the promotion count.
    promoted = [move for move in version.productions if move.action == "promote"]
    if not promoted:
        return False
    standing = [payload for payload in promoted[-1].approvals if _stands(state, model.approvals[payload])]
    return len(standing) >= promoted[-1].required


def _stands(state: State, approval: ApprovalState) -> bool:
    """Whether an approval still carries a rollback: retired keys leave it standing, compromised ones do not."""
    key = state.keys[approval.public_key]
    suspect = key.cause == "compromised" and (key.suspect_from or "") <= approval.recorded_at
    return approval.revoked is None and not suspect


def _does_not_count(why: str) -> ApprovalInvalid:
    return ApprovalInvalid(f"An approval {why}.", field="approvals", next_step="Collect a new signature.")


def _overtaken() -> ConcurrentTransition:
    return ConcurrentTransition(
        "Another transition of this model was written first; this one changed nothing.",
        field="stage",
        next_step="Look at the state and decide again.",
    )
