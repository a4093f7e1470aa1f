"""From the topic of records to the sealer: each partition's committed records as files of a write-ahead log, once.

A partition is a writer (``stream-<topic uuid>-<partition>``), its folder below ``wal/`` an inbox whose every file is
finished; from there on a streamed decision is sealed, traced and verified like an online one. ``inbox.json`` says up to
which offset messages were taken, and is replaced before the file that it speaks of appears under its name: killed at
any step, the next pull goes on without a record twice or missing. What is sealed is deleted from the topic, but for the
last message, from which workers can tell where to go on.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol, Self

from ml_platform.core.clock import parse_utc
from ml_platform.core.digests import canonical_json, parse_canonical
from ml_platform.core.errors import DeclarationError, StorageFailed, Tampered
from ml_platform.core.files import sync_folder, write_atomically
from ml_platform.serving.online_plan import read_plan
from ml_platform.serving.online_record import DECISION, decision_parts, decode_header
from ml_platform.serving.online_writers import WriterFolder
from ml_platform.serving.wal import DESCRIPTION, SUFFIX, WriterInfo, frame

__all__ = ["INBOX_FILE", "INBOX_FORMAT", "Inbox", "InboxState", "RecordTopic"]

INBOX_FILE: Final = "inbox.json"
INBOX_FORMAT: Final = "ml-platform/topic-inbox/1"
_LOCK: Final = "inbox.lock"
_PART: Final = ".part"


class RecordTopic(Protocol):
    """The topic of records, as an inbox needs it."""

    def bounds(self, topic: str, partition: int) -> tuple[int, int]: ...

    def rest(self, topic: str, partition: int, offset: int) -> Iterator[tuple[list[Any], int]]: ...


@dataclass(frozen=True)
class InboxState:
    """How far an inbox is.

    Args:
        next_offset: of the first message that was not taken.
        next_frame: the number of the next frame among all of the writer.
        last_offset: of the last message that was taken; None before the first.
        deleted: offset before which the topic's messages were deleted.
        file: the newest file, perhaps not under its name yet.
    """

    next_offset: int
    next_frame: int
    last_offset: int | None = None
    deleted: int = 0
    file: str | None = None
    format: str = INBOX_FORMAT

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The state of a folder; None where nothing was ever taken.

        Raises:
            Tampered: it is none.
        """
        try:
            document = parse_canonical((folder / INBOX_FILE).read_bytes())
            if document["format"] == INBOX_FORMAT:
                return cls(**document)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, DeclarationError):
            pass
        raise Tampered(
            "The inbox's state cannot be read as one.", field=INBOX_FILE, next_step="Restore it from a backup."
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def write(self, folder: Path) -> None:
        """Replaces the folder's state; raises ``StorageFailed``."""
        write_atomically(folder / INBOX_FILE, canonical_json(self.to_json()), mode=0o600)


@dataclass(frozen=True)
class Inbox:
    """The inbox of one partition.

    Args:
        wal: the folder of all write-ahead logs.
        model, writer, root_id: whose records they are.
        topic, partition: where they come from.
    """

    wal: Path
    model: str
    writer: str
    root_id: str
    topic: str
    partition: int

    @property
    def folder(self) -> Path:
        return self.wal / self.model / self.writer

    def pull(self, source: RecordTopic, *, sealed_seq: int, at: str) -> int:
        """Takes every committed record that is not here yet; how many.

        Args:
            source: the topic.
            sealed_seq: the number that the audit log expects next; what is before it and comes again is passed over.
            at: the wall's time, RFC 3339.

        Raises:
            StorageFailed: the disk is full or the brokers are away; the next pull goes on.
            Tampered: the folder or the topic holds what is not this writer's.
        """
        with self._own() as owned:
            if not owned:
                return 0
            state = self._mended(source, at)
            taken = 0
            for messages, end in source.rest(self.topic, self.partition, state.next_offset):
                state, number = self._take(state, messages, end, sealed_seq)
                taken += number
            return taken

    @contextmanager
    def _own(self) -> Iterator[bool]:
        """Whether nobody else pulls here."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _failed(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
        finally:
            os.close(descriptor)

    def _mended(self, source: RecordTopic, at: str) -> InboxState:
        """The state, with what a killed pull left completed or removed."""
        state = InboxState.read(self.folder)
        for part in self.folder.glob(f"*{_PART}"):
            if state is not None and part.name == f"{state.file}{_PART}":
                self._name(state.file or "")
            else:
                part.unlink(missing_ok=True)
        if state is None:
            first, _ = source.bounds(self.topic, self.partition)
            # Offsets are at least as many as frames: a folder that was lost goes on with numbers that are not used yet.
            state = InboxState(first, first)
            state.write(self.folder)
        if not (self.folder / DESCRIPTION).exists():
            parse_utc(at)
            info = WriterInfo(self.writer, "stream", self.model, self.root_id, at, os.getpid())
            write_atomically(self.folder / DESCRIPTION, info.to_bytes(), mode=0o600)
        return state

    def _take(self, state: InboxState, messages: Sequence[Any], end: int, sealed_seq: int) -> tuple[InboxState, int]:
        payloads = [payload for one in messages if (payload := self._payload(one, sealed_seq)) is not None]
        last = messages[-1].offset if messages else state.last_offset
        if not payloads:
            if end == state.next_offset:
                return state, 0
            after = InboxState(end, state.next_frame, last, state.deleted, state.file)
            after.write(self.folder)
            return after, 0
        name = f"{state.next_frame:020d}{SUFFIX}"
        self._write(name, payloads)
        after = InboxState(end, state.next_frame + len(payloads), last, state.deleted, name)
        after.write(self.folder)
        self._name(name)
        return after, len(payloads)

    def _payload(self, message: Any, sealed_seq: int) -> bytes | None:
        """A message's record; None where it is sealed already."""
        payload: bytes = message.value or b""
        if payload[:1] != bytes([DECISION]):
            return payload
        header = decode_header(decision_parts(payload)[0])
        if (header.writer, header.model, header.root_id) != (self.writer, self.model, self.root_id):
            raise Tampered(
                "A record in the topic names another writer, model or root.",
                field=f"{self.topic}, partition {self.partition}, offset {message.offset}",
                next_step="Find out who wrote it: only this root's workers may write there.",
            )
        return payload if header.seq >= sealed_seq else None

    def _write(self, name: str, payloads: Sequence[bytes]) -> None:
        try:
            with (self.folder / f"{name}{_PART}").open("wb") as stream:
                os.fchmod(stream.fileno(), 0o600)
                stream.write(b"".join(map(frame, payloads)))
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise _failed(error) from error

    def _name(self, name: str) -> None:
        try:
            (self.folder / f"{name}{_PART}").replace(self.folder / name)
            sync_folder(self.folder)
        except OSError as error:
            raise _failed(error) from error

    def sealed_until(self) -> int | None:
        """The offset before which the topic's messages may be deleted; None where nothing new is sealed."""
        state, plan = InboxState.read(self.folder), read_plan(self.folder)
        if state is None or plan is None or state.last_offset is None or state.last_offset <= state.deleted:
            return None
        open_files = WriterFolder(self.model, self.writer, self.folder).files()
        whole = plan.done and plan.end == state.next_frame and not open_files
        return state.last_offset if whole else None

    def deleted(self, offset: int) -> None:
        """Remembers that the topic's messages before an offset are gone."""
        with self._own() as owned:
            state = InboxState.read(self.folder) if owned else None
            if state is not None:
                InboxState(**{**asdict(state), "deleted": offset}).write(self.folder)


def _failed(error: OSError) -> StorageFailed:
    return StorageFailed(
        f"The inbox of a topic cannot be written ({error.strerror}); nothing was half-done.",
        field="wal",
        next_step="Free space or mend the folder; the topic keeps the records until then.",
    )
