"""The registry's methods for keys, policy, withdrawn approvals and sealed segments; part of `Registry`."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from ml_platform.core.errors import ApprovalInvalid, Conflict
from ml_platform.registry.events import Event
from ml_platform.registry.orders import ORDER_ACTIONS, build_order, new_head, parse_order
from ml_platform.registry.state import State
from ml_platform.registry.writing import Writing

__all__ = ["OrderedWrites"]

_NONCE_BYTES: Final = 16
_SEGMENTS_PER_ENTRY: Final = 32  # of the allowed 64: model names and counts may be long, an entry is 16 KiB at most


class OrderedWrites(Writing):
    """Writes that officers sign, and those of sealers; see `Registry`."""

    def order(self, action: str, subject: Mapping[str, Any], *, days: float = 7) -> bytes:
        """The bytes that officers sign under ``<action>@ml-platform``.

        Args:
            action: ``add_key`` (subject: `Member.body`), ``revoke_key`` ({public_key, cause, suspect_from}),
                ``policy`` ({policy}) or ``revoke_approval`` ({model, payload}).
            subject: what the entry will hold.
            days: how long the order may be used, at most 30.
        """
        state, now = self._log.refresh(), self._wall.now()
        return build_order(
            state,
            action,
            subject,
            seen=new_head(state, self._log.tree.root_at(state.size)),
            nonce=secrets.token_hex(_NONCE_BYTES),
            not_before=now,
            not_after=now + timedelta(days=days),
        )

    def add_key(self, order: bytes, *, possession: str, signatures: Mapping[str, str]) -> int:
        """Adds the key of an order; returns the log index.

        Args:
            order: the signed bytes.
            possession: the new key's own armored signature over them, namespace ``key@ml-platform``.
            signatures: armored signatures of officers by principal.

        Raises:
            ApprovalInvalid: a signature does not count, or the key is the signer's own.
            ApprovalMissing: too few officers.
        """
        proof = self._evidence.put(possession.encode())
        return self._ordered("add_key", order, signatures, possession=proof)

    def revoke_key(self, order: bytes, *, signatures: Mapping[str, str]) -> int:
        """Revokes the key of an order; returns the log index."""
        return self._ordered("revoke_key", order, signatures)

    def set_policy(self, order: bytes, *, signatures: Mapping[str, str]) -> int:
        """Replaces the policy; returns the log index."""
        return self._ordered("policy", order, signatures)

    def revoke_approval(self, order: bytes, *, signatures: Mapping[str, str]) -> int:
        """Withdraws an approval from now on, signed by who gave it or by an officer; returns the log index."""
        return self._ordered("revoke_approval", order, signatures)

    def _ordered(self, action: str, order: bytes, signatures: Mapping[str, str], **more: str) -> int:
        document = parse_order(order)
        if document["action"] != action:
            raise ApprovalInvalid(
                "The order is for another action.", field="action", next_step=f"Sign an order to {action}."
            )
        body = {
            **document["subject"],
            **more,
            "order": self._evidence.put(order),
            "signatures": [
                {"principal": principal, "signature": self._evidence.put(armored.encode())}
                for principal, armored in sorted(signatures.items())
            ],
        }
        model = body.pop("model", None)
        kind = ORDER_ACTIONS[action]
        return self._write(lambda state, _: [Event(kind, body, model, self._effective_now(state))])[0]

    def seal_segments(self, segments: Sequence[Mapping[str, Any]]) -> list[int]:
        """Enters sealed segments, oldest first; returns the log index of each.

        Segments that are in the log already, with the same content, are passed over: a sealer may run again.
        Nothing is written for an empty list.

        Raises:
            Conflict: a sequence number is missing, or a segment's id holds other content.
        """
        places: dict[str, int] = {}

        def decide(state: State, _: str) -> list[Event]:
            places.clear()
            fresh = [one for one in segments if not self._is_sealed(one, places)]
            parts = [fresh[i : i + _SEGMENTS_PER_ENTRY] for i in range(0, len(fresh), _SEGMENTS_PER_ENTRY)]
            for offset, part in enumerate(parts):
                places.update({one["id"]: state.size + offset for one in part})
            at = self._effective_now(state)
            return [Event("segments_sealed", {"segments": [dict(one) for one in part]}, None, at) for part in parts]

        if segments:
            self._write(decide, publish=False)
        return [places[one["id"]] for one in segments]

    def _is_sealed(self, segment: Mapping[str, Any], places: dict[str, int]) -> bool:
        row = self._log.row("segments", segment=segment["id"])
        if row is None:
            return False
        index = int(str(row["entry"]))
        if dict(segment) not in self._log.entry(index).body.get("segments", ()):
            raise Conflict(
                "This segment id is sealed with other content.", field="id", next_step="Find which of the two is real."
            )
        places[segment["id"]] = index
        return True

    def close_writer(self, writer: str, last_seq: int) -> int | None:
        """Says that a writer's last record is sealed; returns the log index, None when it was said before."""

        def decide(state: State, _: str) -> list[Event]:
            known = state.writers.get(writer)
            if known is not None and known.closed and known.next_seq == last_seq + 1:
                return []
            body = {"writer": writer, "last_seq": last_seq}
            return [Event("writer_closed", body, None, self._effective_now(state))]

        return next(iter(self._write(decide, publish=False)), None)
