"""Batch partitions against the log, and what must hold over all records of a model: unique ids, one decision a row."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from ml_platform.core.digests import parse_canonical
from ml_platform.core.errors import PlatformError, StorageFailed
from ml_platform.governance.findings import Counts, Finding
from ml_platform.governance.parts import Parts
from ml_platform.governance.reading import column_values, readable
from ml_platform.governance.stored import StoredTables
from ml_platform.serving import BatchResult
from ml_platform.serving.decided import decided_count
from ml_platform.serving.record import SHADOW_ROLE
from ml_platform.serving.tables import ENTITIES, SEGMENTS, personal_table, predictions_table, quarantine_table

__all__ = ["check_decisions", "check_indexes", "check_partitions"]

_COUNTED: Final = ("accepted", "declined", "flagged", "refused")
_MOST_NAMED: Final = 20


def check_partitions(
    parts: Parts, tables: StoredTables, sealed: Mapping[str, Mapping[str, Any]], counts: Counts
) -> Iterator[Finding]:
    """Every commit marker has its sealed segment with its counts, and every sealed batch segment its marker.

    Args:
        parts: the root.
        tables: its tables.
        sealed: the log's description of each segment, by id.
        counts: what was looked at.
    """
    marked: set[str] = set()
    for path in parts.objects.list("batch"):
        if path.endswith("/commit.json"):
            counts.partitions += 1
            try:
                result = BatchResult.from_json(parse_canonical(parts.objects.read(path)))
            except StorageFailed:
                raise
            except (PlatformError, ValueError, TypeError):
                yield Finding("tampered", path, "a commit marker", "It cannot be read as one.")
                continue
            marked.add(str(result.segment_id))
            yield from _check_marker(tables, path, result, sealed)
            yield from _check_decided(parts, path, result)
    for segment_id, entry in sealed.items():
        if str(entry["writer"]).startswith("batch-") and segment_id not in marked:
            yield Finding("incomplete", f"segment {segment_id}", "the commit marker of its partition", "There is none.")


def _check_marker(
    tables: StoredTables, path: str, result: BatchResult, sealed: Mapping[str, Mapping[str, Any]]
) -> Iterator[Finding]:
    counted = {name: getattr(result, name) for name in _COUNTED}
    if result.segment_id is not None:
        entry = sealed.get(result.segment_id)
        if entry is None:
            yield Finding("incomplete", path, "its segment in the log", f"Segment {result.segment_id} is not sealed.")
        elif (entry["root"], entry["size"], entry["counts"]) != (result.root, result.accepted, counted):
            said = f"root, size and counts of segment {result.segment_id}"
            yield Finding("tampered", path, said, "The marker says something else.")
    if result.rows != result.accepted + result.refused:
        yield Finding("tampered", path, "accepted and refused rows that make up all rows", "They do not.")
    if result.refused:
        yield from _check_quarantine(tables, path, result)


def _check_decided(parts: Parts, path: str, result: BatchResult) -> Iterator[Finding]:
    """The rows that were left out because they had been decided online are as many as the marker says."""
    try:
        pinned = decided_count(parts.objects, result.model, result.partition, result.revision)
    except StorageFailed:
        raise
    except PlatformError as error:
        yield Finding("tampered", error.field or path, "the pinned rows that were decided online", error.what)
        return
    if pinned != result.already_decided:
        yield Finding("tampered", path, f"{pinned} rows that were decided online", f"It says {result.already_decided}.")


def _check_quarantine(tables: StoredTables, path: str, result: BatchResult) -> Iterator[Finding]:
    name = quarantine_table(result.model)
    where = (ds.field("partition") == result.partition) & (ds.field("revision") == result.revision)
    try:
        rows = readable(name, lambda: tables.read(name, columns=["row_index"], where=where))
    except StorageFailed:
        raise
    except PlatformError as error:
        yield Finding("tampered", name, "a readable table", error.what)
        return
    kept = pc.count_distinct(rows.column("row_index")).as_py()
    if kept != result.refused:
        yield Finding("tampered", f"{name}, {path}", f"{result.refused} refused rows", f"It holds {kept}.")


def check_indexes(tables: StoredTables, sealed: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Every sealed segment is found by its ids, every record by its entity: what no index names is not traced."""
    if not sealed:
        return
    names = ("segment_id", "root", "size", "min_id", "max_id")
    try:
        known = readable(SEGMENTS, lambda: tables.read(SEGMENTS, columns=names).to_pylist())
        entities = readable(ENTITIES, lambda: tables.read(ENTITIES, columns=["prediction_id"]))
    except StorageFailed:
        raise
    except PlatformError as error:
        yield Finding("incomplete", error.field or "the indexes", "readable indexes", error.what)
        return
    found = {row["segment_id"]: tuple(row[name] for name in names[1:]) for row in known}
    for segment_id, entry in sealed.items():
        expected = tuple(entry[name] for name in ("root", "size", "first_id", "last_id"))
        if found.get(segment_id) != expected:
            yield Finding(
                "tampered", f"{SEGMENTS}, segment {segment_id}", "its row as sealed", "It is gone or differs."
            )
    indexed = set(column_values(entities, "prediction_id"))
    for model in sorted({str(entry["models"][0]) for entry in sealed.values()}):
        yield from _not_indexed(tables, model, set(sealed), indexed)


def _not_indexed(tables: StoredTables, model: str, sealed: set[str], indexed: set[str]) -> Iterator[Finding]:
    name = predictions_table(model)
    try:
        headers = readable(name, lambda: tables.read(name, columns=["prediction_id", "segment_id"]))
    except StorageFailed:
        raise
    except PlatformError:
        return  # the segments' finding
    rows = zip(column_values(headers, "prediction_id"), column_values(headers, "segment_id"), strict=True)
    missing = sorted({one for one, segment in rows if segment in sealed} - indexed)
    for one in missing[:_MOST_NAMED]:
        yield Finding("tampered", f"{ENTITIES}, prediction {one}", "its row", "It cannot be found by its entity.")


def check_decisions(tables: StoredTables, model: str, counts: Counts, named: Collection[str] = ()) -> Iterator[Finding]:
    """No id stands twice, and no row has two decisions of record of which none supersedes the other.

    A client may ask twice for the same row, or ask for one that a batch has decided: its first decision is the one of
    record, and the others are counted. A batch that decides what had been decided online before it is a finding.

    Args:
        tables: the root's tables.
        model: model name.
        counts: what was looked at.
        named: ids that have a finding already; they count for nothing here.
    """
    if not tables.lake.exists(predictions_table(model)):
        return
    try:
        headers = readable(predictions_table(model), lambda: _headers(tables, model))
        rows = readable(personal_table(model), lambda: _row_keys(tables, model))
    except StorageFailed:
        raise
    except PlatformError as error:
        yield Finding("tampered", error.field or model, "a readable table", error.what)
        return
    ids = column_values(headers, "prediction_id")
    headers = headers.filter(pa.array([one not in named for one in ids], pa.bool_()))
    yield from _doubled(headers, ["prediction_id"], "one record with this id", "The id stands twice.")
    counting = _of_record(headers).select(["prediction_id", "mode", "recorded_at"])
    counting = counting.join(rows, "prediction_id", join_type="inner")
    keys = [name for name in rows.column_names if name != "prediction_id"]
    batch, online = counting.filter(pc.field("mode") == "batch"), counting.filter(pc.field("mode") != "batch")
    yield from _doubled(batch, keys, "one decision of record for its row", "The row has another one beside it.")
    if online.num_rows:
        yield from _decided_before(batch, online, keys, counts)


def _decided_before(batch: pa.Table, online: pa.Table, keys: list[str], counts: Counts) -> Iterator[Finding]:
    first = online.group_by(keys).aggregate([("recorded_at", "min")])
    counts.asked_again += online.num_rows - first.num_rows
    both = batch.join(first, keys, join_type="inner")
    before = both.filter(pc.field("recorded_at_min") < pc.field("recorded_at"))
    counts.asked_again += both.num_rows - before.num_rows
    for one in sorted(column_values(before, "prediction_id"))[:_MOST_NAMED]:
        said = "The row had been decided online before this batch began."
        yield Finding("tampered", f"prediction {one}", "one decision of record for its row", said)


def _of_record(headers: pa.Table) -> pa.Table:
    """Decisions of record that no other decision of record supersedes."""
    columns = ("prediction_id", "decision_of_record", "role", "supersedes")
    rows = list(zip(*(column_values(headers, name) for name in columns), strict=True))
    replaced = {supersedes for _, decides, _, supersedes in rows if decides}
    # Every arm decides; a shadow never does.
    counts = [decides and role != SHADOW_ROLE and one not in replaced for one, decides, role, _ in rows]
    return headers.filter(pa.array(counts, pa.bool_()))


def _headers(tables: StoredTables, model: str) -> pa.Table:
    columns = ["prediction_id", "decision_of_record", "role", "supersedes", "mode", "recorded_at"]
    return tables.read(predictions_table(model), columns=columns).combine_chunks()


def _row_keys(tables: StoredTables, model: str) -> pa.Table:
    names = tables.lake.dataset(personal_table(model)).schema.names
    keys = [name for name in names if name.startswith("key_")]
    return tables.read(personal_table(model), columns=["prediction_id", "request_time", *keys])


def _doubled(table: pa.Table, keys: list[str], expected: str, found: str) -> Iterator[Finding]:
    if not table.num_rows:
        return
    grouped = table.group_by(keys).aggregate([("prediction_id", "max"), ("prediction_id", "count")])
    pairs = zip(column_values(grouped, "prediction_id_max"), column_values(grouped, "prediction_id_count"), strict=True)
    for one in sorted(str(name) for name, count in pairs if count > 1)[:_MOST_NAMED]:
        yield Finding("tampered", f"prediction {one}", expected, found)
