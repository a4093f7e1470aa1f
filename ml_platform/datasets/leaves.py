"""The salted leaves of a snapshot: what its digest is made of, and proofs that a row is in it. Pure functions.

A leaf commits to one row without giving it away: the salt comes from the seed of the row's subject, so that nobody can
guess a row and check it, and destroying the seed erases the subject from every proof at once. Leaves are sorted by
their hash, so that the position of a leaf says nothing about its row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Self

import pyarrow as pa

from ml_platform.core.errors import DataError, DuplicateKeys
from ml_platform.core.merkle import HASH_BYTES, TreeHashes, leaf_hash, verify_inclusion
from ml_platform.core.rows import encode_row, encode_table
from ml_platform.core.subjects import salt

__all__ = [
    "LEFT_OUT_NOUN",
    "LEFT_OUT_TAG",
    "ROW_NOUN",
    "ROW_TAG",
    "LeafRule",
    "Leaves",
    "MembershipProof",
    "row_leaf",
    "verify_membership",
]

ROW_TAG: Final = "ml-platform/training-leaf/1"
LEFT_OUT_TAG: Final = "ml-platform/left-out-leaf/1"
ROW_NOUN: Final = "training_row"
LEFT_OUT_NOUN: Final = "left_out_row"
_PROOF_FORMAT: Final = "ml-platform/membership/1"


def row_leaf(tag: str, row_salt: bytes, row: bytes) -> bytes:
    """SHA-256(0x00 ‖ row/1(tag, salt, row bytes)), 32 bytes."""
    return leaf_hash(encode_row([("text", tag), ("bytes", row_salt), ("bytes", row)]))


@dataclass(frozen=True)
class LeafRule:
    """How the rows of one table become leaves.

    Attributes:
        tag: what the leaf is, ``ml-platform/training-leaf/1`` or ``ml-platform/left-out-leaf/1``.
        noun: what the salt is for.
        keys: the entity's key columns: they name the subject.
        time: the request's time; keys and time name the row.
    """

    tag: str
    noun: str
    keys: tuple[str, ...]
    time: str

    def subjects(self, table: pa.Table) -> list[bytes]:
        """``row/1`` bytes of the entity key of each row."""
        return encode_table(table, self.keys)

    def row_keys(self, table: pa.Table) -> list[bytes]:
        """``row/1`` bytes of (entity key, time) of each row.

        Raises:
            DuplicateKeys: two rows have the same.
        """
        keys = encode_table(table, [*self.keys, self.time])
        if len(set(keys)) != len(keys):
            raise DuplicateKeys(
                "Two rows have the same key and time.",
                field=", ".join([*self.keys, self.time]),
                next_step="Deliver each request once; a correction has a later known time.",
            )
        return keys

    def leaves(self, table: pa.Table, seeds: Sequence[bytes | None]) -> list[bytes | None]:
        """The leaf hash of each row, in the table's order; None where the subject's seed is gone (erased).

        Independent of row groups, chunks, dictionaries and threads.

        Args:
            table: the rows; all columns count, in their order.
            seeds: the 32-byte seed of each row's subject.

        Raises:
            DuplicateKeys: two rows have the same key and time.
            DataError: not one seed a row.
        """
        if len(seeds) != table.num_rows:
            raise DataError("There is not one seed a row.", field="seeds", next_step="Pass the seeds in row order.")
        prefix = encode_row([("text", self.tag)])
        salts = [
            None if seed is None else salt(seed, self.noun, key)
            for seed, key in zip(seeds, self.row_keys(table), strict=True)
        ]
        # The same bytes as row_leaf(), assembled here: this is the hot loop of a snapshot.
        return [
            None if one is None else leaf_hash(prefix + _SALT_HEAD + one + _sized(row))
            for one, row in zip(salts, encode_table(table), strict=True)
        ]


_SALT_HEAD: Final = b"\x01" + HASH_BYTES.to_bytes(4, "little")


def _sized(raw: bytes) -> bytes:
    return b"\x01" + len(raw).to_bytes(4, "little") + raw


@dataclass(frozen=True, slots=True, repr=False)
class Leaves:
    """Leaf hashes in the order of the tree, end to end: the content of ``leaves.bin``.

    Raises:
        DuplicateKeys: made ``of`` hashes of which two are equal.
        DataError: bytes that are no sorted list of 32-byte hashes.
    """

    raw: bytes

    def __post_init__(self) -> None:
        hashes = self.hashes()
        whole = len(self.raw) % HASH_BYTES == 0
        if not whole or any(one >= other for one, other in pairwise(hashes)):
            raise DataError(
                "These are not sorted leaf hashes.", field="leaves", next_step="Restore the file from a backup."
            )

    @classmethod
    def of(cls, hashes: Sequence[bytes]) -> Self:
        ordered = sorted(hashes)
        if len(set(ordered)) != len(ordered):
            raise DuplicateKeys("Two leaves are equal.", field="leaves", next_step="Deliver each row once.")
        return cls(b"".join(ordered))

    def hashes(self) -> list[bytes]:
        return [self.raw[start : start + HASH_BYTES] for start in range(0, len(self.raw), HASH_BYTES)]

    @property
    def size(self) -> int:
        return len(self.raw) // HASH_BYTES

    @property
    def digest(self) -> str:
        """``sha256:`` and the root of the RFC 6962 tree over the hashes."""
        return "sha256:" + TreeHashes.build(self.raw).root().hex()


@dataclass(frozen=True)
class MembershipProof:
    """One opened row and its path to the snapshot's digest.

    ``row`` are the ``row/1`` bytes of the row's columns in the manifest's order; who holds salt and row can check
    them, nobody else can guess them.
    """

    tag: str
    salt: bytes
    row: bytes
    index: int
    size: int
    path: tuple[bytes, ...]

    def to_json(self) -> dict[str, Any]:
        """``ml-platform/membership/1``; bytes as hex."""
        return {
            "format": _PROOF_FORMAT,
            "tag": self.tag,
            "salt": self.salt.hex(),
            "row": self.row.hex(),
            "index": self.index,
            "size": self.size,
            "path": [one.hex() for one in self.path],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Reads a proof; whether it holds is ``verify_membership``'s business.

        Raises:
            DataError: the document is no such proof.
        """
        try:
            known = document["format"] == _PROOF_FORMAT
            proof = cls(
                tag=str(document["tag"]),
                salt=bytes.fromhex(document["salt"]),
                row=bytes.fromhex(document["row"]),
                index=document["index"],
                size=document["size"],
                path=tuple(bytes.fromhex(one) for one in document["path"]),
            )
        except (KeyError, TypeError, ValueError):
            known = False
        if not known:
            raise DataError("This is no proof.", field="format", next_step=f"Expected {_PROOF_FORMAT}.")
        return proof


def verify_membership(proof: MembershipProof, digest: str, rows: int) -> bool:
    """True when the opened row is in the tree of this digest and this many leaves. Never raises.

    Args:
        proof: what was handed over.
        digest: the snapshot's digest, or the root of the rows left out, from a manifest that is trusted.
        rows: the number of leaves, from the same manifest: a root alone does not settle it (some paths fit two sizes).
    """
    prefix, _, text = digest.partition(":")
    try:
        root = bytes.fromhex(text)
    except ValueError:
        return False
    leaf = row_leaf(proof.tag, proof.salt, proof.row)
    return (
        prefix == "sha256" and proof.size == rows and verify_inclusion(leaf, proof.index, proof.size, proof.path, root)
    )
