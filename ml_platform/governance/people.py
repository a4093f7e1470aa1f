"""Who decided about a version, when, and with what signature; every signature is verified as it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ml_platform.core.clock import format_utc
from ml_platform.core.errors import ApprovalInvalid, ArtifactCorrupt, NotFound, Tampered
from ml_platform.governance.parts import Parts
from ml_platform.governance.reading import optional_text
from ml_platform.registry import ModelState, State, VersionState
from ml_platform.registry.approvals import approval_namespace, parse_payload
from ml_platform.registry.sshsig import fingerprint, verify
from ml_platform.registry.state import ApprovalState, Move

__all__ = ["Instant", "approvals_of", "authorship_of", "later_events", "stage_at", "stage_history"]

NAMED_ON = "trained"


@dataclass(frozen=True)
class Instant:
    """When a decision was made, on the platform's clock, and when it was recorded, on the wall's (RFC 3339 texts).

    In a replay root a month and the promotion after it can have the same effective time; what came first is then
    told by when it was recorded.
    """

    decided_at: str
    recorded_at: str

    @classmethod
    def of(cls, header: Mapping[str, Any]) -> Instant:
        """That of a row of ``predictions``."""
        return cls(format_utc(header["decided_at"]), format_utc(header["recorded_at"]))

    def knew(self, effective_at: str, recorded_at: str) -> bool:
        """Whether an event had taken effect and had been recorded."""
        return effective_at <= self.decided_at and recorded_at <= self.recorded_at


def stage_at(version: VersionState, decided_at: str, known_at: str | None = None) -> str:
    """The stage that had taken effect at a time, as far as it had been recorded at another (RFC 3339 texts)."""
    moves = [
        move
        for move in version.history
        if move.effective_at <= decided_at and (known_at is None or move.recorded_at <= known_at)
    ]
    return moves[-1].to if moves else NAMED_ON


def stage_history(parts: Parts, version: VersionState, when: Instant) -> list[dict[str, Any]]:
    """Every change of stage, with actor and reason; ``at_decision`` says whether it was in effect and known then."""
    return [
        {**_move(parts, move), "at_decision": when.knew(move.effective_at, move.recorded_at)}
        for move in version.history
    ]


def _move(parts: Parts, move: Move) -> dict[str, Any]:
    return {
        "log_index": move.index,
        "action": move.action,
        "from": move.source,
        "to": move.to,
        "effective_at": move.effective_at,
        "recorded_at": move.recorded_at,
        "actor": move.actor,
        "reason": optional_text(parts.objects, move.reason),
        "approvals": list(move.approvals),
        "required_approvals": move.required,
    }


def approvals_of(parts: Parts, model: ModelState, version: VersionState) -> list[dict[str, Any]]:
    """Every approval of a version: who, with which key, why, what was accepted; its signature verified now.

    Raises:
        Tampered: a stored signature does not fit the stored payload, or the payload is about something else.
    """
    given = [one for one in model.approvals.values() if one.version == version.number]
    return [_approval(parts, one, version) for one in sorted(given, key=lambda one: one.index)]


def _approval(parts: Parts, approval: ApprovalState, version: VersionState) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "log_index": approval.index,
        "recorded_at": approval.recorded_at,
        "principal": approval.principal,
        "key": fingerprint(approval.public_key),
        "action": approval.action,
        "from": approval.source,
        "to": approval.to,
        "payload": approval.payload,
        "signature": approval.signature,
        "used_by": approval.consumed,
        "revoked_by": approval.revoked,
    }
    try:
        payload = parts.objects.get(approval.payload)
        armored = parts.objects.get(approval.signature).decode()
    except NotFound:
        absent = {"absent": "The signed document is not stored any more."}
        return {**shown, "reason": absent, "decisions": absent, "signature_checked": False}
    except (ArtifactCorrupt, UnicodeDecodeError) as error:
        raise _tampered(approval, "The stored payload or signature is not what its digest says.") from error
    try:
        document = parse_payload(payload)
        verify(payload, armored, approval_namespace(approval.action), approval.public_key)
    except ApprovalInvalid as error:
        raise _tampered(approval, "The signature of an approval does not hold.") from error
    about = (document["model"], document["version"], document["artifact"], document["evaluation"])
    if about != (version.model, version.number, version.digests.artifact, version.digests.evaluation):
        raise _tampered(approval, "An approval was signed for something else than this version.")
    return {**shown, "reason": document["reason"], "decisions": document["decisions"], "signature_checked": True}


def _tampered(approval: ApprovalState, what: str) -> Tampered:
    return Tampered(
        what, field=f"entry {approval.index}", next_step="Restore the evidence objects and the log from a backup."
    )


def authorship_of(state: State, version: VersionState) -> dict[str, Any]:
    """Who made a version, as far as it is known."""
    authors = version.authorship
    says = "unknown"
    if authors.known:
        says = "authors by signed commits" if authors.basis == "signed" else "authors as claimed"
    return {
        "says": says,
        "principals": sorted(authors.principals),
        "emails": len(authors.emails),
        "known_as": sorted({key.principal for key in state.keys.values() if set(key.emails) & authors.emails}),
    }


def later_events(parts: Parts, state: State, model: ModelState, version: VersionState, when: Instant) -> list[Any]:
    """What happened to the version after the decision: moves, withdrawn approvals, revoked keys of its approvers."""
    events = [
        {"event": move.action, **_move(parts, move)}
        for move in version.history
        if not when.knew(move.effective_at, move.recorded_at)
    ]
    approvals = [one for one in model.approvals.values() if one.version == version.number]
    ends = [("approval_revoked", one.revoked, {"principal": one.principal, "to": one.to}) for one in approvals]
    keys = {one.public_key for one in approvals}
    ends += [
        (
            "key_revoked",
            key.revoked,
            {"principal": key.principal, "key": fingerprint(key.public_key), "cause": str(key.cause)},
        )
        for key in state.keys.values()
        if key.public_key in keys
    ]
    for event, index, facts in ends:
        if index is not None:
            entry = parts.registry.entry(index)
            times = {"effective_at": entry.effective_at, "recorded_at": entry.recorded_at}
            if not when.knew(entry.effective_at, entry.recorded_at):
                events.append({"event": event, "log_index": index, **times, **facts})
    return sorted(events, key=lambda one: int(str(one["log_index"])))
