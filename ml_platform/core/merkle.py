"""The Merkle tree of the audit log, of snapshots and of segments (RFC 6962, 2.1; RFC 9162, 2.1).

Pure. What builds a tree refuses leaf hashes that are not 32 bytes long (`DeclarationError`). Trees are kept by
level: two neighbours make one node of the next, and a last node without neighbour moves up unchanged, which gives
the hashes of the RFC's recursive definition.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from ml_platform.core.errors import DeclarationError, NotFound, Tampered

__all__ = [
    "EMPTY_ROOT",
    "HASH_BYTES",
    "Frontier",
    "TreeHashes",
    "consistency_proof",
    "inclusion_proof",
    "leaf_hash",
    "node_hash",
    "root",
    "verify_consistency",
    "verify_inclusion",
]

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()

_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"
_PAIR: Final = 2 * HASH_BYTES
_SIZE_BYTES: Final = 8
_MAX_SIZE: Final = 2**63


def leaf_hash(raw: bytes) -> bytes:
    """SHA-256(0x00 ‖ raw), 32 bytes: the prefix keeps a leaf from passing as a node."""
    return sha256(_LEAF + raw).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 ‖ left ‖ right), 32 bytes."""
    return sha256(_NODE + left + right).digest()


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """The root over leaf hashes in this order; SHA-256 of nothing for the empty tree."""
    level = _joined(leaf_hashes)
    while len(level) > HASH_BYTES:
        level = _parents(level)
    return level or EMPTY_ROOT


def inclusion_proof(leaf_hashes: Sequence[bytes], index: int) -> list[bytes]:
    """The audit path of one leaf, from the leaf upwards; `NotFound` when there is no such leaf.

    For many proofs of one tree use `TreeHashes`.
    """
    return TreeHashes.build(_joined(leaf_hashes)).inclusion_proof(index)


def consistency_proof(leaf_hashes: Sequence[bytes], old_size: int) -> list[bytes]:
    """The proof that the tree of the first ``old_size`` leaves is a prefix of this one (RFC 9162, 2.1.4.1).

    Empty for equal sizes and for an old tree that was empty. `NotFound` when the tree never had this size.
    """
    return TreeHashes.build(_joined(leaf_hashes)).consistency_proof(old_size)


def verify_inclusion(leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """True when the proof leads from the leaf to the root of a tree of this size (RFC 9162, 2.1.3.2).

    Anything malformed is False, too.
    """
    if not (_is_size(index) and _is_size(size) and index < size and _are_hashes(proof, leaf_hash, root)):
        return False
    climbed = _climb(index, size - 1, leaf_hash, proof)
    return climbed is not None and climbed[1] == root


def verify_consistency(old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """True when the new tree begins with the whole old tree (RFC 9162, 2.1.4.2).

    The empty tree is a prefix of every tree, with an empty proof. Anything malformed is False, too.
    """
    if not (_is_size(old_size) and _is_size(new_size) and old_size <= new_size):
        return False
    if not _are_hashes(proof, old_root, new_root):
        return False
    if old_size == 0:
        return not proof and old_root == EMPTY_ROOT and (new_size > 0 or new_root == EMPTY_ROOT)
    if old_size == new_size:
        return not proof and old_root == new_root
    if old_size & (old_size - 1) == 0:
        proof = [old_root, *proof]  # a perfect old tree is a node of the new one, so the prover left it out
    if not proof:
        return False
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    return _climb(node, last, proof[0], proof[1:]) == (old_root, new_root)


def _climb(node: int, last: int, start: bytes, path: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    """The root over all up to the node, and over everything; None when the path has a wrong length.

    ``node`` and ``last`` count nodes on the level of ``start``; ``last`` is the last one there.
    """
    left = whole = start
    for sibling in path:
        if last == 0:
            return None
        if node & 1 or node == last:
            left, whole = node_hash(sibling, left), node_hash(sibling, whole)
            while not node & 1:  # a node without neighbour moved up unchanged
                node, last = node >> 1, last >> 1
        else:
            whole = node_hash(whole, sibling)
        node, last = node >> 1, last >> 1
    return (left, whole) if last == 0 else None


@dataclass(frozen=True, slots=True)
class Frontier:
    """All that appending needs: the roots of the perfect subtrees that make up a tree, largest first.

    Appending and the root cost O(log n).

    Args:
        size: number of leaves.
        peaks: one hash per set bit of ``size``, highest bit first.

    Raises:
        Tampered: the number or the length of the hashes does not fit the size.

    Example:
        >>> Frontier().append(leaf_hash(b"")).root().hex()[:8]
        '6e340b9c'
    """

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        fits = _is_size(self.size) and len(self.peaks) == self.size.bit_count()
        if not (fits and _are_hashes(self.peaks)):
            raise Tampered(
                "The stored frontier of the tree does not fit its size.",
                field="frontier",
                next_step="Rebuild it from the log's leaf hashes.",
            )

    def append(self, leaf_hash: bytes) -> Frontier:
        """The frontier after one more leaf."""
        return self.extend((leaf_hash,))

    def extend(self, leaf_hashes: Iterable[bytes]) -> Frontier:
        """The frontier after more leaves, in their order."""
        size, peaks = self.size, list(self.peaks)
        for added in leaf_hashes:
            node, full = _checked(added), size
            while full & 1:
                node, full = node_hash(peaks.pop(), node), full >> 1
            peaks.append(node)
            size += 1
        return Frontier(size, tuple(peaks))

    def root(self) -> bytes:
        """The root of the whole tree."""
        if not self.peaks:
            return EMPTY_ROOT
        *left, computed = self.peaks
        for peak in reversed(left):
            computed = node_hash(peak, computed)
        return computed

    def to_bytes(self) -> bytes:
        """Size as 8 bytes, big-endian, then the hashes."""
        return self.size.to_bytes(_SIZE_BYTES, "big") + b"".join(self.peaks)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Frontier:
        """The frontier that `to_bytes` wrote; raises `Tampered` for anything else."""
        size, hashes = int.from_bytes(raw[:_SIZE_BYTES], "big"), raw[_SIZE_BYTES:]
        if len(raw) < _SIZE_BYTES:
            size = -1  # refused by the constructor, with its sentence
        return cls(size, tuple(hashes[i : i + HASH_BYTES] for i in range(0, len(hashes), HASH_BYTES)))


@dataclass(frozen=True, slots=True, repr=False)
class TreeHashes:
    """All nodes of one tree, 64 bytes a leaf, so that each proof is a handful of look-ups.

    Made by `build`. ``levels[0]`` holds the leaf hashes end to end, the last level the root alone; the empty
    tree has one empty level.
    """

    levels: tuple[bytes, ...]

    @classmethod
    def build(cls, leaf_hashes: bytes) -> TreeHashes:
        """The tree over leaf hashes that lie end to end, 32 bytes each."""
        if len(leaf_hashes) % HASH_BYTES:
            raise _not_a_hash()
        levels = [bytes(leaf_hashes)]
        while len(levels[-1]) > HASH_BYTES:
            levels.append(_parents(levels[-1]))
        return cls(tuple(levels))

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self.levels[0]) // HASH_BYTES

    def root(self) -> bytes:
        """The root of the tree."""
        return self.levels[-1] or EMPTY_ROOT

    def leaf(self, index: int) -> bytes:
        """The leaf hash of this index; raises `NotFound` when there is none."""
        if not 0 <= index < self.size:
            raise NotFound(
                "The tree has no leaf of this index.",
                field="index",
                next_step="Use an index from 0 to size - 1.",
            )
        return self._hash(0, index)

    def inclusion_proof(self, index: int) -> list[bytes]:
        """See the function of this name; O(log n)."""
        self.leaf(index)
        return self._path(0, index)

    def consistency_proof(self, old_size: int) -> list[bytes]:
        """See the function of this name; O(log n)."""
        if not 0 <= old_size <= self.size:
            raise NotFound(
                "The tree never had this size.",
                field="old_size",
                next_step="Use a size from 0 to the tree's own.",
            )
        if old_size in (0, self.size):
            return []
        level, node = 0, old_size - 1
        while node & 1:
            level, node = level + 1, node >> 1
        # The largest perfect subtree that ends the old tree; a verifier knows it if it is the whole one.
        start = [self._hash(level, node)] if node else []
        return start + self._path(level, node)

    def _path(self, level: int, node: int) -> list[bytes]:
        path: list[bytes] = []
        for current in range(level, len(self.levels) - 1):
            sibling = node ^ 1
            if sibling * HASH_BYTES < len(self.levels[current]):
                path.append(self._hash(current, sibling))
            node >>= 1
        return path

    def _hash(self, level: int, node: int) -> bytes:
        return self.levels[level][node * HASH_BYTES : (node + 1) * HASH_BYTES]


def _parents(level: bytes) -> bytes:
    """The next level up; a last node without neighbour moves up unchanged."""
    paired = len(level) - len(level) % _PAIR
    nodes = [sha256(_NODE + level[i : i + _PAIR]).digest() for i in range(0, paired, _PAIR)]
    return b"".join(nodes) + level[paired:]


def _joined(leaf_hashes: Sequence[bytes]) -> bytes:
    return b"".join([_checked(one) for one in leaf_hashes])


def _checked(leaf_hash: bytes) -> bytes:
    if len(leaf_hash) != HASH_BYTES:
        raise _not_a_hash()
    return leaf_hash


def _not_a_hash() -> DeclarationError:
    return DeclarationError(
        "A leaf hash is not 32 bytes long.", field="leaf_hashes", next_step="Pass the results of leaf_hash()."
    )


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_SIZE


def _are_hashes(proof: object, *more: object) -> bool:
    if not isinstance(proof, list | tuple):
        return False
    return all(isinstance(one, bytes) and len(one) == HASH_BYTES for one in (*proof, *more))
