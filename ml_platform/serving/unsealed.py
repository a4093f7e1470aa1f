"""Records that only a write-ahead log holds yet: found by id or entity, counted, never changed.

Only the bytes of files that hold what is looked for are taken apart; a minute of decisions is some megabytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_platform.core.rows import encode_row
from ml_platform.registry.state import WriterState
from ml_platform.serving.lookup import Key
from ml_platform.serving.online_columns import decision_rows
from ml_platform.serving.online_record import DECISION, LoggedRefusal, decision_parts, decode, decode_header
from ml_platform.serving.online_writers import WriterFolder, first_frame, frames_of, writer_folders
from ml_platform.serving.raw_decision import Contracts, RawDecision

__all__ = ["UnsealedCount", "UnsealedRecord", "UnsealedRecords", "count_unsealed"]


@dataclass(frozen=True)
class UnsealedRecord:
    """A record as its writer logged it, in the shape of the tables.

    Args:
        header: as a row of ``predictions``, without segment and place.
        personal: as a row of ``predictions_personal``.
        logged: the record and the bytes that were logged.
    """

    header: dict[str, Any]
    personal: dict[str, Any]
    logged: RawDecision

    @property
    def prediction_id(self) -> str:
        return str(self.header["prediction_id"])


@dataclass(frozen=True)
class UnsealedCount:
    """What lies in one writer's folder and is in no segment of the log.

    Args:
        living: whether its process lives.
        missing: the first sequence number or frame that should be there and is not; None where nothing is missing.
        oldest_us: when the first of these decisions was recorded, wall time in microseconds; None where there are none.
        torn_bytes: behind the last whole frame of a file.
    """

    model: str
    writer: str
    living: bool = False
    decisions: int = 0
    refused: int = 0
    missing: str | None = None
    oldest_us: int | None = None
    torn_bytes: int = 0


@dataclass(frozen=True)
class UnsealedRecords:
    """The write-ahead logs of one root.

    Args:
        wal: their folder; it need not be there.
        contracts: the contract of a digest.
    """

    wal: Path
    contracts: Contracts

    def find(self, prediction_id: bytes, *, model: str | None = None) -> UnsealedRecord | None:
        """The record of an id of 16 bytes; None where no log holds it."""
        for payload in self._holding(prediction_id, model):
            if decode_header(decision_parts(payload)[0]).prediction_id == prediction_id:
                return self._shaped(payload)
        return None

    def find_by_entity(self, model: str, key: Key) -> list[UnsealedRecord]:
        """The decisions about an entity, in no order."""
        encoded = encode_row(list(key))
        found = list(self._holding(encoded, model))
        return [self._shaped(one) for one in found if RawDecision.of(one, self.contracts).entity_key == encoded]

    def find_refusals(self, model: str, row_index: bytes) -> list[LoggedRefusal]:
        """The refusals of a request, by its keyed index of 32 bytes."""
        found = [
            decode(payload, self.contracts)
            for file in self._files(model)
            for payload in _frames_with(file, row_index)
            if payload[0] != DECISION
        ]
        return [one for one in found if isinstance(one, LoggedRefusal) and one.row_index == row_index]

    def decisions(self, model: str) -> Iterator[RawDecision]:
        """Every decision of a model that a log holds, oldest first per writer."""
        for payload in self._payloads(model):
            yield RawDecision.of(payload, self.contracts)

    def shaped(self, model: str) -> Iterator[UnsealedRecord]:
        """The same, in the shape of the tables."""
        return map(self._shaped, self._payloads(model))

    def _payloads(self, model: str) -> Iterator[bytes]:
        for folder in writer_folders(self.wal, model):
            yield from (payload for payload in folder.frames() if payload[0] == DECISION)

    def _shaped(self, payload: bytes) -> UnsealedRecord:
        return UnsealedRecord(*decision_rows(payload, self.contracts), RawDecision.of(payload, self.contracts))

    def _files(self, model: str | None) -> Iterator[Path]:
        for folder in writer_folders(self.wal, model):
            yield from folder.files()

    def _holding(self, wanted: bytes, model: str | None) -> Iterator[bytes]:
        for file in self._files(model):
            for payload in _frames_with(file, wanted):
                if payload[0] == DECISION:
                    yield payload


def _frames_with(file: Path, wanted: bytes) -> list[bytes]:
    try:
        if wanted not in file.read_bytes():
            return []
    except FileNotFoundError:  # sealed and removed meanwhile
        return []
    found = frames_of(file)
    return [] if found is None else [payload for payload in found.frames if wanted in payload]


def count_unsealed(folder: WriterFolder, known: WriterState | None) -> UnsealedCount:
    """Counts what the log knows nothing of yet; frames that are sealed and not removed yet are passed over.

    Args:
        folder: of the writer.
        known: what the audit log knows of it.

    Raises:
        IntegrityError: a frame or the description cannot be read.
    """
    folder.info()
    living = folder.held
    expected = 0 if known is None else known.next_seq
    following: int | None = None
    decisions = refused = torn = 0
    missing: str | None = None
    oldest: int | None = None
    for file in folder.files():
        found = frames_of(file)
        if found is None:
            following = None  # sealed and removed meanwhile: the numbers of its decisions are in the log
            continue
        missing = missing or _gap(file, following)
        following, torn = first_frame(file) + len(found.frames), torn + found.torn_bytes
        for payload in found.frames:
            if payload[0] != DECISION:
                refused += 1
                continue
            header = decode_header(decision_parts(payload)[0])
            if header.seq < expected:
                continue
            if header.seq > expected:
                missing = missing or f"seq {expected}"
            expected, decisions = header.seq + 1, decisions + 1
            oldest = header.recorded_at_us if oldest is None else min(oldest, header.recorded_at_us)
    return UnsealedCount(folder.model, folder.writer, living, decisions, refused, missing, oldest, torn)


def _gap(file: Path, following: int | None) -> str | None:
    return None if following is None or first_frame(file) == following else f"frame {following}"
