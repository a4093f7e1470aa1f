"""Rows of a batch window that were decided online before it: pinned once, so that every retry leaves out the same.

``batch/<model>/<partition>/<revision>/decided.bin`` (``ml-platform/decided/1``) is created if absent beside the intent:
a keyed index of 32 bytes for each such row, sorted, end to end. It names nobody: the key is the entity's shared seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa

from ml_platform.core.errors import NotFound, Tampered
from ml_platform.core.objects import ObjectStore
from ml_platform.core.rows import encode_row
from ml_platform.serving.encoding import arrow_part, row_bytes
from ml_platform.serving.hashing import OneKey, sized
from ml_platform.serving.intent import Intent

__all__ = ["DECIDED_TAG", "DecidedRows", "decided_count", "row_keys"]

DECIDED_TAG: Final = "ml-platform/decided/1"
_INDEX_BYTES: Final = 32


def row_keys(table: pa.Table, keys: Sequence[str], time: str) -> list[bytes]:
    """The row keys, ``row/1(entity keys, request time)``, of a table's rows; its columns may have any names."""
    parts = [arrow_part(table.column(name), field=name) for name in (*keys, time)]
    return row_bytes(parts, table.num_rows)


@dataclass(frozen=True, repr=False)
class DecidedRows:
    """The rows that a revision of a partition leaves out."""

    key: bytes
    model: str
    indexes: frozenset[bytes]

    @classmethod
    def pinned(cls, objects: ObjectStore, intent: Intent, shared_seed: bytes, found: Iterable[bytes]) -> DecidedRows:
        """The rows that were pinned for the intent; where none were, ``found`` (row keys) is pinned now."""
        raw = b"".join(sorted(set(_indexes(shared_seed, intent.model, list(found)))))
        path = _path(intent.model, intent.partition, intent.revision)
        objects.create(path, raw)
        return cls(shared_seed, intent.model, frozenset(_split(objects.read(path), path)))

    def without(self, table: pa.Table, keys: Sequence[str], time: str) -> pa.Table:
        """The table's rows that nobody decided online."""
        if not self.indexes or not table.num_rows:
            return table
        found = _indexes(self.key, self.model, row_keys(table, keys, time))
        kept = np.fromiter((one not in self.indexes for one in found), np.bool_, len(found))
        return table if kept.all() else table.filter(pa.array(kept))


def decided_count(objects: ObjectStore, model: str, partition: str, revision: int) -> int:
    """How many rows were pinned as decided online; 0 where nothing was pinned."""
    path = _path(model, partition, revision)
    try:
        return len(_split(objects.read(path), path))
    except NotFound:
        return 0


def _path(model: str, partition: str, revision: int) -> str:
    return f"batch/{model}/{partition}/{revision}/decided.bin"


def _indexes(shared_seed: bytes, model: str, keys: Sequence[bytes]) -> list[bytes]:
    return OneKey(shared_seed).macs(encode_row([("text", DECIDED_TAG), ("text", model)]), sized(keys))


def _split(raw: bytes, path: str) -> list[bytes]:
    found = [raw[at : at + _INDEX_BYTES] for at in range(0, len(raw), _INDEX_BYTES)]
    if len(raw) % _INDEX_BYTES or any(one >= other for one, other in pairwise(found)):
        raise Tampered(
            "The pinned list of rows that were decided online is not one.",
            field=path,
            next_step="Restore it from a backup: retries must leave out the same rows.",
        )
    return found
