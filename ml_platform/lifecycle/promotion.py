"""Stages: staging, approvals, promotion, rollback, restore. Only the log is written; everything else follows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_platform.core.errors import ApprovalMissing, IllegalTransition
from ml_platform.platform import Platform
from ml_platform.registry import sshsig
from ml_platform.registry.approvals import Decision, approval_namespace
from ml_platform.registry.evidence import Evidence
from ml_platform.registry.keyfiles import load_signer
from ml_platform.registry.registry import TransitionResult
from ml_platform.registry.verdicts import open_verdicts

__all__ = [
    "Approved",
    "Transitioned",
    "approval_payload",
    "approve",
    "enter_approval",
    "open_decisions",
    "promote",
    "restore",
    "rollback",
    "stage",
]


@dataclass(frozen=True)
class Approved:
    """An approval that was entered."""

    model: str
    version: int
    to: str
    log_index: int

    def to_json(self) -> dict[str, Any]:
        return {"model": self.model, "version": self.version, "to": self.to, "log_index": self.log_index}


@dataclass(frozen=True)
class Transitioned:
    """A change of stage; ``archived`` is the version that it displaced, if any."""

    model: str
    version: int
    source: str
    to: str
    archived: int | None
    log_index: int

    @classmethod
    def of(cls, result: TransitionResult) -> Transitioned:
        return cls(result.model, result.version, result.source, result.to, result.displaced, result.index)

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "version": self.version,
            "from": self.source,
            "to": self.to,
            "archived": self.archived,
            "log_index": self.log_index,
        }


def stage(platform: Platform, model: str, version: int, *, principal: str, reason: str) -> Transitioned:
    """Moves a newly trained version to ``staging``. Needs a reason, no approval."""
    return _moved(platform, model, version, "stage", "staging", principal, reason)


def promote(platform: Platform, model: str, version: int, to: str, *, principal: str, reason: str) -> Transitioned:
    """Moves a version to ``canary`` or ``production``; the previous production version is archived.

    Raises:
        ApprovalMissing, ApprovalInvalid, GateFailed, EvaluationStale, PolicyViolation, IllegalTransition: why not.
        ConcurrentTransition: somebody else was first.
    """
    return _moved(platform, model, version, "promote", to, principal, reason)


def rollback(
    platform: Platform, model: str, *, to_version: int | None = None, principal: str, reason: str
) -> Transitioned:
    """Puts the version that held production before, or a named earlier one, back into production.

    Raises:
        IllegalTransition: no earlier version held production.
    """
    version = to_version if to_version is not None else _previous(platform, model)
    return _moved(platform, model, version, "rollback", "production", principal, reason)


def restore(platform: Platform, model: str, version: int, *, principal: str, reason: str) -> Transitioned:
    """Puts a version that was rolled back into production again, under the approvals that it had."""
    return _moved(platform, model, version, "restore", "production", principal, reason)


def _moved(
    platform: Platform, model: str, version: int, action: str, to: str, principal: str, reason: str
) -> Transitioned:
    if not reason.strip():
        raise ApprovalMissing("A change of stage needs a reason.", field="reason", next_step="Say why, in a sentence.")
    known = platform.registry.state().version(model, version)
    if known.stage == to and known.history and known.history[-1].action == action:
        last = known.history[-1]  # asked again, after a crash or by hand: it has happened
        return Transitioned(model, version, last.source, to, None, last.index)
    return Transitioned.of(platform.registry.transition(model, version, action, to=to, actor=principal, reason=reason))


def _previous(platform: Platform, model: str) -> int:
    known = platform.registry.state().model(model)
    current = known.production
    held = sorted(
        (version.productions[0].index, number)
        for number, version in known.versions.items()
        if version.productions and number != current
    )
    if current is not None:
        first = known.version(current).productions[0].index
        held = [(index, number) for index, number in held if index < first]
    if not held:
        raise IllegalTransition(
            "No earlier version held production.",
            field="version",
            next_step="There is nothing to roll back to; promote another version, or take the model out of service.",
        )
    return held[-1][1]


def open_decisions(platform: Platform, model: str, version: int) -> dict[str, str]:
    """The gates about which an approver must decide, and their verdicts; recomputed from the stored evaluation.

    Raises:
        GateFailed: a gate is red: there is nothing to approve.
    """
    state = platform.registry.state()
    known = state.version(model, version)
    verdicts = Evidence(platform.objects).verdicts(known.digests.spec, known.digests.evaluation)
    asked = open_verdicts(state.policy.document, known.risk_class, verdicts, model=model, candidate=known.candidate)
    return {one.gate: one.verdict for one in asked}


def approval_payload(
    platform: Platform, model: str, version: int, to: str, *, reason: str, accept: Mapping[str, str] | None = None
) -> bytes:
    """The exact bytes to sign under the namespace ``promote@ml-platform``.

    Args:
        platform: the root.
        model: model name.
        version: version number.
        to: ``canary`` or ``production``.
        reason: why; kept as evidence.
        accept: for each gate that did not pass, the reason why it is accepted.

    Raises:
        ApprovalMissing: a gate that did not pass is not decided about.
        GateFailed: a gate is red.
    """
    accepted = dict(accept or {})
    verdicts = open_decisions(platform, model, version)
    missing = sorted(set(verdicts) - set(accepted))
    if missing:
        raise ApprovalMissing(
            f"Gates that did not pass need your decision: {', '.join(missing)}.",
            field="accept",
            next_step=" ".join(f'--accept {gate}="why"' for gate in missing) + ", or do not approve.",
        )
    decisions = [Decision(gate, verdicts[gate], why) for gate, why in sorted(accepted.items()) if gate in verdicts]
    return platform.registry.payload(model, version, action="promote", to=to, reason=reason, decisions=decisions)


def enter_approval(platform: Platform, payload: bytes, signature: str) -> Approved:
    """Enters an approval that was signed elsewhere, with ``ssh-keygen -Y sign`` for example."""
    from ml_platform.registry.approvals import parse_payload

    document = parse_payload(payload)
    index = platform.registry.approve(payload, signature)
    return Approved(document["model"], document["version"], document["to"], index)


def approve(
    platform: Platform,
    model: str,
    version: int,
    to: str,
    *,
    key: Path,
    reason: str,
    accept: Mapping[str, str] | None = None,
    passphrase: bytes | None = None,
) -> Approved:
    """Signs with a key file and enters the approval.

    Raises:
        ApprovalInvalid: the key is unknown, revoked, not an approver's, or its owner is an author of the version.
        ApprovalMissing, GateFailed: see ``approval_payload``.
    """
    payload = approval_payload(platform, model, version, to, reason=reason, accept=accept)
    signature = sshsig.sign(load_signer(key, passphrase), payload, approval_namespace("promote"))
    return enter_approval(platform, payload, signature)
