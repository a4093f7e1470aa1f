"""Approvals: which decisions are open, the bytes that a person signs, and entering what was signed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_platform.core.errors import ApprovalMissing
from ml_platform.platform import Platform
from ml_platform.registry import sshsig
from ml_platform.registry.approvals import Decision, approval_namespace
from ml_platform.registry.evidence import Evidence
from ml_platform.registry.keyfiles import load_signer
from ml_platform.registry.verdicts import open_verdicts

__all__ = ["Approved", "approval_payload", "approve", "enter_approval", "open_decisions"]


@dataclass(frozen=True)
class Approved:
    """An approval that was entered."""

    model: str
    version: int
    to: str
    log_index: int

    def to_json(self) -> dict[str, Any]:
        return {"model": self.model, "version": self.version, "to": self.to, "log_index": self.log_index}


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
