"""The log's Merkle tree in memory: it grows by appending and proves anything about any of its sizes.

Only nodes over perfect subtrees are kept (64 bytes a leaf), since those never change. RFC 6962, 2.1. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ml_platform.core.errors import NotFound
from ml_platform.core.merkle import EMPTY_ROOT, HASH_BYTES, Frontier, node_hash

__all__ = ["LogTree"]

_PAIR: Final = 2 * HASH_BYTES


class LogTree:
    """An append-only tree; appending costs O(1) hashes on average, root and proofs O(log² n)."""

    def __init__(self) -> None:
        self._levels: list[bytearray] = [bytearray()]

    @property
    def size(self) -> int:
        return len(self._levels[0]) // HASH_BYTES

    def extend(self, leaf_hashes: Iterable[bytes]) -> None:
        """Adds leaf hashes, 32 bytes each, in their order."""
        for leaf in leaf_hashes:
            self._levels[0] += leaf
            level = 0
            while len(self._levels[level]) % _PAIR == 0:
                pair = self._levels[level][-_PAIR:]
                if level + 1 == len(self._levels):
                    self._levels.append(bytearray())
                self._levels[level + 1] += node_hash(bytes(pair[:HASH_BYTES]), bytes(pair[HASH_BYTES:]))
                level += 1

    def truncate(self, size: int) -> None:
        """Forgets the leaves from ``size`` on, after a transaction that did not commit."""
        for level, nodes in enumerate(self._levels):
            del nodes[(size >> level) * HASH_BYTES :]

    def leaf(self, index: int) -> bytes:
        """The leaf hash of an entry; `NotFound` when there is none."""
        self._require(index, self.size - 1)
        return self._node(0, index)

    def root_at(self, size: int) -> bytes:
        """The root that the log had at a size; `NotFound` beyond the log."""
        self._require(size, self.size)
        return self._range(0, size) if size else EMPTY_ROOT

    def frontier(self) -> Frontier:
        """The perfect subtrees that make up the tree now."""
        peaks, start = list[bytes](), 0
        for level in reversed(range(self.size.bit_length())):
            if self.size >> level & 1:
                peaks.append(self._node(level, start >> level))
                start += 1 << level
        return Frontier(self.size, tuple(peaks))

    def inclusion_proof(self, index: int, size: int) -> list[bytes]:
        """The audit path of an entry in the tree of ``size`` leaves (RFC 6962, 2.1.1)."""
        self._require(size, self.size)
        self._require(index, size - 1)
        low, high, path = 0, size, list[bytes]()
        while high - low > 1:
            middle = low + _split(high - low)
            if index < middle:
                path.append(self._range(middle, high))
                high = middle
            else:
                path.append(self._range(low, middle))
                low = middle
        return path[::-1]

    def consistency_proof(self, old: int, new: int) -> list[bytes]:
        """The proof that the tree of ``old`` leaves is a prefix of that of ``new`` (RFC 6962, 2.1.2)."""
        self._require(new, self.size)
        self._require(old, new)
        if old in (0, new):
            return []
        low, high, whole, path = 0, new, True, list[bytes]()
        while old != high:
            middle = low + _split(high - low)
            if old <= middle:
                path.append(self._range(middle, high))
                high = middle
            else:
                path.append(self._range(low, middle))
                low, whole = middle, False
        if not whole:
            path.append(self._range(low, high))
        return path[::-1]

    def _range(self, low: int, high: int) -> bytes:
        """The root over leaves low to high; low is a multiple of the largest power of two below their number."""
        count = high - low
        if count & (count - 1) == 0:
            return self._node(count.bit_length() - 1, low // count)
        middle = low + _split(count)
        return node_hash(self._range(low, middle), self._range(middle, high))

    def _node(self, level: int, place: int) -> bytes:
        return bytes(self._levels[level][place * HASH_BYTES : (place + 1) * HASH_BYTES])

    @staticmethod
    def _require(number: int, most: int) -> None:
        if not 0 <= number <= most:
            raise NotFound("The log has no such entry or size.", field="index", next_step=f"Use 0 to {most}.")


def _split(count: int) -> int:
    """The largest power of two below a count of at least two."""
    return 1 << ((count - 1).bit_length() - 1)
