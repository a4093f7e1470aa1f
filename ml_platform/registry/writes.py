"""What the registry's methods write: each function prepares one decision that runs inside the append's lock.

A decision that finds its work already done returns no events: reruns after a crash complete and repeat nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from ml_platform.core.clock import format_utc
from ml_platform.core.errors import ApprovalInvalid, ConcurrentTransition, Conflict, NotFound
from ml_platform.registry.approvals import approval_namespace, parse_payload
from ml_platform.registry.events import Event
from ml_platform.registry.judging import Judging
from ml_platform.registry.orders import new_head
from ml_platform.registry.policy import risk_class
from ml_platform.registry.sshsig import verify
from ml_platform.registry.state import CandidateState, KeyState, State
from ml_platform.registry.transitions import plan

__all__ = [
    "AuthorshipClaim",
    "Move",
    "Registration",
    "approval",
    "evaluated",
    "intended",
    "moved",
    "registered",
    "requested",
]


@dataclass(frozen=True)
class AuthorshipClaim:
    """Who made a version, as far as it is known.

    Args:
        status: ``unknown`` when there is no full commit history: then two people must approve.
        emails: salted commitments (`email_commitment`) of authors and co-authors.
        basis: ``signed`` when every commit bears a verified signature.
        principals: people known by their principal id.
    """

    status: Literal["known", "unknown"]
    emails: tuple[str, ...] = ()
    basis: Literal["claimed", "signed"] = "claimed"
    principals: tuple[str, ...] = ()

    def body(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "basis": self.basis,
            "emails": sorted(set(self.emails)),
            "principals": sorted(set(self.principals)),
        }


@dataclass(frozen=True)
class Registration:
    """A candidate that asks for a version number; every digest is ``sha256:…``.

    Run record and evaluation are those that the candidate was evaluated with.
    """

    model: str
    candidate: str
    artifact: str
    contract: str
    training_set: str
    authorship: AuthorshipClaim
    registered_by: str


@dataclass(frozen=True)
class Move:
    """A wish to change a version's stage. ``reason`` is the digest of the written reason."""

    model: str
    version: int
    action: str
    to: str
    actor: str
    reason: str


def requested(
    state: State,
    *,
    model: str,
    candidate: str,
    as_of: datetime,
    spec: str,
    inputs: str,
    requested_by: str,
    effective_at: datetime | None,
) -> list[Event]:
    """The candidate, unless it was requested with the same declaration before."""
    known = _candidate(state, model, candidate)
    if known is not None:
        if known.spec != spec:
            raise Conflict(
                "The candidate was requested with another declaration.",
                field="candidate",
                next_step="Equal inputs give equal keys: find which input differs.",
            )
        return []
    body = {
        "candidate": candidate,
        "as_of": format_utc(as_of),
        "spec": spec,
        "inputs": inputs,
        "requested_by": requested_by,
    }
    return [Event("candidate_requested", body, model, effective_at)]


def evaluated(
    state: State,
    judging: Judging,
    *,
    model: str,
    candidate: str,
    run_record: str,
    evaluation: str,
    signature: str,
    effective_at: datetime | None,
) -> list[Event]:
    """The evaluation with its recomputed verdicts, unless the same one is there."""
    known = _require_candidate(state, model, candidate)
    if known.evaluation == evaluation and known.run_record == run_record:
        return []
    verdicts = judging.evidence.verdicts(known.spec, evaluation)
    body = {
        "candidate": candidate,
        "run_record": run_record,
        "evaluation": evaluation,
        "signature": signature,
        "gates": [{"gate": one.gate, "verdict": one.verdict} for one in verdicts],
    }
    return [Event("candidate_evaluated", body, model, effective_at)]


def registered(state: State, judging: Judging, wish: Registration, effective_at: datetime | None) -> list[Event]:
    """The next version number for a candidate, unless it has one."""
    known = _require_candidate(state, wish.model, wish.candidate)
    if known.evaluation is None or known.run_record is None:
        raise NotFound(
            "The candidate was not evaluated.", field="candidate", next_step="Evaluate it before registering."
        )
    versions = state.model(wish.model).versions
    if known.version is not None:
        digests = versions[known.version].digests
        if (digests.artifact, digests.contract, digests.training_set) != (
            wish.artifact, wish.contract, wish.training_set,
        ):  # fmt: skip
            raise Conflict(
                f"The candidate is version {known.version}, with other digests.",
                field="candidate",
                next_step="Equal inputs must give equal digests: find which input differs.",
            )
        return []
    evaluation = judging.evidence.evaluation(known.evaluation)
    body = {
        "version": max(versions, default=0) + 1,
        "candidate": wish.candidate,
        "risk_class": risk_class(judging.evidence.spec(known.spec)),
        "spec": known.spec,
        "artifact": wish.artifact,
        "contract": wish.contract,
        "run_record": known.run_record,
        "evaluation": known.evaluation,
        "training_set": wish.training_set,
        "baseline": evaluation.baseline[0] if evaluation.baseline else None,
        "authorship": wish.authorship.body(),
        "registered_by": wish.registered_by,
    }
    return [Event("registered", body, wish.model, effective_at)]


def approval(
    state: State, judging: Judging, payload: bytes, signature: str, effective_at: datetime | None
) -> list[Event]:
    """The approval of signed bytes, unless it was entered and not used yet."""
    document = parse_payload(payload)
    digest = judging.evidence.put(payload)
    model = state.model(document["model"])
    known = model.approvals.get(digest)
    key = _signer(state, document, payload, signature)
    if known is not None and known.consumed is None and known.public_key == key.public_key:
        return []
    body = {
        **{name: document[name] for name in ("version", "action", "from", "to", "nonce", "policy", "baseline")},
        "principal": key.principal,
        "public_key": key.public_key,
        "payload": digest,
        "signature": judging.evidence.put(signature.encode()),
        "accepts": sorted(one["gate"] for one in document["decisions"] if one["accept"]),
        "not_before": document["not_before"],
        "not_after": document["not_after"],
    }
    return [Event("approval_given", body, model.name, effective_at)]


def _signer(state: State, document: Mapping[str, Any], payload: bytes, signature: str) -> KeyState:
    """The key that made a signature, revoked ones too: the rule says why they do not count."""
    refusal = ApprovalInvalid(
        "No key of this platform made the signature.", field="signature", next_step="`mlp keys` lists the keys."
    )
    for key in state.keys.values():
        try:
            verify(payload, signature, approval_namespace(document["action"]), key.public_key)
        except ApprovalInvalid as error:
            if error.field != "public_key":
                refusal = error
        else:
            return key
    raise refusal


def intended(
    state: State,
    judging: Judging,
    wish: Move,
    *,
    seen_size: int,
    recorded_at: str,
    effective_at: datetime | None,
) -> list[Event]:
    """The announcement of a transition, if the model did not move since ``seen_size``."""
    if state.model(wish.model).last_transition >= seen_size:
        raise ConcurrentTransition(
            "Another transition of this model was written first; this one changed nothing.",
            field="stage",
            next_step="Look at the state and decide again.",
        )
    body = _plan(state, judging, wish, recorded_at)
    head = new_head(state, judging.root_at(state.size))
    return [Event("transition_intended", {**body, "expected": head}, wish.model, effective_at)]


def moved(
    state: State,
    judging: Judging,
    wish: Move,
    *,
    index: int,
    recorded_at: str,
    effective_at: datetime | None,
) -> list[Event]:
    """The transition that entry ``index`` announced; planned anew, judged anew."""
    if index not in state.model(wish.model).intents:
        raise ConcurrentTransition(
            "Another transition of this model was written first; this one changed nothing.",
            field="stage",
            next_step="Look at the state and decide again.",
        )
    body = _plan(state, judging, wish, recorded_at)
    return [Event("transition", {**body, "intended": index}, wish.model, effective_at)]


def _plan(state: State, judging: Judging, wish: Move, recorded_at: str) -> dict[str, Any]:
    return plan(
        state,
        judging,
        wish.model,
        wish.version,
        action=wish.action,
        to=wish.to,
        actor=wish.actor,
        reason=wish.reason,
        recorded_at=recorded_at,
    )


def _candidate(state: State, model: str, candidate: str) -> CandidateState | None:
    known = state.models.get(model)
    return known.candidates.get(candidate) if known else None


def _require_candidate(state: State, model: str, candidate: str) -> CandidateState:
    known = _candidate(state, model, candidate)
    if known is None:
        raise NotFound(
            "The candidate was not requested.", field="candidate", next_step="Request it before it is evaluated."
        )
    return known
