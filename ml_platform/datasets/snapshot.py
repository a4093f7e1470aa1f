"""Snapshots: a training set as immutable Parquet, the leaves that its digest is made of, and its manifest.

Below one path of the object store lie ``data.parquet`` (rows in training order), ``leaves.bin`` (32-byte leaf hashes,
sorted), the same two for the rows left out (``left_out.parquet``, ``left_out_leaves.bin``), and ``manifest.json``,
which is written last: without it there is no snapshot. Proofs need ``leaves.bin`` only, so they survive whatever
happens to the Parquet files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ml_platform.core.digests import canonical_json, document_digest, parse_canonical
from ml_platform.core.errors import ArtifactCorrupt, Conflict, DataError, DeclarationError, NotFound
from ml_platform.core.objects import ObjectStore
from ml_platform.datasets.leaves import LEFT_OUT_NOUN, LEFT_OUT_TAG, ROW_NOUN, ROW_TAG, LeafRule, Leaves
from ml_platform.datasets.manifest import MANIFEST_FORMAT, Inputs, manifest_document
from ml_platform.datasets.training_set import TrainingSet

__all__ = [
    "DATA",
    "LEFT_OUT",
    "SeedSource",
    "Snapshot",
    "SnapshotTable",
    "read_snapshot",
    "seeds_of",
    "snapshot_path",
    "write_snapshot",
]

SeedSource = Callable[[str, Sequence[bytes]], Sequence[bytes | None]]
"""Seeds of subjects by (entity, ``row/1`` bytes of the keys), as ``Subjects.seeds``; None where erased or unknown."""

_NO_SUBJECT: Final = b""  # entities that are not personal share the seed of this constant key


@dataclass(frozen=True)
class SnapshotTable:
    """One of the two tables of a snapshot: its files, and how its rows become leaves."""

    parquet: str
    leaves: str
    tag: str
    noun: str


DATA: Final = SnapshotTable("data.parquet", "leaves.bin", ROW_TAG, ROW_NOUN)
LEFT_OUT: Final = SnapshotTable("left_out.parquet", "left_out_leaves.bin", LEFT_OUT_TAG, LEFT_OUT_NOUN)


@dataclass(frozen=True)
class Snapshot:
    """A stored training set.

    Attributes:
        path: below the object store, ``snapshots/<model>/<candidate>``.
        manifest: ``ml-platform/training-set/1``.
    """

    path: str
    manifest: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Root of the tree over the rows' leaves: equal rows and seeds, equal digest, on every machine."""
        return str(self.manifest["digest"])

    @property
    def rows(self) -> int:
        return int(self.manifest["rows"])

    @cached_property
    def manifest_digest(self) -> str:
        return document_digest("training-set", self.manifest)

    @property
    def data_path(self) -> str:
        return f"{self.path}/{DATA.parquet}"

    def rule(self, which: SnapshotTable = DATA) -> LeafRule:
        keys = tuple(self.manifest["entity"]["keys"])
        return LeafRule(which.tag, which.noun, keys, str(self.manifest["time"]))

    def root(self, which: SnapshotTable = DATA) -> str:
        return self.digest if which == DATA else str(self.manifest["left_out"]["root"])

    def read(self, objects: ObjectStore, which: SnapshotTable = DATA) -> pa.Table:
        """The rows, in training order.

        Raises:
            NotFound: the file is gone.
            ArtifactCorrupt: it is no Parquet file any more.
        """
        raw = objects.read(f"{self.path}/{which.parquet}")
        try:
            return pq.read_table(pa.BufferReader(raw)).combine_chunks()
        except (pa.ArrowException, OSError) as error:
            raise ArtifactCorrupt(
                "The stored rows cannot be read.",
                field=which.parquet,
                next_step="Restore the file from a backup, or rebuild it with `mlp reproduce`.",
            ) from error

    def read_leaves(self, objects: ObjectStore, which: SnapshotTable = DATA) -> Leaves:
        """The leaf hashes.

        Raises:
            ArtifactCorrupt: they do not give the root that the manifest names.
        """
        try:
            leaves = Leaves(objects.read(f"{self.path}/{which.leaves}"))
        except DataError:
            leaves = None
        if leaves is None or leaves.digest != self.root(which):
            raise ArtifactCorrupt(
                "The stored leaves do not give the root in the manifest.",
                field=which.leaves,
                next_step="Restore the file from a backup, or rebuild it with `mlp reproduce`.",
            )
        return leaves


def snapshot_path(model: str, candidate: str) -> str:
    """Where a candidate's training set lies below the object store."""
    return f"snapshots/{model}/{candidate}"


def seeds_of(table: pa.Table, rule: LeafRule, entity: Mapping[str, Any], seeds: SeedSource) -> list[bytes | None]:
    """The seed of each row's subject; an entity that is not personal has one for all its rows."""
    if entity["personal"]:
        return list(seeds(entity["name"], rule.subjects(table)))
    return list(seeds(entity["name"], [_NO_SUBJECT])) * table.num_rows


def write_snapshot(
    objects: ObjectStore, training_set: TrainingSet, *, path: str, inputs: Inputs, seeds: SeedSource
) -> Snapshot:
    """Stores a training set, once; the same again changes nothing, and a run that was cut short is completed.

    Args:
        objects: the store.
        training_set: what ``build_training_set`` made.
        path: see ``snapshot_path``.
        inputs: what was read, for the manifest.
        seeds: makes and returns the subjects' seeds (``Subjects.seeds``).

    Raises:
        Conflict: the path holds another training set; it was not changed.
        DuplicateKeys: two rows have the same key and time.
        DataError: a subject has no seed.
        StorageFailed: the store refused; there is no snapshot.
    """
    entity = training_set.parts["entity"]
    tables = {DATA: training_set.table, LEFT_OUT: training_set.left_out}
    leaves: dict[SnapshotTable, Leaves] = {}
    for which, table in tables.items():
        rule = LeafRule(which.tag, which.noun, tuple(entity["keys"]), training_set.parts["time"])
        leaves[which] = _all_leaves(rule.leaves(table, seeds_of(table, rule, entity, seeds)))
    manifest = manifest_document(
        parts=training_set.parts,
        inputs=inputs,
        digest=leaves[DATA].digest,
        left_out_root=leaves[LEFT_OUT].digest,
        as_of=training_set.as_of,
    )
    raw = canonical_json(manifest)
    if objects.exists(f"{path}/manifest.json"):
        _refuse_other(objects, path, manifest)
        return Snapshot(path, parse_canonical(raw))
    for which, table in tables.items():
        _create_table(objects, f"{path}/{which.parquet}", table)
        objects.create_same(f"{path}/{which.leaves}", leaves[which].raw)
    objects.create_same(f"{path}/manifest.json", raw)
    return Snapshot(path, parse_canonical(raw))


def _all_leaves(hashes: Sequence[bytes | None]) -> Leaves:
    present = [one for one in hashes if one is not None]
    if len(present) != len(hashes):
        raise DataError(
            f"{len(hashes) - len(present)} rows belong to subjects without a seed.",
            field="seeds",
            next_step="Leave out the rows of erased subjects.",
        )
    return Leaves.of(present)


def _refuse_other(objects: ObjectStore, path: str, manifest: Mapping[str, Any]) -> None:
    stored = read_snapshot(objects, path).manifest
    differing = sorted(name for name in {*stored, *manifest} if stored.get(name) != manifest.get(name))
    if differing:
        raise Conflict(
            f"{path} holds another training set; it was not changed. They differ in {', '.join(differing)}.",
            field=differing[0],
            next_step="Equal inputs give an equal training set: find which input differs, or use a new candidate key.",
        )


def _create_table(objects: ObjectStore, path: str, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    if objects.create(path, sink.getvalue().to_pybytes()):
        return
    # Another version of the writer gives other bytes for the same rows, so rows are compared, not files.
    try:
        same = bool(pq.read_table(pa.BufferReader(objects.read(path))).equals(table))
    except (pa.ArrowException, OSError):
        same = False
    if not same:
        raise Conflict(
            f"{path} is left over from a run with other rows; it was not changed.",
            next_step="Find which input differs, or use a new candidate key.",
        )


def read_snapshot(objects: ObjectStore, path: str) -> Snapshot:
    """The snapshot at a path, from its manifest.

    Raises:
        NotFound: there is none, or it was never finished.
        ArtifactCorrupt: the manifest is not canonical, or of another format.
    """
    try:
        manifest = parse_canonical(objects.read(f"{path}/manifest.json"))
        known = isinstance(manifest, dict) and manifest.get("format") == MANIFEST_FORMAT
    except (ValueError, DeclarationError):
        known = False
    if not known:
        raise ArtifactCorrupt(
            f"The manifest of {path} is damaged or of an unknown format.",
            field="manifest.json",
            next_step=f"Expected {MANIFEST_FORMAT}; restore it from a backup.",
        )
    return Snapshot(path, manifest)


def find_row(table: pa.Table, where: Mapping[str, object]) -> int:
    """The index of the one row with these values.

    Raises:
        NotFound: there is none.
        DataError: there are several.
    """
    mask = np.ones(table.num_rows, np.bool_)
    for name, value in where.items():
        wanted = pa.scalar(value, table.schema.field(name).type)
        mask &= np.asarray(pc.equal(table.column(name), wanted))
    found = np.flatnonzero(mask)
    if not len(found):
        raise NotFound("No row of the snapshot has this key.", field=", ".join(where), next_step="Check key and time.")
    if len(found) > 1:
        raise DataError("Several rows have this key.", field=", ".join(where), next_step="Give the time as well.")
    return int(found[0])
