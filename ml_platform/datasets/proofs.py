"""Opening a stored snapshot: one row with its path, or all of it against its digest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from ml_platform.core.errors import DataError, DuplicateKeys, NotFound, SchemaMismatch, Tampered
from ml_platform.core.merkle import TreeHashes
from ml_platform.core.objects import ObjectStore
from ml_platform.core.rows import arrow_row_type, encode_table
from ml_platform.core.subjects import salt
from ml_platform.datasets.labels import SPLIT
from ml_platform.datasets.leaves import Leaves, MembershipProof, row_leaf
from ml_platform.datasets.maturity import REASON, ordered
from ml_platform.datasets.snapshot import DATA, LEFT_OUT, SeedSource, Snapshot, SnapshotTable, find_row, seeds_of
from ml_platform.datasets.training_spec import TEST, TRAIN

__all__ = ["Opened", "prove_membership", "verify_snapshot"]


@dataclass(frozen=True)
class Opened:
    """What opening a whole snapshot gave.

    A key that is not in it is "not among the ``rows - erased`` readable rows; ``erased`` erased".

    Attributes:
        rows: leaves of the snapshot.
        erased: rows whose subject has no seed any more: they can neither be confirmed nor denied.
        left_out: leaves of the rows left out.
        left_out_erased: as ``erased``.
    """

    rows: int
    erased: int
    left_out: int
    left_out_erased: int


def prove_membership(
    objects: ObjectStore,
    snapshot: Snapshot,
    where: Mapping[str, object],
    *,
    seeds: SeedSource,
    which: SnapshotTable = DATA,
) -> MembershipProof:
    """Opens one row and its path to the digest (or to the root of the rows left out).

    Args:
        objects: the store.
        snapshot: from ``read_snapshot``.
        where: values of the entity keys, and of the time where a subject has several rows.
        seeds: reads seeds; it need not make them.
        which: ``DATA`` or ``LEFT_OUT``.

    Raises:
        NotFound: no such row, or its subject was erased.
        DataError: several rows.
        Tampered: the row is not the one that was stored.
    """
    table, rule = snapshot.read(objects, which), snapshot.rule(which)
    row = table.slice(find_row(table, where), 1)
    (seed,) = seeds_of(row, rule, snapshot.manifest["entity"], seeds)
    if seed is None:
        raise NotFound(
            "The row's subject was erased or is unknown here.",
            field=", ".join(where),
            next_step="Nothing can be opened any more; the leaf stays in the tree.",
        )
    row_salt = salt(seed, rule.noun, rule.row_keys(row)[0])
    (raw,) = encode_table(row)
    leaves = snapshot.read_leaves(objects, which)
    leaf = row_leaf(rule.tag, row_salt, raw)
    hashes = leaves.hashes()
    if leaf not in hashes:
        raise Tampered(
            "The row is not the one that was stored.", field=which.parquet, next_step="Restore it from a backup."
        )
    index = hashes.index(leaf)
    path = TreeHashes.build(leaves.raw).inclusion_proof(index)
    return MembershipProof(rule.tag, row_salt, raw, index, leaves.size, tuple(path))


def verify_snapshot(
    objects: ObjectStore, snapshot: Snapshot, *, seeds: SeedSource, erased: int = 0, left_out_erased: int = 0
) -> Opened:
    """Recomputes everything from the stored rows and the seeds, and compares it with leaves, digest and manifest.

    Args:
        objects: the store.
        snapshot: from ``read_snapshot``.
        seeds: reads seeds, None for unknown subjects; it must not make them.
        erased: rows of subjects that the log says are erased.
        left_out_erased: likewise, of the rows left out.

    Raises:
        Tampered: names the first row, counted from 0, that differs, or what else does.
        ArtifactCorrupt: a file cannot be read, or leaves that do not give the root.
    """
    data, left_out = snapshot.read(objects, DATA), snapshot.read(objects, LEFT_OUT)
    _check_manifest(snapshot, data, left_out)
    for which, table, allowed in ((DATA, data, erased), (LEFT_OUT, left_out, left_out_erased)):
        leaves, rule = snapshot.read_leaves(objects, which), snapshot.rule(which)
        try:
            hashes = rule.leaves(table, seeds_of(table, rule, snapshot.manifest["entity"], seeds))
        except (DuplicateKeys, DataError) as error:
            raise _tampered(which, "It holds rows that cannot have been stored.") from error
        _compare(which, hashes, leaves, allowed)
        if not table.equals(ordered(table, rule.time, rule.keys)):
            raise _tampered(which, "The rows are not in training order any more.")
    return Opened(data.num_rows, erased, left_out.num_rows, left_out_erased)


def _check_manifest(snapshot: Snapshot, data: pa.Table, left_out: pa.Table) -> None:
    manifest = snapshot.manifest
    try:
        columns = [[item.name, arrow_row_type(item.type, field=item.name)] for item in data.schema]
    except SchemaMismatch as error:
        raise _tampered(DATA, "A column has a type that cannot have been stored.") from error
    identity = [*manifest["entity"]["keys"], manifest["time"], REASON]
    if columns != manifest["columns"] or left_out.column_names != identity:
        raise _tampered(DATA, "The columns are not those of the manifest.")
    parts = data.column(SPLIT).to_pylist()
    reasons = left_out.column(REASON).to_pylist()
    counted = {
        "rows": (data.num_rows, manifest["rows"]),
        "split.train_rows": (parts.count(TRAIN), manifest["split"]["train_rows"]),
        "split.test_rows": (parts.count(TEST), manifest["split"]["test_rows"]),
        "left_out.rows": (left_out.num_rows, manifest["left_out"]["rows"]),
        "left_out.reasons": ({one: reasons.count(one) for one in set(reasons)}, manifest["left_out"]["reasons"]),
    }
    for name, (found, said) in counted.items():
        if found != said:
            raise Tampered(
                f"The snapshot holds {found}, its manifest says {said}.",
                field=name,
                next_step="Restore the snapshot from a backup, or rebuild it with `mlp reproduce`.",
            )


def _compare(which: SnapshotTable, hashes: Sequence[bytes | None], leaves: Leaves, allowed: int) -> None:
    stored = set(leaves.hashes())
    for row, leaf in enumerate(hashes):
        if leaf is not None and leaf not in stored:
            raise _tampered(which, f"Row {row} is not the one that was stored.")
    if len(hashes) != leaves.size:
        raise _tampered(which, f"It holds {len(hashes)} rows, the tree has {leaves.size} leaves.")
    unopened = [row for row, leaf in enumerate(hashes) if leaf is None]
    if len(unopened) != allowed:
        raise _tampered(
            which,
            f"{len(unopened)} rows have no seed, the first is row {min(unopened, default=0)};"
            f" {allowed} are recorded as erased.",
        )


def _tampered(which: SnapshotTable, what: str) -> Tampered:
    return Tampered(
        what,
        field=which.parquet,
        next_step="Restore the snapshot from a backup, or rebuild it with `mlp reproduce` and compare.",
    )
