"""Sealed segments against the tables: every record is there, unchanged, once, and no other is.

A record that was edited, deleted or inserted is named by its prediction id, as long as any table still holds that id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from ml_platform.core.contract import Contract
from ml_platform.core.errors import IntegrityError, NotFound, PlatformError, StorageFailed, Tampered
from ml_platform.core.merkle import HASH_BYTES
from ml_platform.governance.findings import Counts, Finding
from ml_platform.governance.parts import Parts
from ml_platform.governance.reading import column_values, equal_to, readable
from ml_platform.governance.record_leaves import RecordLeaf, record_leaves
from ml_platform.governance.rescoring import rescore
from ml_platform.governance.stored import StoredTables
from ml_platform.serving import Segment, load_segment, load_tiles
from ml_platform.serving.tables import ENTITIES, personal_table, predictions_table
from ml_platform.training import Artifact, load_artifact

__all__ = ["SegmentCheck"]

_MOST_NAMED: Final = 20  # records of one segment that are named one by one
_CHUNK_ROWS: Final = 65_536


@dataclass
class SegmentCheck:
    """Checks the segments of one root.

    Attributes:
        registered: artifact digests of all versions in the log.
        artifacts: loaded ones, by digest; a missing or corrupt one is the versions' finding.
    """

    parts: Parts
    tables: StoredTables
    registered: frozenset[str]
    counts: Counts
    deep: bool = False
    artifacts: dict[str, Artifact | None] = field(default_factory=dict)

    def check(self, sealed: Mapping[str, Any]) -> Iterator[Finding]:
        """Everything about one segment, as the log's entry describes it."""
        self.counts.segments += 1
        segment_id, model = str(sealed["id"]), str(sealed["models"][0])
        try:
            segment = load_segment(self.parts.objects, segment_id)
            if segment.sealed_entry() != dict(sealed):
                raise Tampered("segment.json is not what was sealed.", next_step="Restore it from a backup.")
            leaves = load_tiles(self.parts.objects, segment).leaves
        except NotFound as error:
            yield Finding(
                "incomplete", f"segment {segment_id}", "the segment's leaf hashes and description", error.what
            )
            return
        except StorageFailed:
            raise
        except PlatformError as error:
            yield Finding("tampered", f"segment {segment_id}", f"leaves under {sealed['root']}", error.what)
            return
        try:
            headers = self._rows(predictions_table(model), segment, by_segment=True)
            personal = self._rows(personal_table(model), segment, by_segment=False)
        except StorageFailed:
            raise
        except PlatformError as error:
            yield Finding("tampered", f"segment {segment_id}", "readable tables", error.what)
            return
        self.counts.records += headers.num_rows
        yield from _limited(self._records(segment, leaves, headers, personal), segment_id)

    def _rows(self, table: str, segment: Segment, *, by_segment: bool) -> pa.Table:
        """Rows of a table in the order of their ids."""
        low, high = segment.min_decided_at[:10], segment.max_decided_at[:10]
        where = (ds.field("decided_date") >= low) & (ds.field("decided_date") <= high)
        if by_segment:
            where &= ds.field("segment_id") == segment.id
        else:
            ids = ds.field("prediction_id")
            where &= (ids >= segment.first_id) & (ids <= segment.last_id)
        rows: pa.Table = readable(table, lambda: self.tables.read(table, where=where).sort_by("prediction_id"))
        return rows.combine_chunks()

    def _records(self, segment: Segment, leaves: bytes, headers: pa.Table, personal: pa.Table) -> Iterator[Finding]:
        headers, doubled = _once(headers)
        personal, doubled_personal = _once(personal)
        for one in [*doubled, *doubled_personal]:
            yield _record(one, "one record with this id", "The id stands twice.")
        ids = headers.column("prediction_id")
        place = pc.index_in(ids, value_set=personal.column("prediction_id").combine_chunks())
        for name in ids.filter(place.is_null()).to_pylist():
            yield _record(name, "a personal part", "The personal part is gone, and no erasure is in the log.")
        kept = headers.filter(place.is_valid())
        aligned = personal.take(place.drop_null())
        stored = _positions(leaves)
        opened = np.zeros(len(leaves) // HASH_BYTES, np.bool_)
        yield from self._compare(kept, aligned, stored, opened)
        missing = int(np.count_nonzero(~opened)) - int(place.null_count)
        if missing > 0:
            yield from self._deleted(segment, headers, personal, missing)

    def _compare(
        self, headers: pa.Table, personal: pa.Table, stored: Mapping[bytes, int], opened: np.ndarray[Any, Any]
    ) -> Iterator[Finding]:
        for digest in sorted(set(column_values(headers, "artifact_digest"))):
            mine = equal_to(headers, "artifact_digest", digest)
            of_header, of_person = headers.filter(mine), personal.filter(mine)
            if digest not in self.registered:
                yield from _not_registered(of_header, opened)
                continue
            artifact = self._artifact(digest)
            if artifact is None:
                yield Finding("incomplete", f"artifact {digest}", "the contract of its records", "It is gone.")
                opened[:] = True
                return
            for start in range(0, of_header.num_rows, _CHUNK_ROWS):
                some, persons = of_header.slice(start, _CHUNK_ROWS), of_person.slice(start, _CHUNK_ROWS)
                found = record_leaves(some, persons, artifact.contract)
                yield from _compared(some, found, stored, opened, artifact.contract)
                if self.deep:
                    yield from rescore(some, persons, artifact)

    def _artifact(self, digest: str) -> Artifact | None:
        if digest not in self.artifacts:
            try:
                self.artifacts[digest] = load_artifact(self.parts.objects, digest)
            except (NotFound, IntegrityError):
                self.artifacts[digest] = None
        return self.artifacts[digest]

    def _deleted(self, segment: Segment, headers: pa.Table, personal: pa.Table, missing: int) -> Iterator[Finding]:
        """Names records whose header is gone: by their personal part, the entity index, or their place in the order."""
        present = set(column_values(headers, "prediction_id"))
        known = set(column_values(personal, "prediction_id")) | self._indexed(segment)
        gone = sorted(known - present - self._elsewhere(segment))
        for one in gone[:missing]:
            yield _record(one, "a record in the table of predictions", "The record was deleted.")
        if missing > len(gone):
            seqs = set(headers.column("seq").to_pylist())
            lost = [str(seq) for seq in range(segment.first_seq, segment.last_seq + 1) if seq not in seqs][:_MOST_NAMED]
            where = f"segment {segment.id}, seq {', '.join(lost)}" if lost else f"segment {segment.id}"
            yield Finding(
                "tampered", where, f"{segment.size} records", f"{missing - len(gone)} were deleted or changed."
            )

    def _elsewhere(self, segment: Segment) -> set[str]:
        """Ids of other segments in the same range: those of writers that worked at the same time."""
        ids, name = ds.field("prediction_id"), predictions_table(segment.model)
        where = (ids >= segment.first_id) & (ids <= segment.last_id) & (ds.field("segment_id") != segment.id)
        try:
            found = readable(name, lambda: self.tables.read(name, columns=["prediction_id"], where=where))
        except StorageFailed:
            raise
        except PlatformError:
            return set()
        return set(column_values(found, "prediction_id"))

    def _indexed(self, segment: Segment) -> set[str]:
        ids = ds.field("prediction_id")
        where = (ids >= segment.first_id) & (ids <= segment.last_id) & (ds.field("model") == segment.model)
        try:
            found = readable(ENTITIES, lambda: self.tables.read(ENTITIES, columns=["prediction_id"], where=where))
        except StorageFailed:
            raise
        except PlatformError:
            return set()
        return set(column_values(found, "prediction_id"))


def _compared(
    headers: pa.Table,
    found: Sequence[RecordLeaf],
    stored: Mapping[bytes, int],
    opened: np.ndarray[Any, Any],
    contract: Contract,
) -> Iterator[Finding]:
    names = zip(
        headers.column("prediction_id").to_pylist(),
        headers.column("leaf_index").to_pylist(),
        headers.column("contract_digest").to_pylist(),
        found,
        strict=True,
    )
    for name, index, contract_digest, one in names:
        at = None if one.leaf is None else stored.get(one.leaf)
        if at is not None:
            opened[at] = True
        if one.wrong is not None:
            opened[_free(opened, index)] = True
            yield _record(name, "the record that was sealed", one.wrong)
        elif at is None:
            opened[_free(opened, index)] = True
            yield _record(name, "the record that was sealed", "The record was changed or inserted.")
        elif at != index:
            yield _record(name, f"leaf index {at}", f"The table says {index}.")
        elif contract_digest != contract.digest:
            yield _record(name, f"contract {contract.digest}", "The record names another contract.")


def _not_registered(headers: pa.Table, opened: np.ndarray[Any, Any]) -> Iterator[Finding]:
    for name, index in zip(column_values(headers, "prediction_id"), column_values(headers, "leaf_index"), strict=True):
        opened[_free(opened, index)] = True
        yield _record(name, "an artifact of a version in the log", "The record names another one.")


def _free(opened: np.ndarray[Any, Any], index: object) -> Any:
    """A changed record accounts for the leaf that it had; an inserted one for none."""
    inside = isinstance(index, int) and 0 <= index < len(opened) and not opened[index]
    return index if inside else slice(0, 0)


def _positions(leaves: bytes) -> dict[bytes, int]:
    return {leaves[at : at + HASH_BYTES]: at // HASH_BYTES for at in range(0, len(leaves), HASH_BYTES)}


def _once(table: pa.Table) -> tuple[pa.Table, list[str]]:
    """The first row of each id, and the ids that stand twice; rows are in the order of their ids."""
    ids = column_values(table, "prediction_id")
    first = np.array([at == 0 or ids[at - 1] != one for at, one in enumerate(ids)], np.bool_)
    doubled = list(dict.fromkeys(one for one, new in zip(ids, first, strict=True) if not new))
    return table.filter(pa.array(first)), doubled


def _record(prediction_id: object, expected: str, found: str) -> Finding:
    return Finding("tampered", f"prediction {prediction_id}", expected, found)


def _limited(findings: Iterator[Finding], segment_id: str) -> Iterator[Finding]:
    more = 0
    for place, finding in enumerate(findings):
        if place < _MOST_NAMED:
            yield finding
        else:
            more += 1
    if more:
        yield Finding("tampered", f"segment {segment_id}", "no further findings", f"{more} more records differ.")
