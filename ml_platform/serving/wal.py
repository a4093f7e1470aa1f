"""The write-ahead log of one writer process: frames that are durable before an answer leaves.

A writer owns its folder by a lock that the kernel lets go of when the process ends, however it ends. Its files follow
each other: all but the newest are complete; the newest ends with what the last append wrote, and after a crash perhaps
with a part of it (a torn tail), which belongs to no answered request, and with zeros: room that nobody wrote to. The
promise survives process and OS crashes; losing the disk loses the log.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from ml_platform.core.digests import canonical_json
from ml_platform.core.errors import Conflict, DataError, StorageFailed
from ml_platform.core.files import sync_folder, write_atomically
from ml_platform.serving.wal_frames import FIELD, Frames, failed, frame, read_frames
from ml_platform.serving.wal_room import Room

__all__ = ["WAL_FOLDER", "WRITER_FORMAT", "Frames", "WalWriter", "WriterInfo", "frame", "read_frames", "wal_folder"]

WAL_FOLDER: Final = FIELD
WRITER_FORMAT: Final = "ml-platform/wal-writer/1"
SUFFIX: Final = ".wal"
LOCK: Final = "lock"
DESCRIPTION: Final = "writer.json"
COMPLETE: Final = "complete"  # a file of this name asks a living writer to complete its newest file now
_ROTATE_BYTES: Final = 32 * 1024 * 1024
_ROTATE_SECONDS: Final = 20.0  # well within the minute after which a decision shall be sealed


def wal_folder(root: Path, model: str, writer: str) -> Path:
    """The folder of one writer process."""
    return root / WAL_FOLDER / model / writer


@dataclass(frozen=True)
class WriterInfo:
    """Who writes a folder; ``writer`` is its boot id, such as ``router-<32 hex>``, ``started_at`` RFC 3339 UTC."""

    writer: str
    kind: str
    model: str
    root_id: str
    started_at: str
    pid: int

    def to_bytes(self) -> bytes:
        return canonical_json({"format": WRITER_FORMAT, **asdict(self)})

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The description of a folder.

        Raises:
            DataError: it is of no known format.
        """
        try:
            document = json.loads(raw)
            if document.pop("format") == WRITER_FORMAT:
                return cls(**document)
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        raise DataError(
            "This is no description of a log's writer.", field=DESCRIPTION, next_step=f"Expected {WRITER_FORMAT}."
        )


class WalWriter:
    """Appends frames to files of its own folder. Safe for several threads.

    A file is named by the number of its first frame among all frames of the writer, in 20 digits, so that a missing
    file shows. Rotation starts a new file when the newest is large or old enough; ``rotate_if_due`` does it for a
    writer that nobody calls.

    Args:
        folder: ``wal_folder``; must not exist.
        info: lands in ``writer.json``.
        rotate_bytes, rotate_seconds: after which size, or time since its first frame, a file is complete.

    Raises:
        Conflict: the folder exists: a boot id is used once.
        StorageFailed: the disk is full or not writable.
    """

    def __init__(
        self,
        folder: Path,
        info: WriterInfo,
        *,
        rotate_bytes: int = _ROTATE_BYTES,
        rotate_seconds: float = _ROTATE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self._limits = (rotate_bytes, rotate_seconds)
        self._monotonic = monotonic
        self._mutex = threading.Lock()
        self._frames = 0  # of complete files and the newest
        self._begins = 0  # the number of the newest file's first frame
        self._first_at: float | None = None
        self._size = 0
        self._room = Room()
        self._damaged = False  # what stands after _size is neither a frame of ours nor room
        self._suspect = False  # a sync failed: what the kernel holds of this file is unknown
        self._file = -1
        self.bytes_written = 0
        self.last_sync: float | None = None
        self._lock = self._own(info)

    def _own(self, info: WriterInfo) -> int:
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700)
        except FileExistsError as error:
            raise Conflict(
                "This writer's folder exists already.", field="writer", next_step="Start with a new boot id."
            ) from error
        except OSError as error:
            raise failed(error, "Making the log's folder") from error
        lock = -1
        try:
            # Locked before it is described: who finds the description finds the lock held, or its writer dead.
            lock = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file = self._create()
            write_atomically(self.folder / DESCRIPTION, info.to_bytes(), mode=0o600)
            sync_folder(self.folder.parent)
        except (OSError, StorageFailed) as error:
            for descriptor in (lock, self._file):
                if descriptor >= 0:
                    os.close(descriptor)
            raise (error if isinstance(error, StorageFailed) else failed(error, "Making the log")) from error
        return lock

    def _create(self) -> int:
        path = self.folder / f"{self._frames:020d}{SUFFIX}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            sync_folder(self.folder)
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        return descriptor

    @property
    def _newest(self) -> Path:
        return self.folder / f"{self._begins:020d}{SUFFIX}"

    @property
    def frames(self) -> int:
        """How many frames are durable."""
        return self._frames

    def append(self, frames: Sequence[bytes]) -> None:
        """Makes payloads durable, all or none: one write and one ``fdatasync`` for the whole batch.

        Raises:
            StorageFailed: none of them is in the log, and the next append may succeed.
            DataError: a payload is empty or too large; none was written.
        """
        if not frames:
            return
        raw = b"".join(map(frame, frames))
        with self._mutex:
            if self._file < 0:
                raise StorageFailed("The log is closed.", next_step="Open a new one: a boot id is used once.")
            try:
                self._mend()
                self._write(raw)
            except OSError as error:
                self._cut()
                raise failed(error, "Writing the log") from error
            self._size += len(raw)
            self._room.used(self._size)
            self._frames += len(frames)
            self.bytes_written += len(raw)
            self.last_sync = self._monotonic()
            self._first_at = self._first_at or self.last_sync
            self._rotate_if_due()

    def _write(self, raw: bytes) -> None:
        view, at = memoryview(raw), self._size
        while view:
            self._damaged = True
            written = os.pwrite(self._file, view, at)
            view, at = view[written:], at + written
        self._suspect = True
        os.fdatasync(self._file)
        self._damaged = self._suspect = False

    def _mend(self) -> None:
        """After a failed append: nothing but frames, in a file whose sync can be believed."""
        if self._damaged:
            self._clear()
        if self._suspect:
            # A sync that failed once may report success the next time without having written: start another file.
            if self._size:
                self._rotate()
            self._suspect = False

    def _cut(self) -> None:
        try:
            if self._damaged:
                self._clear()
        except OSError:
            return  # the next append tries again before it writes

    def _clear(self) -> None:
        os.ftruncate(self._file, self._size)
        self._room.begin(self._size)
        self._damaged = False

    def make_room(self) -> None:
        """Writes zeros ahead of the frames (see ``wal_room``), for a thread that appends nothing to call often.

        Never fails: where the disk is nearly full, or does not take them, appends go on without room.
        """
        while True:
            with self._mutex:
                sound = self._file >= 0 and not self._damaged and not self._suspect
                descriptor = self._room.extend(self._newest, self._size) if sound else -1
            if descriptor < 0:
                return
            try:
                os.fdatasync(descriptor)
            except OSError:
                return
            finally:
                os.close(descriptor)

    def rotate_if_due(self) -> bool:
        """Completes the newest file if it is large or old enough, or somebody asks for it; True if it did."""
        asked = self.folder / COMPLETE
        with self._mutex:
            if self._file < 0:
                return False
            now = asked.exists()
            done = self._rotate_if_due(now=now)
            if now and (done or self._first_at is None):
                asked.unlink(missing_ok=True)
            return done

    def _rotate_if_due(self, *, now: bool = False) -> bool:
        if self._first_at is None:
            return False
        most_bytes, most_seconds = self._limits
        due = self._size >= most_bytes or self._monotonic() - self._first_at >= most_seconds
        if not due and not now:
            return False
        try:
            self._rotate()
        except OSError:
            return False  # the disk is full: the old file goes on, and the next append tells
        return True

    def _rotate(self) -> None:
        following = self._create()
        self._finish()
        self._file, self._size, self._first_at = following, 0, None
        self._begins = self._frames
        self._room.begin()

    def _finish(self) -> None:
        """Closes the newest file at its last frame."""
        with suppress(OSError):  # zeros that stay are no frames
            os.ftruncate(self._file, self._size)
        os.close(self._file)

    def close(self) -> None:
        """Lets go of the folder; an empty newest file goes. Closing twice is closing once."""
        with self._mutex:
            if self._file < 0:
                return
            self._finish()
            self._file = -1
            if not self._size and not self._damaged:
                self._newest.unlink(missing_ok=True)
            os.close(self._lock)
