"""Decisions to shadow: what routers and batches logged, each writer's in its order, from where the last look ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.dataset as ds

from ml_platform.core.ids import id_bytes, id_text, id_time
from ml_platform.core.rows import micros
from ml_platform.governance.contracts import KnownContracts
from ml_platform.lifecycle.decisions import complete_segments
from ml_platform.platform import Platform
from ml_platform.serving.online_record import DECISION
from ml_platform.serving.online_writers import frames_of, writer_folders
from ml_platform.serving.raw_decision import RawDecision
from ml_platform.serving.record import SHADOW_ROLE, Header, Section
from ml_platform.serving.tables import header_from_row, personal_table, predictions_table, section_from_row
from ml_platform.serving.wal import WAL_FOLDER

__all__ = ["Primary", "PrimaryLog", "shadowed_pairs"]

_UTC: Final = pa.timestamp("us", "UTC")
_SHADOW_WRITER: Final = "shadow-"


@dataclass(frozen=True)
class Primary:
    """A decision that was made; the section is None where the person was erased since."""

    header: Header
    section: Section | None


@dataclass
class PrimaryLog:
    """The decisions of one model that are durable: sealed ones, and those in files that their writer has finished.

    Args:
        since: decisions before are passed over.
    """

    platform: Platform
    model: str
    since: datetime
    contracts: KnownContracts = field(init=False)
    _seen: tuple[str, ...] = field(default=(), init=False)
    _read: set[Path] = field(default_factory=set, init=False)
    _held: dict[tuple[str, int], RawDecision] = field(default_factory=dict, init=False)
    _waiting: dict[tuple[str, int], Header] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.contracts = KnownContracts(self.platform)

    def take(self, following: Mapping[str, int], limit: int) -> list[Primary]:
        """Up to ``limit`` decisions that come next, in the order of their writers and numbers.

        A writer's decisions are taken without a gap: what is missing is on its way from the log to the lake.

        Args:
            following: writer → the number that comes next; writers that are not in it begin at their first decision.
            limit: how many at most.
        """
        # Logs first: what is sealed between the two looks is found twice, and never missed.
        logged = self._logged(following)
        headers = {key: one.header for key, one in logged.items()} | self._sealed(following)
        chosen = _next_ones(headers, following, limit)
        lacking = [header for header in chosen if (header.writer, header.seq) not in logged]
        sections = self._sections(lacking)
        return [
            Primary(header, logged[key].section if (key := (header.writer, header.seq)) in logged
                    else sections.get(header.prediction_id))
            for header in chosen
        ]  # fmt: skip

    def _logged(self, following: Mapping[str, int]) -> dict[tuple[str, int], RawDecision]:
        """What finished files hold and is still to be taken; such a file never changes and is read once."""
        for folder in writer_folders(self.platform.root / WAL_FOLDER, self.model):
            if folder.writer.startswith(_SHADOW_WRITER):
                continue
            for file in folder.closed_files() if folder.held else folder.files():
                found = None if file in self._read else frames_of(file)
                if found is not None:  # else sealed and removed meanwhile, and found in the lake
                    self._keep(found.frames)
                    self._read.add(file)
        self._held = {key: one for key, one in self._held.items() if _is_next(one.header, following)}
        return self._held

    def _keep(self, frames: Sequence[bytes]) -> None:
        since = micros(self.since)
        for payload in frames:
            if payload[0] == DECISION:
                found = RawDecision.of(payload, self.contracts)
                if found.header.decided_at_us >= since:
                    self._held[found.header.writer, found.header.seq] = found

    def _sealed(self, following: Mapping[str, int]) -> dict[tuple[str, int], Header]:
        """Headers in the lake that are still to be taken; the table is read again only for new segments."""
        segments = tuple(sorted(self._segments()))
        if segments != self._seen:
            where = (ds.field("role") != SHADOW_ROLE) & (ds.field("decided_date") >= self.since.date().isoformat())
            where &= ds.field("decided_at") >= pa.scalar(micros(self.since), _UTC)
            where &= ds.field("segment_id").isin(sorted({*segments} - {*self._seen}))
            rows = self.platform.lake.read(predictions_table(self.model), where=where)
            fresh = (header_from_row(row) for batch in rows.to_batches() for row in batch.to_pylist())
            self._waiting |= {(one.writer, one.seq): one for one in fresh}
            self._seen = segments
        self._waiting = {key: one for key, one in self._waiting.items() if _is_next(one, following)}
        return self._waiting

    def _segments(self) -> list[str]:
        known = self.platform.lake.exists(predictions_table(self.model))
        return complete_segments(self.platform, self.model) if known else []

    def _sections(self, headers: Sequence[Header]) -> dict[bytes, Section]:
        if not headers:
            return {}
        ids = {id_text(one.prediction_id): one for one in headers}
        dates = sorted({id_time(one.prediction_id).date().isoformat() for one in headers})
        where = ds.field("decided_date").isin(dates) & ds.field("prediction_id").isin(list(ids))
        rows: list[dict[str, Any]] = self.platform.lake.read(personal_table(self.model), where=where).to_pylist()
        return {
            id_bytes(row["prediction_id"]): section_from_row(
                row, self.contracts(ids[row["prediction_id"]].contract_digest)
            )
            for row in rows
        }


def _is_next(header: Header, following: Mapping[str, int]) -> bool:
    return header.seq >= following.get(header.writer, 0)


def _next_ones(headers: Mapping[tuple[str, int], Header], following: Mapping[str, int], limit: int) -> list[Header]:
    chosen: list[Header] = []
    expected: dict[str, int] = dict(following)
    for writer, seq in sorted(headers):
        if len(chosen) == limit:
            break
        if seq == expected.setdefault(writer, seq):
            chosen.append(headers[writer, seq])
            expected[writer] = seq + 1
    return chosen


def shadowed_pairs(platform: Platform, model: str, version: int, since: datetime) -> set[bytes]:
    """The decisions that a version's shadow has recorded beside from a time on: after a kill, before it goes on."""
    contracts = KnownContracts(platform)
    found: set[bytes] = set()
    for folder in writer_folders(platform.root / WAL_FOLDER, model):
        if folder.writer.startswith(_SHADOW_WRITER):
            decisions = (RawDecision.of(one, contracts).header for one in folder.frames() if one[0] == DECISION)
            found |= {one.pair_of for one in decisions if one.version == version and one.pair_of is not None}
    table = predictions_table(model)
    if platform.lake.exists(table):
        where = (ds.field("role") == SHADOW_ROLE) & (ds.field("version") == version)
        where &= ds.field("decided_date") >= since.date().isoformat()
        for row in platform.lake.read(table, where=where).to_pylist():
            header = header_from_row(row)
            found |= {header.pair_of} if header.pair_of is not None else set()
    return found
