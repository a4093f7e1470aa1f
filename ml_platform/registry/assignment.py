"""Which arm answers a unit: a salted hash of its entity key. Pure, and the same in every process.

A unit's place is the first eight bytes of SHA-256("ml-platform/arm/1" ‖ bytes salt ‖ bytes key), big-endian, modulo
10,000; its arm is the first whose cumulative share exceeds the place. The primary comes first, so a canary that gets
a larger share keeps the units that it had.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from ml_platform.core.rows import encode_row
from ml_platform.registry.route import ALL_BP, Arm

__all__ = ["Assignment"]

_TAG: Final = "ml-platform/arm/1"


class Assignment:
    """The arms of a route, ready to be asked; about 1 µs a unit.

    Args:
        salt: hex, of the route.
        arms: in the route's order.
    """

    __slots__ = ("_arms", "_bounds", "_prefix")

    def __init__(self, salt: str, arms: Sequence[Arm]) -> None:
        self._arms = tuple(arms)
        self._bounds = tuple(accumulate(arm.share_bp for arm in arms))
        # What is hashed is row/1 of (text tag, bytes salt, bytes key): all but the key's own length and bytes.
        self._prefix = encode_row([("text", _TAG), ("bytes", bytes.fromhex(salt))]) + b"\x01"

    def place(self, key: bytes) -> int:
        """The unit's place, 0 to 9,999.

        Args:
            key: ``row/1`` of the entity key.
        """
        raw = hashlib.sha256(self._prefix + len(key).to_bytes(4, "little") + key).digest()
        return int.from_bytes(raw[:8], "big") % ALL_BP

    def arm(self, key: bytes) -> Arm:
        """The arm that answers the unit with this key (``row/1`` of the entity key)."""
        if len(self._arms) == 1:
            return self._arms[0]
        return self._arms[bisect_right(self._bounds, self.place(key))]
