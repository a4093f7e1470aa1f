"""Rules for genesis, keys, the policy and withdrawn approvals. Pure: evidence comes as an argument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_platform.core.errors import ApprovalInvalid, DeclarationError, NotFound, PolicyViolation
from ml_platform.registry.events import Entry
from ml_platform.registry.genesis import check_genesis
from ml_platform.registry.judging import Judging
from ml_platform.registry.orders import (
    order_namespace,
    require_officers,
    require_order,
    require_signature,
)
from ml_platform.registry.policy import check_policy
from ml_platform.registry.sshsig import verify
from ml_platform.registry.state import State

__all__ = [
    "POSSESSION",
    "check_approval_revoked",
    "check_first",
    "check_key_added",
    "check_key_revoked",
    "check_new_policy",
]

POSSESSION = "key@ml-platform"


def check_first(state: State, entry: Entry, _: Judging) -> None:
    """Genesis is the first entry, and only that."""
    if state.size != 0:
        raise PolicyViolation(
            "The log has a genesis already.", field="genesis", next_step="Start a new root for another platform."
        )
    check_genesis(entry.body)


def check_key_added(state: State, entry: Entry, judging: Judging) -> None:
    """A key needs officers other than its owner, and proof that the owner holds it.

    Raises:
        ApprovalInvalid: it lacks one of them, the key is already known, or an e-mail belongs to another person.
        ApprovalMissing: too few officers.
    """
    body = entry.body
    _require_new_key(state, body)
    order = require_order(state, entry, judging)
    verify(order, judging.evidence.text(body["possession"]), POSSESSION, body["public_key"])
    emails = frozenset(body["emails"]) | state.emails_of(body["principal"])
    require_officers(state, entry, judging, order, owner=body["principal"], owner_emails=emails)


def _require_new_key(state: State, body: Mapping[str, Any]) -> None:
    genesis = state.genesis.body if state.genesis else {}
    system = {genesis.get("service_key"), genesis.get("evaluator_key"), genesis.get("recovery_key")}
    if body["public_key"] in state.keys or body["public_key"] in system:
        raise ApprovalInvalid(
            "The key is already in use.", field="public_key", next_step="Make a new key; revoked ones stay revoked."
        )
    for key in state.keys.values():
        if key.principal != body["principal"] and set(key.emails) & set(body["emails"]):
            raise ApprovalInvalid(
                "An e-mail of this key belongs to another principal; a person is one principal.",
                field="emails",
                next_step="Add the key to that principal.",
            )


def check_key_revoked(state: State, entry: Entry, judging: Judging) -> None:
    """A key is revoked by officers other than its owner, once.

    Raises:
        NotFound: no such active key.
        ApprovalInvalid: as `require_officers`, or a suspicion date does not fit the cause.
    """
    body = entry.body
    key = state.keys.get(body["public_key"])
    if key is None or not key.active:
        raise NotFound("There is no such active key.", field="public_key", next_step="`mlp keys` lists them.")
    if (body["cause"] == "compromised") != (body["suspect_from"] is not None):
        raise DeclarationError(
            "A compromised key, and only such a one, has a date from which it is suspect.",
            field="suspect_from",
            next_step="Give the date with cause compromised; none with cause retired.",
        )
    order = require_order(state, entry, judging)
    require_officers(state, entry, judging, order, owner=key.principal, owner_emails=state.emails_of(key.principal))


def check_new_policy(state: State, entry: Entry, judging: Judging) -> None:
    """A policy is signed by the threshold of officers."""
    check_policy(entry.body["policy"])
    order = require_order(state, entry, judging)
    require_officers(state, entry, judging, order, owner=None, owner_emails=frozenset())


def check_approval_revoked(state: State, entry: Entry, judging: Judging) -> None:
    """An approval is withdrawn by who gave it, or by any officer.

    Raises:
        NotFound: no such approval.
        ApprovalInvalid: withdrawn before, or a signature does not count.
    """
    approval = state.model(str(entry.model)).approvals.get(entry.body["payload"])
    if approval is None:
        raise NotFound("There is no such approval.", field="payload", next_step="`mlp show` lists them.")
    if approval.revoked is not None:
        raise ApprovalInvalid("The approval was withdrawn before.", field="payload", next_step="Nothing is left to do.")
    order = require_order(state, entry, judging)
    namespace = order_namespace("revoke_approval")
    for one in entry.body["signatures"]:
        role = None if one["principal"] == approval.principal else "officer"
        require_signature(state, judging, order, one, role=role, namespace=namespace)
