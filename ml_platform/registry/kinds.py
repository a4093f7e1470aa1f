"""Every kind of log entry, in one table: its fields, whether it names a model, whether it is critical.

A reader ignores unknown kinds that are not critical; an unknown critical one blocks promotions (never a rollback)
of the model that it names. ``docs/formats.md`` shows this table; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ml_platform.registry.bodies import (
    ACTION,
    CANDIDATE,
    COMMITMENT,
    DIGEST,
    EVIDENCE,
    HEX32,
    IDENTIFIER,
    INTEGER,
    MODEL,
    OPEN,
    POSITIVE,
    PRINCIPAL,
    PUBLIC_KEY,
    STAGE,
    TIME,
    Check,
    Kind,
    Shape,
    choice,
    counts,
    many,
    optional,
)
from ml_platform.registry.loop_kinds import LOOP_KINDS, ROUTE_KINDS

__all__ = ["AUTHORSHIP", "GATE_VERDICT", "KEY", "KINDS", "SEGMENT", "SIGNATURE", "VERDICTS", "Kind"]

VERDICTS: Final = ("pass", "fail", "inconclusive", "not_evaluated")

KEY: Final = Shape(
    {
        "principal": PRINCIPAL,
        "public_key": PUBLIC_KEY,
        "roles": many(choice("approver", "officer"), least=1),
        "emails": many(COMMITMENT),
    }
)
SIGNATURE: Final = Shape({"principal": PRINCIPAL, "signature": EVIDENCE})
GATE_VERDICT: Final = Shape({"gate": IDENTIFIER, "verdict": choice(*VERDICTS)})
AUTHORSHIP: Final = Shape(
    {
        "status": choice("known", "unknown"),
        "basis": choice("claimed", "signed"),
        "emails": many(COMMITMENT, most=100),
        "principals": many(PRINCIPAL, most=100),
    }
)
SEGMENT: Final = Shape(
    {
        "id": IDENTIFIER,
        "size": POSITIVE,
        "root": DIGEST,
        "models": many(MODEL, least=1),
        "first_id": IDENTIFIER,
        "last_id": IDENTIFIER,
        "writer": IDENTIFIER,
        "first_seq": INTEGER,
        "last_seq": INTEGER,
        "counts": counts(),
        "min_decided_at": TIME,
        "max_decided_at": TIME,
    }
)
_SIGNATURES: Final = many(SIGNATURE.as_check("{principal, signature}"), least=1, most=16)
_HEAD: Final = Shape({"size": INTEGER, "root": DIGEST}).as_check("{size, root}")


_MOVE: Final[dict[str, Check]] = {
    "version": POSITIVE,
    "action": ACTION,
    "from": STAGE,
    "to": STAGE,
    "displaced": optional(POSITIVE),
    "baseline": optional(POSITIVE),
    "required": INTEGER,
    "approvals": many(EVIDENCE),
    "actor": PRINCIPAL,
    "reason": EVIDENCE,
}

KINDS: Final[Mapping[str, Kind]] = {
    "genesis": Kind(
        {
            "format": choice("ml-platform/genesis/1"),
            "root_id": HEX32,
            "root_kind": choice("wall", "replay"),
            "seed_class": choice("published", "private"),
            "seed_commitment": optional(DIGEST),
            "origin": IDENTIFIER,
            "log_vkey": IDENTIFIER,
            "service_key": PUBLIC_KEY,
            "evaluator_key": PUBLIC_KEY,
            "witnesses": Shape({"vkeys": many(IDENTIFIER), "quorum": INTEGER}).as_check("{vkeys, quorum}"),
            "officers": Shape({"members": many(PRINCIPAL, least=1), "threshold": POSITIVE}).as_check(
                "{members, threshold}"
            ),
            "recovery_key": optional(PUBLIC_KEY),
            "keys": many(KEY.as_check("{principal, public_key, roles, emails}"), least=1, most=32),
            "policy": OPEN,
        },
        model=False,
        decimals=True,
    ),
    "key_added": Kind(
        {**KEY.fields, "order": EVIDENCE, "possession": EVIDENCE, "signatures": _SIGNATURES}, model=False
    ),
    "key_revoked": Kind(
        {
            "public_key": PUBLIC_KEY,
            "cause": choice("retired", "compromised"),
            "suspect_from": optional(TIME),
            "order": EVIDENCE,
            "signatures": _SIGNATURES,
        },
        model=False,
    ),
    "policy": Kind({"policy": OPEN, "order": EVIDENCE, "signatures": _SIGNATURES}, model=False, decimals=True),
    "candidate_requested": Kind(
        {"candidate": CANDIDATE, "as_of": TIME, "spec": DIGEST, "inputs": DIGEST, "requested_by": PRINCIPAL},
        critical=False,
    ),
    "candidate_evaluated": Kind(
        {
            "candidate": CANDIDATE,
            "run_record": EVIDENCE,
            "evaluation": EVIDENCE,
            "signature": EVIDENCE,
            "gates": many(GATE_VERDICT.as_check("{gate, verdict}")),
        },
        critical=False,
    ),
    "registered": Kind(
        {
            "version": POSITIVE,
            "candidate": CANDIDATE,
            "risk_class": IDENTIFIER,
            "spec": DIGEST,
            "artifact": DIGEST,
            "contract": DIGEST,
            "run_record": EVIDENCE,
            "evaluation": EVIDENCE,
            "training_set": DIGEST,
            "baseline": optional(POSITIVE),
            "authorship": AUTHORSHIP.as_check("{status, basis, emails, principals}"),
            "registered_by": PRINCIPAL,
        }
    ),
    "approval_given": Kind(
        {
            "version": POSITIVE,
            "action": ACTION,
            "from": STAGE,
            "to": STAGE,
            "principal": PRINCIPAL,
            "public_key": PUBLIC_KEY,
            "payload": EVIDENCE,
            "signature": EVIDENCE,
            "nonce": HEX32,
            "policy": INTEGER,
            "baseline": optional(POSITIVE),
            "accepts": many(IDENTIFIER),
            "not_before": TIME,
            "not_after": TIME,
        }
    ),
    "approval_revoked": Kind({"payload": EVIDENCE, "order": EVIDENCE, "signatures": _SIGNATURES}),
    "transition_intended": Kind({**_MOVE, "expected": _HEAD}, critical=False),
    "transition": Kind({**_MOVE, "intended": INTEGER}),
    "transition_reversed": Kind(
        {
            "transition": INTEGER,
            "version": POSITIVE,
            "from": STAGE,
            "to": STAGE,
            "restored": optional(POSITIVE),
            "actor": PRINCIPAL,
            "reason": EVIDENCE,
        }
    ),
    "segments_sealed": Kind(
        {"segments": many(SEGMENT.as_check("a segment, see below"), least=1)}, model=False, critical=False
    ),
    "writer_closed": Kind({"writer": IDENTIFIER, "last_seq": INTEGER}, model=False, critical=False),
    **ROUTE_KINDS,
    **LOOP_KINDS,
}
