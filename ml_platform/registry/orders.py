"""Orders: documents that officers sign before a key, the policy or an approval changes.

Document ``ml-platform/order/1``: RFC 8785 bytes without trailing newline, {format, action, platform, subject, nonce,
not_before, not_after, seen: {size, root}}; ``subject`` holds the fields of the entry that it allows. Signed with
SSHSIG, namespace ``<action>@ml-platform``; an added key signs the same bytes under ``key@ml-platform``. An order acts
once. Pure: evidence comes as an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from ml_platform.core.clock import format_utc, parse_utc
from ml_platform.core.digests import canonical_json, parse_canonical
from ml_platform.core.errors import ApprovalInvalid, ApprovalMissing, DeclarationError
from ml_platform.registry.bodies import HEX32, OPEN, TIME, Shape, choice
from ml_platform.registry.events import Entry
from ml_platform.registry.judging import Judging
from ml_platform.registry.kinds import KINDS
from ml_platform.registry.sshsig import verify
from ml_platform.registry.state import KeyState, State

__all__ = [
    "MAX_DAYS",
    "ORDER_ACTIONS",
    "ORDER_FORMAT",
    "SEEN",
    "build_order",
    "check_window",
    "new_head",
    "order_namespace",
    "parse_order",
    "parse_signed",
    "require_officers",
    "require_order",
]

ORDER_FORMAT: Final = "ml-platform/order/1"
MAX_DAYS: Final = 30
SEEN: Final = Shape({"size": KINDS["approval_given"].fields["policy"], "root": KINDS["registered"].fields["spec"]})

# Action of an order -> kind of the entry that it allows.
ORDER_ACTIONS: Final[Mapping[str, str]] = {
    "add_key": "key_added",
    "revoke_key": "key_revoked",
    "policy": "policy",
    "revoke_approval": "approval_revoked",
}
_PROOFS: Final = {"order", "possession", "signatures"}
_ORDER: Final = Shape(
    {
        "format": choice(ORDER_FORMAT),
        "action": choice(*ORDER_ACTIONS),
        "platform": KINDS["registered"].fields["spec"],
        "subject": OPEN,
        "nonce": HEX32,
        "not_before": TIME,
        "not_after": TIME,
        "seen": SEEN.as_check("{size, root}"),
    }
)


def order_namespace(action: str) -> str:
    """The SSHSIG namespace of an action."""
    return f"{action}@ml-platform"


def new_head(state: State, root: bytes) -> dict[str, Any]:
    """{size, root} of the log as the signer sees it."""
    return {"size": state.size, "root": "sha256:" + root.hex()}


def build_order(
    state: State,
    action: str,
    subject: Mapping[str, Any],
    *,
    seen: Mapping[str, Any],
    nonce: str,
    not_before: datetime,
    not_after: datetime,
) -> bytes:
    """The bytes to sign.

    Args:
        state: the state now.
        action: one of `ORDER_ACTIONS`.
        subject: the fields of the entry, without order, possession and signatures; for ``revoke_approval``
            also the model.
        seen: {size, root} of the log.
        nonce: 16–64 hex characters, random.
        not_before: the order acts from then on, UTC.
        not_after: at most 30 days later.
    """
    if state.genesis is None:
        raise DeclarationError("The log has no genesis.", next_step="`mlp init` makes one.")
    document = {
        "format": ORDER_FORMAT,
        "action": action,
        "platform": state.genesis.platform,
        "subject": dict(subject),
        "nonce": nonce,
        "not_before": format_utc(not_before),
        "not_after": format_utc(not_after),
        "seen": dict(seen),
    }
    _ORDER.require(document, what="the order")
    return canonical_json(document)


def parse_signed(raw: bytes, shape: Shape, what: str) -> dict[str, Any]:
    """The document of signed bytes.

    Raises:
        ApprovalInvalid: the bytes are not the canonical form of such a document.
    """
    try:
        document = parse_canonical(raw)
        shape.require(document, what=what)
    except DeclarationError as error:
        raise ApprovalInvalid(error.what, field=error.field, next_step=error.next_step) from None
    except (ValueError, RecursionError):
        raise ApprovalInvalid(f"The bytes are not {what}.", field="payload", next_step="Make it again.") from None
    return document  # type: ignore[no-any-return]


def parse_order(raw: bytes) -> dict[str, Any]:
    """The order of signed bytes; raises `ApprovalInvalid` when they are anything else."""
    return parse_signed(raw, _ORDER, "an order")


def check_window(document: Mapping[str, Any], recorded_at: str) -> None:
    """Raises `ApprovalInvalid` when a signed document is not yet or no longer good, or meant for too long."""
    try:
        days = (parse_utc(document["not_after"]) - parse_utc(document["not_before"])).total_seconds() / 86_400
    except ValueError:
        days = -1.0
    if not 0 < days <= MAX_DAYS:
        raise ApprovalInvalid(
            f"The time between not_before and not_after must be positive and at most {MAX_DAYS} days.",
            field="not_after",
            next_step="Sign one with a shorter life.",
        )
    if recorded_at < document["not_before"]:
        raise ApprovalInvalid(
            "It is not valid yet.", field="not_before", next_step="Wait, or sign one that is valid now."
        )
    if recorded_at > document["not_after"]:
        raise ApprovalInvalid("It has expired.", field="not_after", next_step="Sign a new one.")


def require_order(state: State, entry: Entry, judging: Judging) -> bytes:
    """The bytes of an entry's order, once it is found to be for exactly this entry, here, now, and unused.

    Raises:
        ApprovalInvalid: it is not.
    """
    digest = entry.body["order"]
    if digest in state.orders:
        raise ApprovalInvalid("This order was used before.", field="order", next_step="Sign one with a new nonce.")
    raw = judging.evidence.read(digest)
    order = parse_order(raw)
    subject = {name: value for name, value in entry.body.items() if name not in _PROOFS}
    if entry.model is not None:
        subject["model"] = entry.model
    platform = state.genesis.platform if state.genesis else ""
    if (
        ORDER_ACTIONS[order["action"]] != entry.kind
        or order["platform"] != platform
        or canonical_json(order["subject"]) != canonical_json(subject)
    ):
        raise ApprovalInvalid(
            "The signed order is for another platform, action or subject.",
            field="order",
            next_step="Sign an order for exactly this.",
        )
    check_window(order, entry.recorded_at)
    judging.require_seen(order["seen"])
    return raw


def require_officers(
    state: State, entry: Entry, judging: Judging, order: bytes, *, owner: str | None, owner_emails: frozenset[str]
) -> None:
    """Holds an entry's signatures against the threshold of officers; the key's owner does not count.

    Raises:
        ApprovalInvalid: a signature does not count.
        ApprovalMissing: too few officers.
    """
    action = next(action for action, kind in ORDER_ACTIONS.items() if kind == entry.kind)
    officers: set[str] = set()
    for one in entry.body["signatures"]:
        principal = one["principal"]
        if principal == owner or state.emails_of(principal) & owner_emails:
            raise ApprovalInvalid(
                "The owner of a key cannot vouch for it.", field="signatures", next_step="Ask another officer."
            )
        require_signature(state, judging, order, one, role="officer", namespace=order_namespace(action))
        officers.add(principal)
    threshold = state.genesis.threshold if state.genesis else 1
    if len(officers) < threshold:
        raise ApprovalMissing(
            f"{len(officers)} of {threshold} officers signed.",
            field="signatures",
            next_step="Collect the other signatures.",
        )


def require_signature(
    state: State, judging: Judging, message: bytes, one: Mapping[str, str], *, role: str | None, namespace: str
) -> KeyState:
    """The active key of the named person that signed the message.

    Raises:
        ApprovalInvalid: none of the person's active keys with that role did.
    """
    armored = judging.evidence.text(one["signature"])
    keys = [key for key in state.keys_of(one["principal"]) if key.active and (role is None or role in key.roles)]
    refusal = ApprovalInvalid(
        "The signer has no active key with the needed role.",
        field="principal",
        next_step="`mlp keys` lists who may sign.",
    )
    for key in keys:
        try:
            verify(message, armored, namespace, key.public_key)
        except ApprovalInvalid as error:
            refusal = error
        else:
            return key
    raise refusal
