"""Finding records: by id, by entity, and why a row was refused. Only what a commit marker covers is ever returned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds

from ml_platform.core.contract import Contract
from ml_platform.core.delta import Lake
from ml_platform.core.errors import NotFound
from ml_platform.core.ids import id_bytes, id_text, id_time
from ml_platform.core.objects import ObjectStore
from ml_platform.core.rows import FieldType, encode_row, utc
from ml_platform.core.subjects import Subjects
from ml_platform.serving.held import HeldIndex, held_index, read_files
from ml_platform.serving.intent import Intent
from ml_platform.serving.record import entity_index
from ml_platform.serving.scoring import quarantine_index
from ml_platform.serving.segment import Segment, load_segment
from ml_platform.serving.tables import (
    ENTITIES,
    leaf_from_rows,
    personal_table,
    predictions_table,
    quarantine_table,
)

__all__ = ["FoundRecord", "RecordReader", "segment_ids"]

Key = tuple[tuple[FieldType, object], ...]


@dataclass(frozen=True)
class FoundRecord:
    """A record as the tables hold it.

    Args:
        header: the row of ``predictions``.
        personal: the row of ``predictions_personal``; None where it was erased or has gone by retention.
        segment: the segment that seals it.
    """

    header: dict[str, Any]
    personal: dict[str, Any] | None
    segment: Segment

    @property
    def prediction_id(self) -> str:
        return str(self.header["prediction_id"])

    @property
    def leaf_index(self) -> int:
        return int(self.header["leaf_index"])

    def leaf(self, contract: Contract) -> bytes:
        """The leaf hash, computed from the two rows.

        Raises:
            NotFound: the personal part is gone.
            IntegrityError: it does not fit its commitment.
        """
        if self.personal is None:
            raise NotFound("The personal part of this record is gone.", next_step="Its proof starts at the commitment.")
        return leaf_from_rows(self.header, self.personal, contract)


@dataclass(frozen=True)
class RecordReader:
    """Looks records up in one root. Files are pruned by date and id range, row groups by their statistics."""

    lake: Lake
    objects: ObjectStore

    def find(self, prediction_id: str, *, model: str | None = None) -> FoundRecord:
        """The record of an id.

        Raises:
            NotFound: this is no id, or no complete segment holds it.
        """
        raw = id_bytes(prediction_id)
        text, date = id_text(raw), utc(id_time(raw)).date().isoformat()
        for row in self._segments(text, date, model):
            header = self._one(predictions_table(row["model"]), date, text, row["segment_id"])
            if header is not None and self._held.complete(self.objects, row["marker"]):
                personal = self._one(personal_table(row["model"]), date, text, row["segment_id"])
                return FoundRecord(header, personal, load_segment(self.objects, row["segment_id"]))
        raise NotFound(
            "No complete segment holds this prediction.",
            field="prediction_id",
            next_step="Check the id and the root; `mlp trace --entity` finds decisions by entity.",
        )

    @property
    def _held(self) -> HeldIndex:
        return held_index(self.lake)

    def _segments(self, text: str, date: str, model: str | None) -> list[dict[str, Any]]:
        return _holding(self._held.segments(self.lake), text, date, model)

    def _one(self, table: str, date: str, text: str, segment_id: str) -> dict[str, Any] | None:
        """The row of an id: in the segment's own file, or, where the table was rewritten, in any of the date's."""
        data: Any = self.lake.dataset(table)
        day = ds.field("decided_date") == date
        where = day & (ds.field("prediction_id") == text)
        if "segment_id" in data.schema.names:
            where &= ds.field("segment_id") == segment_id
        files = list(data.get_fragments(filter=day))
        own = (f"{segment_id}-", f"{segment_id.rpartition('.')[0]}-")  # a batch's files bear its writer's name
        named = [one for one in files if str(one.path).rpartition("/")[2].startswith(own)]
        rows = read_files(data, named, None, where) or read_files(data, files, None, where)
        return rows[0] if rows else None

    def find_by_entity(
        self,
        subjects: Subjects,
        *,
        model: str,
        entity: str,
        personal: bool,
        key: Key,
        months: Iterable[str] | None = None,
    ) -> list[str]:
        """The ids of the decisions about an entity, oldest first; of all months unless some (``YYYY-MM``) are named."""
        if not self.lake.exists(ENTITIES):
            return []
        encoded = encode_row(list(key))
        seed = subjects.find(entity, encoded if personal else b"")
        if seed is None:
            return []
        wanted = _months(self.lake.dataset(ENTITIES), model) if months is None else set(months)
        found: list[str] = []
        for month in sorted(wanted):
            index = entity_index(seed, model=model, month=month, entity_key=None if personal else encoded)
            found += self._held.entity(self.lake, model=model, month=month, index=index.hex())
        segments = self._held.segments(self.lake) if found else {}
        return sorted(text for text in found if self._complete(segments, text, model))

    def _complete(self, segments: Mapping[str, Sequence[dict[str, Any]]], text: str, model: str) -> bool:
        date = utc(id_time(id_bytes(text))).date().isoformat()
        rows = _holding(segments, text, date, model)
        return any(self._held.complete(self.objects, row["marker"]) for row in rows)

    def find_refusals(
        self, subjects: Subjects, *, model: str, entity: str, key: Key, at: datetime
    ) -> list[dict[str, Any]]:
        """Why the row of an entity with request time ``at`` was refused: partition, version, field, rule, kind."""
        seed = subjects.find(entity, b"")
        if seed is None or not self.lake.exists(quarantine_table(model)):
            return []
        index = quarantine_index(seed, model, encode_row([*key, ("us", at)])).hex()
        return self.lake.read(quarantine_table(model), where=ds.field("row_index") == index).to_pylist()


def _holding(
    segments: Mapping[str, Sequence[dict[str, Any]]], text: str, date: str, model: str | None
) -> list[dict[str, Any]]:
    """The segments in whose range an id of a date lies."""
    return [
        row
        for row in segments.get(date, ())
        if row["min_id"] <= text <= row["max_id"] and model in {None, row["model"]}
    ]


_MONTH: Final = "month"


def _months(data: ds.Dataset, model: str) -> set[str]:
    """The months that a dataset has partitions of, without reading a file."""
    found: set[str] = set()
    for fragment in data.get_fragments(filter=ds.field("model") == model):
        found.add(str(ds.get_partition_keys(fragment.partition_expression)[_MONTH]))
    return found


def segment_ids(lake: Lake, intent: Intent) -> npt.NDArray[np.uint8]:
    """The ids [n, 16] of a batch segment, in no order."""
    where = (ds.field("decided_date") == intent.decided_date) & (ds.field("segment_id") == intent.segment_id)
    if not lake.exists(predictions_table(intent.model)):
        return np.empty((0, 16), np.uint8)
    texts: pa.ChunkedArray[Any] = lake.read(
        predictions_table(intent.model), columns=["prediction_id"], where=where
    ).column("prediction_id")
    raw = b"".join(id_bytes(str(text)) for text in texts.to_pylist())
    return np.frombuffer(raw, np.uint8).reshape(-1, 16)
