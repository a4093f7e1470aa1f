"""Merkle trees of stored leaf hashes, kept between proofs.

A tree is found again by the SHA-256 of the bytes that are stored *now*, so remembering it forgives no change.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from threading import Lock
from typing import Final

from ml_platform.core.errors import Tampered
from ml_platform.core.merkle import HASH_BYTES, TreeHashes, verify_inclusion

__all__ = ["inclusion_path", "tree_of"]

_MOST_BYTES: Final = 64 * 2**20  # of leaf hashes; a tree takes twice its leaves

_known: OrderedDict[bytes, TreeHashes] = OrderedDict()
_guard = Lock()


def tree_of(leaves: bytes) -> TreeHashes:
    """The tree over leaf hashes that lie end to end.

    Raises:
        Tampered: the bytes are no whole number of hashes.
    """
    if len(leaves) % HASH_BYTES:
        raise Tampered(
            "The stored leaf hashes have a broken length.", field="leaves.bin", next_step="Restore them from a backup."
        )
    name = sha256(leaves).digest()
    with _guard:
        if name in _known:
            _known.move_to_end(name)
            return _known[name]
    tree = TreeHashes.build(leaves)
    with _guard:
        _known[name] = tree
        while len(_known) > 1 and sum(len(one.levels[0]) for one in _known.values()) > _MOST_BYTES:
            _known.popitem(last=False)
    return tree


def inclusion_path(tree: TreeHashes, leaf: bytes, root: bytes, *, field: str) -> tuple[int, list[bytes]]:
    """Index and audit path of a leaf in a sorted tree, checked against the root.

    Raises:
        Tampered: the leaf is not in the tree, or the tree has another root.
    """
    if tree.root() != root:
        raise Tampered(
            "The stored leaf hashes do not give the root that was sealed.",
            field=field,
            next_step="Restore them from a backup.",
        )
    low, high = 0, tree.size
    while low < high:
        middle = (low + high) // 2
        if tree.leaf(middle) < leaf:
            low = middle + 1
        else:
            high = middle
    if low == tree.size or tree.leaf(low) != leaf:
        raise Tampered(
            "What the tables hold is not what was sealed: its leaf is not in the tree.",
            field=field,
            next_step="Run `mlp verify` for the whole root; restore the tables from a backup.",
        )
    path = tree.inclusion_proof(low)
    if not verify_inclusion(leaf, low, tree.size, path, root):
        raise Tampered("The path does not lead to the root.", field=field, next_step="Report this.")
    return low, path
