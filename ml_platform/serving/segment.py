"""Segments: records sealed under one Merkle root, their leaf hashes kept apart from Parquet.

The tree is ordered by leaf hash (DECISIONS 32), so that the root says nothing about row order and a proof survives
compaction and retention of the tables.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from ml_platform.core.digests import canonical_json, parse_canonical
from ml_platform.core.errors import DuplicateKeys, NotFound, Tampered
from ml_platform.core.merkle import HASH_BYTES, TreeHashes, verify_inclusion
from ml_platform.core.objects import ObjectStore
from ml_platform.serving.encoding import Messages
from ml_platform.serving.hashing import hash_rows
from ml_platform.serving.spool import sorted_order

__all__ = [
    "LeafTree",
    "Segment",
    "load_segment",
    "load_tiles",
    "nodes_path",
    "prove",
    "proves",
    "store_segment",
    "tiles_path",
]

FORMAT: Final = "ml-platform/segment/1"
_BLOCK: Final = 256  # a power of two: roots of blocks are nodes of the tree, on its eighth level
_MANY: Final = 4_096  # leaves from which hashing level by level is cheaper
_PART: Final = 256 * _BLOCK  # leaves hashed at once: memory does not follow the size


@dataclass(frozen=True)
class Segment:
    """What the audit log seals (``segments_sealed``): which records there are, by whom, and their root.

    Args:
        root: ``sha256:`` and the root over the sorted leaf hashes.
        counts: ``accepted``, ``refused``, ``flagged``, ``declined``; ``accepted`` is the size.
        min_decided_at, max_decided_at: RFC 3339 with microseconds, UTC.
    """

    id: str
    model: str
    root: str
    size: int
    first_id: str
    last_id: str
    writer: str
    first_seq: int
    last_seq: int
    counts: Mapping[str, int]
    min_decided_at: str
    max_decided_at: str
    format: str = FORMAT

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "counts": dict(self.counts)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        if document.get("format") != FORMAT:
            raise Tampered("The stored document is no segment.", field="format", next_step=f"Expected {FORMAT}.")
        return cls(**document)

    def to_bytes(self) -> bytes:
        return canonical_json(self.to_json())

    def sealed_entry(self) -> dict[str, Any]:
        """The segment as an entry of ``segments_sealed``."""
        document = self.to_json()
        del document["format"]
        models = [document.pop("model")]
        return {**document, "models": models}


@dataclass(frozen=True, repr=False)
class LeafTree:
    """The leaf hashes of a segment, sorted, end to end.

    ``nodes`` are the roots of blocks of 256 leaves where they are known; then a proof costs the hashes of one block and
    of these roots: milliseconds for a million leaves. What they lead to is to be compared with the segment's root.
    """

    leaves: bytes
    nodes: bytes | None = None

    def __post_init__(self) -> None:
        matrix = self._matrix
        if len(matrix) > 1 and not _increasing(matrix):
            raise Tampered(
                "The stored leaf hashes are not sorted, or one stands twice.",
                field="leaves.bin",
                next_step="Restore the segment's tiles from a backup.",
            )

    @classmethod
    def of(cls, leaves: npt.NDArray[np.uint8]) -> tuple[LeafTree, npt.NDArray[np.int64]]:
        """The tree of leaf hashes [n, 32] in any order, and the index of each in it.

        Raises:
            DuplicateKeys: two records have the same leaf.
        """
        order = sorted_order(leaves)
        ordered = _bytes_in_order(leaves, order)
        if not _increasing(np.frombuffer(ordered, np.uint8).reshape(-1, HASH_BYTES)):
            raise DuplicateKeys("Two records have the same leaf.", next_step="Report this: ids are not unique.")
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        return cls(ordered, cls(ordered).block_roots()), rank

    @property
    def _matrix(self) -> npt.NDArray[np.uint8]:
        if len(self.leaves) % HASH_BYTES:
            raise Tampered(
                "The stored leaf hashes have a broken length.",
                field="leaves.bin",
                next_step="Restore the segment's tiles from a backup.",
            )
        return np.frombuffer(self.leaves, np.uint8).reshape(-1, HASH_BYTES)

    @property
    def size(self) -> int:
        return len(self.leaves) // HASH_BYTES

    def _block(self, number: int) -> TreeHashes:
        step = _BLOCK * HASH_BYTES
        return TreeHashes.build(self.leaves[number * step : (number + 1) * step])

    def block_roots(self) -> bytes:
        """The roots of blocks of 256 leaves, end to end, computed from the leaves."""
        if self.size >= _MANY:
            matrix, up = self._matrix, _BLOCK.bit_length() - 1
            return b"".join(_level(matrix[at : at + _PART], up).tobytes() for at in range(0, self.size, _PART))
        blocks = -(-self.size // _BLOCK)
        return b"".join(self._block(number).root() for number in range(blocks))

    def _top(self) -> TreeHashes:
        return TreeHashes.build(self.block_roots() if self.nodes is None else self.nodes)

    def root(self) -> bytes:
        """The root (RFC 6962) over the sorted leaf hashes."""
        return self._top().root()

    def index(self, leaf: bytes) -> int:
        """The index of a leaf hash.

        Raises:
            NotFound: the segment does not hold it.
        """
        low, high = 0, self.size
        while low < high:
            middle = (low + high) // 2
            if self.leaves[middle * HASH_BYTES : (middle + 1) * HASH_BYTES] < leaf:
                low = middle + 1
            else:
                high = middle
        if self.leaves[low * HASH_BYTES : (low + 1) * HASH_BYTES] != leaf:
            raise NotFound("The segment does not hold this leaf.", next_step="Run `mlp verify`: a record was changed.")
        return low

    def proof(self, index: int) -> list[bytes]:
        """The inclusion proof of one leaf, from the leaf upwards."""
        number, within = divmod(index, _BLOCK)
        return [*self._block(number).inclusion_proof(within), *self._top().inclusion_proof(number)]


def _level(nodes: npt.NDArray[np.uint8], up: int) -> npt.NDArray[np.uint8]:
    """The nodes [n, 32] of a tree so many levels higher: hashed level by level, not block by block."""
    for _ in range(up):
        pairs = len(nodes) // 2
        parents = hash_rows(b"\x01", Messages.of_matrix(nodes[: 2 * pairs].reshape(pairs, 2 * HASH_BYTES)))
        nodes = np.concatenate([parents, nodes[2 * pairs :]])
    return nodes


def _bytes_in_order(leaves: npt.NDArray[np.uint8], order: npt.NDArray[np.int64]) -> bytes:
    """The leaves in an order, end to end, without a second copy on the way: a million leaves are 32 MB."""
    buffer = io.BytesIO()
    for start in range(0, len(order), _PART):
        buffer.write(leaves[order[start : start + _PART]].tobytes())
    return buffer.getvalue()


def _increasing(matrix: npt.NDArray[np.uint8]) -> bool:
    first = np.ascontiguousarray(matrix[:, :8]).view(">u8").ravel()
    if (first[1:] < first[:-1]).any():
        return False
    equal = np.flatnonzero(first[1:] == first[:-1])
    return all(matrix[at].tobytes() < matrix[at + 1].tobytes() for at in equal)


def tiles_path(segment_id: str) -> str:
    """Where the sorted leaf hashes of a segment lie, 32 bytes each."""
    return f"segments/{segment_id}/leaves.bin"


def nodes_path(segment_id: str) -> str:
    """Where the roots of its blocks of 256 leaves lie, 32 bytes each."""
    return f"segments/{segment_id}/nodes.bin"


def segment_path(segment_id: str) -> str:
    return f"segments/{segment_id}/segment.json"


def store_segment(objects: ObjectStore, segment: Segment, tree: LeafTree) -> None:
    """Stores tiles and document; storing the same again changes nothing.

    Raises:
        Conflict: other leaves are stored under this segment.
    """
    objects.create_same(tiles_path(segment.id), tree.leaves)
    objects.create_same(nodes_path(segment.id), tree.block_roots() if tree.nodes is None else tree.nodes)
    objects.create_same(segment_path(segment.id), segment.to_bytes())


def load_segment(objects: ObjectStore, segment_id: str) -> Segment:
    """Raises ``NotFound`` where there is none."""
    return Segment.from_json(parse_canonical(objects.read(segment_path(segment_id))))


def load_tiles(objects: ObjectStore, segment: Segment) -> LeafTree:
    """The leaf hashes of a segment, checked against its root.

    Raises:
        Tampered: they do not give the root.
    """
    tree = LeafTree(objects.read(tiles_path(segment.id)))
    if tree.size != segment.size or f"sha256:{tree.root().hex()}" != segment.root:
        raise Tampered(
            "The stored leaf hashes do not give the segment's root.",
            field="leaves.bin",
            next_step="Restore the segment's tiles from a backup.",
        )
    return tree


def prove(objects: ObjectStore, segment: Segment, leaf: bytes) -> tuple[int, list[bytes]]:
    """The index of a leaf hash and its inclusion proof, checked; nothing but the way to the root is hashed.

    Raises:
        NotFound: the segment does not hold the leaf.
        Tampered: the stored hashes do not lead to the segment's root.
    """
    tree = LeafTree(objects.read(tiles_path(segment.id)), objects.read(nodes_path(segment.id)))
    index = tree.index(leaf)
    proof = tree.proof(index)
    if not proves(segment, leaf, index, proof):
        raise Tampered(
            "The stored leaf hashes do not lead to the segment's root.",
            field="nodes.bin",
            next_step="Restore the segment's tiles from a backup.",
        )
    return index, proof


def proves(segment: Segment, leaf: bytes, index: int, proof: list[bytes]) -> bool:
    """True when the proof leads from the leaf to the segment's root."""
    return verify_inclusion(leaf, index, segment.size, proof, bytes.fromhex(segment.root.removeprefix("sha256:")))
