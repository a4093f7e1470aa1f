"""Approvals: what a person signs, and whether it counts.

Payload ``ml-platform/approval/1``: RFC 8785 bytes, no trailing newline; SSHSIG namespace ``<action>@ml-platform``.
Payload and signature are evidence objects; the entry holds their digests and what the fold needs. Pure: evidence
comes as an argument. Authority and expiry are judged at the entry's own place and ``recorded_at``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from ml_platform.core.clock import format_utc
from ml_platform.core.digests import canonical_json
from ml_platform.core.errors import ApprovalInvalid
from ml_platform.registry.bodies import (
    ACTION,
    BOOLEAN,
    DIGEST,
    HEX32,
    IDENTIFIER,
    INTEGER,
    MODEL,
    POSITIVE,
    STAGE,
    TIME,
    Check,
    Shape,
    choice,
    many,
    optional,
)
from ml_platform.registry.events import Entry
from ml_platform.registry.judging import Judging
from ml_platform.registry.orders import SEEN, check_window, parse_signed, require_signature
from ml_platform.registry.state import ApprovalState, State, VersionState
from ml_platform.registry.table import rule_for
from ml_platform.registry.verdicts import open_verdicts

__all__ = [
    "PAYLOAD_FORMAT",
    "Decision",
    "approval_namespace",
    "build_payload",
    "check_approval",
    "is_author",
    "parse_payload",
    "why_unusable",
]

PAYLOAD_FORMAT: Final = "ml-platform/approval/1"

_REASON: Final = Check(
    "text of 1–2,000 characters", lambda value: isinstance(value, str) and 0 < len(value.strip()) <= 2_000
)
_DECISION: Final = Shape(
    {
        "gate": IDENTIFIER,
        "verdict": choice("inconclusive", "not_evaluated"),
        "accept": BOOLEAN,
        "reason": _REASON,
    }
)
_PAYLOAD: Final = Shape(
    {
        "format": choice(PAYLOAD_FORMAT),
        "action": ACTION,
        "platform": DIGEST,
        "model": MODEL,
        "version": POSITIVE,
        "artifact": DIGEST,
        "spec": DIGEST,
        "run_record": DIGEST,
        "evaluation": DIGEST,
        "policy": INTEGER,
        "from": STAGE,
        "to": STAGE,
        "baseline": optional(POSITIVE),
        "decisions": many(_DECISION.as_check("{gate, verdict, accept, reason}")),
        "reason": _REASON,
        "nonce": HEX32,
        "not_before": TIME,
        "not_after": TIME,
        "seen": SEEN.as_check("{size, root}"),
    }
)
_SAME: Final = ("action", "version", "from", "to", "nonce", "policy", "baseline", "not_before", "not_after")


@dataclass(frozen=True)
class Decision:
    """What the approver decides about one gate that did not pass, and why."""

    gate: str
    verdict: str
    reason: str
    accept: bool = True

    def document(self) -> dict[str, Any]:
        """As in the payload."""
        return {"gate": self.gate, "verdict": self.verdict, "accept": self.accept, "reason": self.reason}


def approval_namespace(action: str) -> str:
    """The SSHSIG namespace of an approval."""
    return f"{action}@ml-platform"


def build_payload(
    state: State,
    model: str,
    version: int,
    *,
    action: str,
    to: str,
    source: str,
    reason: str,
    nonce: str,
    not_before: datetime,
    not_after: datetime,
    seen: Mapping[str, Any],
    decisions: Sequence[Decision] = (),
) -> bytes:
    """The bytes that an approver signs.

    Args:
        state: the state now; platform, digests, policy and baseline are taken from it.
        model: model name.
        version: version number.
        action: ``promote``.
        to: the stage it goes to.
        source: the stage it comes from.
        reason: why, in the approver's words; kept as evidence, never in the log.
        nonce: 16–64 hex characters, random, used once.
        not_before: valid from then on, UTC.
        not_after: at most 30 days later.
        seen: {size, root} of the log that the approver looked at.
        decisions: one for every gate whose verdict is not pass.

    Raises:
        NotFound: unknown model or version.
        DeclarationError: a wrong field.
    """
    found = state.version(model, version)
    document = {
        "format": PAYLOAD_FORMAT,
        "action": action,
        "platform": state.genesis.platform if state.genesis else "",
        "model": model,
        "version": version,
        "artifact": found.digests.artifact,
        "spec": found.digests.spec,
        "run_record": found.digests.run_record,
        "evaluation": found.digests.evaluation,
        "policy": state.policy.index,
        "from": source,
        "to": to,
        "baseline": found.baseline,
        "decisions": [one.document() for one in sorted(decisions, key=lambda one: one.gate)],
        "reason": reason,
        "nonce": nonce,
        "not_before": format_utc(not_before),
        "not_after": format_utc(not_after),
        "seen": dict(seen),
    }
    _PAYLOAD.require(document, what="the approval")
    return canonical_json(document)


def parse_payload(raw: bytes) -> dict[str, Any]:
    """The payload of signed bytes; raises `ApprovalInvalid` when they are anything else."""
    return parse_signed(raw, _PAYLOAD, "an approval payload")


def is_author(state: State, version: VersionState, principal: str) -> bool:
    """Whether a person helped to make a version: as launcher, registrant or commit author."""
    author = version.authorship
    return principal in author.principals or bool(state.emails_of(principal) & author.emails)


def check_approval(state: State, entry: Entry, judging: Judging) -> None:
    """Whether an approval may be entered.

    Raises:
        ApprovalInvalid: signature, key, author, digest, time, nonce, policy, baseline or decisions are wrong.
        NotFound: unknown model or version.
        GateFailed: a gate is red; there is nothing to approve.
    """
    body = entry.body
    payload = parse_payload(judging.evidence.read(body["payload"]))
    model = state.model(str(entry.model))
    version = model.version(payload["version"])
    differing = [name for name in _SAME if body[name] != payload[name]]
    if differing or payload["model"] != model.name:
        raise _invalid("The entry says something else than the signed payload.", [*differing, "model"][0])
    if any(body["nonce"] in other.nonces for other in state.models.values()):
        raise _invalid("This approval was entered before (its nonce is known).", "nonce", "Sign a new one.")
    _require_same(state, version, payload)
    rule = rule_for(payload["action"], payload["from"], payload["to"])
    if not rule.approvals:
        raise _invalid("This move needs no approval.", "action", "Run it with a reason.")
    check_window(payload, entry.recorded_at)
    judging.require_seen(payload["seen"])
    key = require_signature(
        state,
        judging,
        canonical_json(payload),
        {"principal": body["principal"], "signature": body["signature"]},
        role="approver",
        namespace=approval_namespace(payload["action"]),
    )
    if key.public_key != body["public_key"]:
        raise _invalid("The entry names another key than the one that signed.", "public_key")
    if is_author(state, version, body["principal"]):
        raise _invalid(
            "An author of this version cannot approve it.", "principal", "Ask somebody who did not help to make it."
        )
    _require_decisions(state, version, payload, body["accepts"], judging)


def _require_same(state: State, version: VersionState, payload: Mapping[str, Any]) -> None:
    """The payload is about this platform, policy, version and baseline."""
    expected = {
        "platform": state.genesis.platform if state.genesis else "",
        "artifact": version.digests.artifact,
        "spec": version.digests.spec,
        "run_record": version.digests.run_record,
        "evaluation": version.digests.evaluation,
        "baseline": version.baseline,
        "policy": state.policy.index,
    }
    for name, value in expected.items():
        if payload[name] != value:
            raise _invalid("The approval was signed for something else than this version.", name, "Sign again.")


def _require_decisions(
    state: State, version: VersionState, payload: Mapping[str, Any], accepts: list[str], judging: Judging
) -> None:
    verdicts = judging.evidence.verdicts(version.digests.spec, version.digests.evaluation)
    wanted = {
        one.gate: one.verdict
        for one in open_verdicts(
            state.policy.document,
            version.risk_class,
            verdicts,
            model=version.model,
            candidate=version.candidate,
        )
    }
    decided = {one["gate"]: one["verdict"] for one in payload["decisions"] if one["accept"]}
    if len(decided) != len(payload["decisions"]) or decided != wanted or sorted(decided) != sorted(accepts):
        raise _invalid(
            "The approval must accept, with a reason, every verdict that is not pass, and no other.",
            "decisions",
            f"Decide about: {', '.join(sorted(wanted)) or 'none'}.",
        )


def why_unusable(state: State, version: VersionState, approval: ApprovalState, recorded_at: str) -> str | None:
    """Why an approval that was entered does not count for a promotion now; None when it does."""
    key = state.keys[approval.public_key]
    reasons = {
        "was used by an earlier transition": approval.consumed is not None,
        "was withdrawn": approval.revoked is not None,
        "has expired": recorded_at > approval.not_after,
        "is not valid yet": recorded_at < approval.not_before,
        "was signed with a key that is revoked": not key.active,
        "is by an author of this version": is_author(state, version, approval.principal),
        "was given under another policy": approval.policy != state.policy.index,
        "was given for another baseline": approval.baseline != version.baseline,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _invalid(what: str, field: str, next_step: str = "Make the payload again and sign it.") -> ApprovalInvalid:
    return ApprovalInvalid(what, field=field, next_step=next_step)
