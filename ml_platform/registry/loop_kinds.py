"""Kinds of entries about what serves and what is watched: routes, alerts, retrains, rollouts; part of `KINDS`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ml_platform.registry.bodies import (
    CANDIDATE,
    DIGEST,
    EVIDENCE,
    IDENTIFIER,
    INTEGER,
    POSITIVE,
    PRINCIPAL,
    TIME,
    Check,
    Kind,
    Shape,
    choice,
    many,
    optional,
)

__all__ = ["ARM", "LOOP_KINDS", "ROUTE_KINDS", "SEVERITIES", "TRIGGERS"]

SEVERITIES: Final = ("P0", "P1", "P2", "P3")
TRIGGERS: Final = ("drift", "performance", "freshness", "by_hand")

ARM: Final = Shape({"arm": IDENTIFIER, "version": POSITIVE, "share_bp": POSITIVE})
_SIGNAL: Final[dict[str, Check]] = {
    "request": IDENTIFIER,
    "trigger": choice(*TRIGGERS),
    "alerts": many(IDENTIFIER),
    "evidence": DIGEST,
}

ROUTE_KINDS: Final[Mapping[str, Kind]] = {
    "route_applied": Kind(
        {
            "epoch": POSITIVE,
            "route": EVIDENCE,
            "digest": DIGEST,
            "previous": optional(DIGEST),
            "arms": many(ARM.as_check("{arm, version, share_bp}"), least=1),
            "rollbacks": many(POSITIVE),
            "supersedes_flip": optional(DIGEST),
            "transition": optional(INTEGER),
            "actor": PRINCIPAL,
        }
    ),
    "route_flipped": Kind(
        {
            "flip": EVIDENCE,
            "digest": DIGEST,
            "route": DIGEST,
            "target": POSITIVE,
            "counter": POSITIVE,
            "actor": PRINCIPAL,
            "reason": EVIDENCE,
        },
        critical=False,
    ),
    "rollout_decided": Kind(
        {
            "version": POSITIVE,
            "decision": choice("advance", "hold", "rollback", "ask"),
            "share_bp": INTEGER,
            "evidence": DIGEST,
            "actor": PRINCIPAL,
        },
        critical=False,
    ),
}

LOOP_KINDS: Final[Mapping[str, Kind]] = {
    "alert_raised": Kind(
        {
            "alert": IDENTIFIER,
            "rule": IDENTIFIER,
            "severity": choice(*SEVERITIES),
            "version": optional(POSITIVE),
            "window": IDENTIFIER,
            "subject": optional(IDENTIFIER),
            "evidence": DIGEST,
        },
        critical=False,
    ),
    "alert_acknowledged": Kind({"alert": IDENTIFIER, "actor": PRINCIPAL, "reason": EVIDENCE}, critical=False),
    "alert_closed": Kind(
        {
            "alert": IDENTIFIER,
            "cause": choice("recovered", "version_replaced", "retrained", "by_hand"),
            "actor": PRINCIPAL,
            "evidence": optional(DIGEST),
        },
        critical=False,
    ),
    "retrain_requested": Kind(
        {
            **_SIGNAL,
            "mode": choice("automatic", "queued"),
            "useful_from": optional(TIME),
            "requested_by": PRINCIPAL,
        },
        critical=False,
    ),
    "retrain_merged": Kind(_SIGNAL, critical=False),
    "retrain_decided": Kind(
        {
            "request": IDENTIFIER,
            "decision": choice("approved", "rejected"),
            "actor": PRINCIPAL,
            "reason": EVIDENCE,
        },
        critical=False,
    ),
    "retrain_started": Kind({"request": IDENTIFIER, "candidate": CANDIDATE, "actor": PRINCIPAL}, critical=False),
    "retrain_finished": Kind(
        {
            "request": IDENTIFIER,
            "candidate": CANDIDATE,
            "outcome": choice("registered", "refused", "failed"),
            "version": optional(POSITIVE),
        },
        critical=False,
    ),
}
