"""The segments that a plan's files hold, one after the other: read, checked, cut by date and size, built in columns.

A segment's records were decided on one date (its rows are in one partition) and are at most ``SEGMENT_RECORDS``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from ml_platform.core.delta import Lake
from ml_platform.core.errors import Tampered
from ml_platform.core.objects import ObjectStore
from ml_platform.core.subjects import Subjects
from ml_platform.serving.online_columns import (
    Block,
    Contracts,
    EntityOf,
    RawDecision,
    SegmentRows,
    joined,
    make_block,
)
from ml_platform.serving.online_plan import Plan
from ml_platform.serving.online_record import DECISION, LoggedRefusal, decode
from ml_platform.serving.online_tables import SegmentTables, date_of, described
from ml_platform.serving.online_writers import WriterFolder, first_frame
from ml_platform.serving.segment import Segment
from ml_platform.serving.wal import read_frames
from ml_platform.training.decision import DECLINED

__all__ = ["SEGMENT_RECORDS", "BuiltSegment", "LoggedSegments"]

SEGMENT_RECORDS: Final = 65_536
_BLOCK_RECORDS: Final = 4_096  # decoded at a time: Python objects are a hundred times their rows


@dataclass(frozen=True)
class BuiltSegment:
    """A segment and its rows, not written yet."""

    segment: Segment
    rows: SegmentRows
    number: int
    date: str
    at_us: int

    def tables(self, lake: Lake, objects: ObjectStore) -> SegmentTables:
        return SegmentTables(lake, objects, self.segment, self.number, self.date, self.at_us)


@dataclass
class _Growing:
    """A segment that still takes records."""

    number: int
    first_seq: int
    date: str
    blocks: list[Block] = field(default_factory=list)
    waiting: list[RawDecision] = field(default_factory=list)
    size: int = 0
    declined: int = 0
    flagged: int = 0
    at_us: int = 0

    def add(self, decision: RawDecision) -> None:
        self.waiting.append(decision)
        self.size += 1
        self.declined += decision.section.decision == DECLINED
        self.flagged += bool(decision.section.flags)
        self.at_us = max(self.at_us, decision.header.recorded_at_us)


@dataclass
class LoggedSegments:
    """Iterates over the segments of a plan; what it saw beside them is known at the end.

    Attributes:
        refusals: of all files.
        torn: file → bytes behind the last whole record.
        end: the number of the frame after the last one.
    """

    folder: WriterFolder
    plan: Plan
    contracts: Contracts
    entity: EntityOf
    subjects: Subjects
    refusals: list[LoggedRefusal] = field(default_factory=list)
    torn: dict[str, int] = field(default_factory=dict)
    end: int = 0
    _recorded: list[int] = field(default_factory=list)

    def recorded_before(self, at_us: int) -> int:
        """How many decisions were recorded before a time of the wall."""
        return sum(one < at_us for one in self._recorded)

    def __iter__(self) -> Iterator[BuiltSegment]:
        """Raises ``Tampered`` where a record is missing or is not the writer's; nothing of the rest is built then."""
        growing: _Growing | None = None
        expected = self.plan.first_seq
        for number, decision in self._decisions():
            self._check(decision, expected)
            date = date_of(decision.header.decided_at_us)
            if growing is not None and (growing.date != date or growing.size == SEGMENT_RECORDS):
                yield self._built(growing)
                growing = None
            growing = growing or _Growing(number, expected, date)
            growing.add(decision)
            if len(growing.waiting) == _BLOCK_RECORDS:
                self._fold(growing)
            expected += 1
        if growing is not None:
            yield self._built(growing, last=True)

    def _decisions(self) -> Iterator[tuple[int, RawDecision]]:
        """Decisions with the number of their frame."""
        self.end = self.plan.first_frame
        for name in self.plan.files:
            file = self.folder.path / name
            if first_frame(file) != self.end:
                raise self._lacks(f"frame {self.end}", f"file {name}")
            frames, torn = read_frames(file)
            if torn:
                self.torn[name] = torn
            for payload in frames:
                number, self.end = self.end, self.end + 1
                if payload[0] == DECISION:
                    found = RawDecision.of(payload, self.contracts)
                    self._recorded.append(found.header.recorded_at_us)
                    yield number, found
                    continue
                refusal = decode(payload, self.contracts)
                if isinstance(refusal, LoggedRefusal):
                    self.refusals.append(refusal)

    def _check(self, decision: RawDecision, expected: int) -> None:
        header = decision.header
        if (header.writer, header.model) != (self.folder.writer, self.folder.model):
            raise Tampered(
                "A logged record names another writer or model than its folder.",
                field=self.folder.writer,
                next_step="Restore the folder from a backup; it is not sealed before.",
            )
        if header.seq != expected:
            raise self._lacks(f"seq {expected}", f"seq {header.seq}")

    def _lacks(self, expected: str, found: str) -> Tampered:
        return Tampered(
            f"The write-ahead log lacks records: {expected} should follow, {found} does.",
            field=self.folder.writer,
            next_step="Restore the missing file from a backup; `mlp verify` shows the gap until then.",
        )

    def _fold(self, growing: _Growing) -> None:
        if growing.waiting:
            month = growing.date[:7]
            block = make_block(growing.waiting, self.contracts, self.subjects, self.entity, month)
            growing.blocks.append(block)
            growing.waiting = []

    def _built(self, growing: _Growing, *, last: bool = False) -> BuiltSegment:
        """``last``: all files were read, so that the refusals are counted."""
        self._fold(growing)
        number = growing.number
        rows = joined(growing.blocks, f"{self.folder.writer}.{number}")
        counts = {
            "accepted": growing.size,
            "declined": growing.declined,
            "flagged": growing.flagged,
            "refused": len(self.refusals) if last else 0,
        }
        segment = described(
            rows,
            number=number,
            model=self.folder.model,
            writer=self.folder.writer,
            first_seq=growing.first_seq,
            counts=counts,
        )
        return BuiltSegment(segment, rows, number, growing.date, growing.at_us)
