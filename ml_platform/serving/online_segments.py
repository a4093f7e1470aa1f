"""The segments that a plan's files hold, one after the other: read, checked, cut by date and size, built in columns.

A segment's records were decided on one date (its rows are in one partition) and are at most ``SEGMENT_RECORDS``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.core.delta import Lake
from ml_platform.core.errors import Tampered
from ml_platform.core.objects import ObjectStore
from ml_platform.core.subjects import Subjects
from ml_platform.serving.online_columns import Decoded, EntityOf, SegmentRows, decode_columns, entity_rows, joined
from ml_platform.serving.online_plan import Plan
from ml_platform.serving.online_record import DECISION, LoggedRefusal, decode
from ml_platform.serving.online_tables import SegmentTables, date_of, described
from ml_platform.serving.online_writers import WriterFolder, first_frame
from ml_platform.serving.raw_decision import Contracts
from ml_platform.serving.segment import Segment
from ml_platform.serving.wal import read_frames
from ml_platform.training.decision import DECLINED

__all__ = ["SEGMENT_RECORDS", "BuiltSegment", "LoggedSegments"]

SEGMENT_RECORDS: Final = 65_536
_BLOCK_RECORDS: Final = 16_384  # decoded at a time
_DAY_US: Final = 86_400_000_000


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
    blocks: list[Decoded] = field(default_factory=list)
    entities: list[pa.Table] = field(default_factory=list)
    size: int = 0


@dataclass(frozen=True)
class _Run:
    """Decisions that follow each other: the numbers of their frames, and their columns."""

    numbers: list[int]
    decoded: Decoded


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
    _recorded: list[npt.NDArray[np.int64]] = field(default_factory=list)

    def recorded_before(self, at_us: int) -> int:
        """How many decisions were recorded before a time of the wall."""
        return sum(int((one < at_us).sum()) for one in self._recorded)

    def __iter__(self) -> Iterator[BuiltSegment]:
        """Raises ``Tampered`` where a record is missing or is not the writer's; nothing of the rest is built then."""
        growing: _Growing | None = None
        expected = self.plan.first_seq
        for run in self._runs():
            self._check(run.decoded, expected)
            self._recorded.append(run.decoded.numbers("recorded_at"))
            start = 0
            for end, date in _dates(run.decoded):
                while start < end:
                    if growing is not None and (growing.date != date or growing.size == SEGMENT_RECORDS):
                        yield self._built(growing)
                        growing = None
                    growing = growing or _Growing(run.numbers[start], expected + start, date)
                    stop = min(end, start + SEGMENT_RECORDS - growing.size)
                    self._add(growing, run.decoded.slice(start, stop))
                    start = stop
            expected += run.decoded.rows
        if growing is not None:
            yield self._built(growing, last=True)

    def _runs(self) -> Iterator[_Run]:
        """All decisions, some thousand at a time."""
        numbers: list[int] = []
        payloads: list[bytes] = []
        for number, payload in self._decisions():
            numbers.append(number)
            payloads.append(payload)
            if len(payloads) == _BLOCK_RECORDS:
                yield _Run(numbers, decode_columns(payloads, self.contracts))
                numbers, payloads = [], []
        if payloads:
            yield _Run(numbers, decode_columns(payloads, self.contracts))

    def _decisions(self) -> Iterator[tuple[int, bytes]]:
        """Logged decisions with the number of their frame."""
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
                    yield number, payload
                    continue
                refusal = decode(payload, self.contracts)
                if isinstance(refusal, LoggedRefusal):
                    self.refusals.append(refusal)

    def _check(self, decoded: Decoded, expected: int) -> None:
        for name, wanted in (("writer", self.folder.writer), ("model", self.folder.model)):
            if pc.unique(decoded.headers.column(name)).to_pylist() != [wanted]:
                raise Tampered(
                    "A logged record names another writer or model than its folder.",
                    field=self.folder.writer,
                    next_step="Restore the folder from a backup; it is not sealed before.",
                )
        found = decoded.numbers("seq")
        wrong = np.flatnonzero(found != np.arange(expected, expected + decoded.rows))
        if len(wrong):
            raise self._lacks(f"seq {expected + wrong[0]}", f"seq {found[wrong[0]]}")

    def _lacks(self, expected: str, found: str) -> Tampered:
        return Tampered(
            f"The write-ahead log lacks records: {expected} should follow, {found} does.",
            field=self.folder.writer,
            next_step="Restore the missing file from a backup; `mlp verify` shows the gap until then.",
        )

    def _add(self, growing: _Growing, decoded: Decoded) -> None:
        growing.blocks.append(decoded)
        growing.entities.append(entity_rows(decoded, self.subjects, self.entity, growing.date[:7]))
        growing.size += decoded.rows

    def _built(self, growing: _Growing, *, last: bool = False) -> BuiltSegment:
        """``last``: all files were read, so that the refusals are counted."""
        rows = joined(growing.blocks, growing.entities, f"{self.folder.writer}.{growing.number}")
        counts = {
            "accepted": growing.size,
            "declined": rows.personal.column("decision").to_pylist().count(DECLINED),
            "flagged": int(np.count_nonzero(pc.list_value_length(rows.personal.column("flags")).to_numpy())),
            "refused": len(self.refusals) if last else 0,
        }
        segment = described(
            rows,
            number=growing.number,
            model=self.folder.model,
            writer=self.folder.writer,
            first_seq=growing.first_seq,
            counts=counts,
        )
        newest: Any = pc.max(rows.headers.column("recorded_at").cast(pa.int64())).as_py()
        return BuiltSegment(segment, rows, growing.number, growing.date, newest)


def _dates(decoded: Decoded) -> list[tuple[int, str]]:
    """Runs of one decided date: where each ends, and the date."""
    days = decoded.numbers("decided_at") // _DAY_US
    ends = [*(np.flatnonzero(days[1:] != days[:-1]) + 1).tolist(), decoded.rows]
    return [(end, date_of(int(days[end - 1]) * _DAY_US)) for end in ends]
