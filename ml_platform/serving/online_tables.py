"""One segment of online records into the tables, its tiles and the index: each at most once, under names of its own.

The transaction is ``online/<writer>`` at the segment's number plus one; where a table holds it already, nothing is
written to that table again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.core.clock import format_utc
from ml_platform.core.delta import Lake
from ml_platform.core.objects import ObjectStore
from ml_platform.serving import tables
from ml_platform.serving.building import hex_texts
from ml_platform.serving.delta import PartitionWriter, commit_files
from ml_platform.serving.online_columns import SegmentRows
from ml_platform.serving.online_record import LoggedRefusal
from ml_platform.serving.segment import Segment, segment_path, store_segment, tiles_path

__all__ = ["ONLINE_PARTITION", "SegmentTables", "app_id", "date_of", "described", "write_quarantine"]

ONLINE_PARTITION: Final = "online"


def described(
    rows: SegmentRows, *, number: int, model: str, writer: str, first_seq: int, counts: Mapping[str, int]
) -> Segment:
    """The segment that seals these rows; its id is ``<writer>.<number>``."""
    ids, decided = rows.headers.column("prediction_id"), rows.headers.column("decided_at")
    return Segment(
        id=f"{writer}.{number}",
        model=model,
        root=f"sha256:{rows.tree.root().hex()}",
        size=rows.tree.size,
        first_id=str(ids[0].as_py()),
        last_id=str(ids[-1].as_py()),
        writer=writer,
        first_seq=first_seq,
        last_seq=first_seq + rows.tree.size - 1,
        counts=dict(counts),
        min_decided_at=format_utc(pc.min(decided).as_py()),
        max_decided_at=format_utc(pc.max(decided).as_py()),
    )


@dataclass
class SegmentTables:
    """Writes one segment.

    Args:
        number: of the segment; its id is ``<writer>.<number>``.
        decided_date: ``YYYY-MM-DD`` of ``decided_at`` of all its records.
        at_us: the wall's time of its newest record, which stamps its files.
    """

    lake: Lake
    objects: ObjectStore
    segment: Segment
    number: int
    decided_date: str
    at_us: int
    versions: dict[str, int] = field(default_factory=dict)

    def write(self, rows: SegmentRows) -> None:
        """Personal rows, headers, entity index, tiles and description, index of segments: in this order.

        Raises:
            StorageFailed: the disk is full or a store refused; a rerun goes on from what is there.
            Conflict: other leaves are stored under this segment.
        """
        model, by_date = self.segment.model, {"decided_date": self.decided_date}
        self._table(tables.personal_table(model), by_date, rows.personal)
        self._table(tables.predictions_table(model), by_date, rows.headers)
        self._table(tables.ENTITIES, {"month": self.decided_date[:7], "model": model}, rows.entities)
        store_segment(self.objects, self.segment, rows.tree)
        self._index()

    def _table(self, name: str, partition: Mapping[str, str], rows: pa.Table) -> None:
        with table_writer(self.lake, name, rows.schema, partition, self.segment.writer, self.number) as writer:
            writer.write(rows)
        about = {"kind": "online", "segment": self.segment.id}
        self.versions[name] = commit_files(writer, at_us=self.at_us, metadata=about)

    def _index(self) -> None:
        segment = self.segment
        row = {
            "segment_id": segment.id,
            "model": segment.model,
            "min_id": segment.first_id,
            "max_id": segment.last_id,
            "size": segment.size,
            "root": segment.root,
            "decided_date": self.decided_date,
            "predictions_version": self.versions[tables.predictions_table(segment.model)],
            "personal_version": self.versions[tables.personal_table(segment.model)],
            "tiles": tiles_path(segment.id),
            "marker": segment_path(segment.id),
        }
        self.lake.append(
            tables.SEGMENTS,
            pa.Table.from_pylist([row], schema=tables.SEGMENT_SCHEMA),
            app_id=app_id(segment.writer),
            txn_version=self.number + 1,
            metadata={"segment": segment.id},
        )


def app_id(writer: str, on: str | None = None) -> str:
    """The Delta application of a writer's segments; that of its refusals names their date, too."""
    return f"online/{writer}" if on is None else f"online/{writer}/{on}"


@contextmanager
def table_writer(
    lake: Lake, name: str, schema: pa.Schema, partition: Mapping[str, str], writer: str, number: int,
    on: str | None = None,
) -> Iterator[PartitionWriter]:  # fmt: skip
    """The writer of one table's rows of a segment, closed at the end."""
    made = PartitionWriter(
        lake, name, schema, partition, f"{writer}.{number}", tables.repeating_columns(schema), app_id(writer, on),
        number + 1,
    )  # fmt: skip
    with made:
        yield made


def write_quarantine(lake: Lake, model: str, writer: str, number: int, refusals: Sequence[LoggedRefusal]) -> None:
    """Why requests were refused: field, rule and kind of value, by the date of the refusal; no values.

    Raises:
        StorageFailed: the disk is full or the store refused.
    """
    by_date: dict[str, list[LoggedRefusal]] = {}
    for refusal in refusals:
        by_date.setdefault(date_of(refusal.decided_at_us), []).append(refusal)
    schema, name = tables.QUARANTINE_SCHEMA, tables.quarantine_table(model)
    for on, some in sorted(by_date.items()):
        with table_writer(lake, name, schema, {"decided_date": on}, writer, number, on) as made:
            made.write(_quarantine_rows(writer, some))
        at_us = max(refusal.recorded_at_us for refusal in some)
        commit_files(made, at_us=at_us, metadata={"kind": "online", "writer": writer, "number": number})


def _quarantine_rows(writer: str, refusals: Sequence[LoggedRefusal]) -> pa.Table:
    rows = [(one, why) for one in sorted(refusals, key=lambda one: one.row_index) for why in one.refusals]
    index = np.frombuffer(b"".join(one.row_index for one, _ in rows), np.uint8).reshape(-1, 32)
    columns: dict[str, Any] = {
        "partition": [ONLINE_PARTITION] * len(rows),
        "revision": [0] * len(rows),
        "version": [one.version for one, _ in rows],
        "decided_at": [one.decided_at_us for one, _ in rows],
        "writer": [writer] * len(rows),
        "row_index": hex_texts(index),
        "field": [why.field for _, why in rows],
        "rule": [why.rule for _, why in rows],
        "kind": [why.kind for _, why in rows],
    }
    arrays = [
        columns[item.name] if item.name == "row_index" else pa.array(columns[item.name], item.type)
        for item in tables.QUARANTINE_SCHEMA
    ]
    return pa.Table.from_arrays(arrays, schema=tables.QUARANTINE_SCHEMA)


_DAY_US: Final = 86_400_000_000


@lru_cache(maxsize=1024)
def _date(day: int) -> str:
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()


def date_of(at_us: int) -> str:
    """``YYYY-MM-DD`` of microseconds since 1970, UTC."""
    return _date(at_us // _DAY_US)
