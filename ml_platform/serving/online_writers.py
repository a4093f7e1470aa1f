"""The folders of write-ahead logs: one per writer process, ``wal/<model>/<writer>/``, and whether it still lives.

A writer holds the lock of its folder as long as its process lives; the kernel lets go of it whatever ends the process.
So a free lock is a dead writer, and whoever takes it owns what the writer left. Who only looks takes a shared lock for
that moment and owns nothing: it never makes a sealer take a dead writer for a living one.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from ml_platform.core.errors import DataError, StorageFailed, Tampered
from ml_platform.serving.wal import COMPLETE, DESCRIPTION, LOCK, SUFFIX, WAL_FOLDER, Frames, WriterInfo, read_frames
from ml_platform.serving.wal_frames import has_frames

__all__ = ["STREAM_WRITER", "WriterFolder", "complete_now", "first_frame", "frames_of", "writer_folders"]

STREAM_WRITER: Final = "stream-"
"""What the name of a writer begins with whose log is a partition of a topic: no process's, never dead, never closed."""

_LOOK_SECONDS: Final = 0.02


@dataclass(frozen=True, order=True)
class WriterFolder:
    """What one writer process left, or is writing."""

    model: str
    writer: str
    path: Path

    @property
    def there(self) -> bool:
        """Whether it still is a writer's folder: the description of a closed writer goes last of all."""
        return (self.path / DESCRIPTION).exists()

    def files(self) -> tuple[Path, ...]:
        """Its files, oldest first; a name is the number of its first frame among all frames of the writer."""
        try:
            return tuple(sorted(one for one in self.path.iterdir() if one.name.endswith(SUFFIX)))
        except FileNotFoundError:  # sealed and removed meanwhile
            return ()

    @property
    def of_topic(self) -> bool:
        """Whether it is the inbox of a topic's partition: every file in it is finished."""
        return self.writer.startswith(STREAM_WRITER)

    def closed_files(self) -> tuple[Path, ...]:
        """The files that a living writer has finished: all but the newest, or all of an inbox."""
        return self.files() if self.of_topic else self.files()[:-1]

    def info(self) -> WriterInfo:
        """Who writes here.

        Raises:
            Tampered: the description is not that of this writer.
        """
        try:
            found = WriterInfo.from_bytes((self.path / DESCRIPTION).read_bytes())
        except (OSError, DataError):
            found = None
        if found is None or (found.model, found.writer) != (self.model, self.writer):
            raise Tampered(
                "The description of a writer is not that of its folder.",
                field=f"{WAL_FOLDER}/{self.model}/{self.writer}/{DESCRIPTION}",
                next_step="Restore writer.json: its log is not sealed before.",
            )
        return found

    def frames(self) -> Iterator[bytes]:
        """Every whole frame that lies here now; files that are sealed meanwhile are passed over."""
        for file in self.files():
            found = frames_of(file)
            yield from () if found is None else found.frames

    @property
    def held(self) -> bool:
        """Whether its writer lives, or a sealer has adopted it; a look that holds up nobody. Always, of a topic's."""
        if self.of_topic:
            return True
        try:
            with (self.path / LOCK).open("rb+") as stream:
                return not _locked(stream, fcntl.LOCK_SH)
        except FileNotFoundError:
            return False

    @contextmanager
    def adopted(self) -> Iterator[bool]:
        """True with the dead writer's lock held, so that nobody else adopts it; False while the writer lives."""
        if self.of_topic:
            yield False
            return
        try:
            stream = (self.path / LOCK).open("rb+")
        except FileNotFoundError:  # a writer makes its lock before its description: this one was removed by hand
            yield True
            return
        with stream:
            while not (mine := _locked(stream, fcntl.LOCK_EX)):
                if not _locked(stream, fcntl.LOCK_SH):
                    break
                time.sleep(_LOOK_SECONDS / 20)  # somebody looks at a dead writer, and lets go at once
            yield mine

    def remove(self) -> None:
        """Removes the folder of a closed writer; its description goes last, so that a killed run is found again."""
        for left in self.path.iterdir():
            if left.name != DESCRIPTION:
                left.unlink(missing_ok=True)
        (self.path / DESCRIPTION).unlink(missing_ok=True)
        self.path.rmdir()


def _locked(stream: IO[bytes], kind: int) -> bool:
    """Whether the lock was to be had; a lock that the stream had before is let go of."""
    try:
        fcntl.flock(stream, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def writer_folders(wal: Path, model: str | None = None) -> list[WriterFolder]:
    """The writers that have described themselves, by model and name; of one model or of all."""
    pattern = f"{model or '*'}/*/{DESCRIPTION}"
    return sorted(WriterFolder(path.parts[-3], path.parts[-2], path.parent) for path in wal.glob(pattern))


def complete_now(wal: Path, wait_seconds: float) -> int:
    """Asks living writers to complete their newest files, and waits until they have; how many did in that time.

    A sealer takes complete files only. A writer that does not look in time completes its file a little later: nothing
    is lost, and the next pass seals it.
    """
    living = [folder for folder in writer_folders(wal) if not folder.of_topic]
    asked = [folder for folder in living if not folder.path.joinpath(COMPLETE).exists()]
    waiting = set()
    for folder in asked:
        if folder.held and any(map(has_frames, folder.files()[-1:])):
            (folder.path / COMPLETE).touch()
            waiting.add(folder)
    number, until = len(waiting), time.monotonic() + wait_seconds
    while waiting and time.monotonic() < until:
        time.sleep(_LOOK_SECONDS)
        waiting = {folder for folder in waiting if (folder.path / COMPLETE).exists()}
    return number - len(waiting)


def frames_of(file: Path) -> Frames | None:
    """What a log file holds; None where it was sealed and removed after it had been listed.

    Raises:
        StorageFailed: it is there and cannot be read.
    """
    try:
        return read_frames(file)
    except StorageFailed:
        if file.exists():
            raise
        return None


def first_frame(file: Path) -> int:
    """The number of a file's first frame, by its name.

    Raises:
        Tampered: no writer gives such names.
    """
    name = file.name.removesuffix(SUFFIX)
    if len(name) != 20 or not (name.isascii() and name.isdecimal()):
        raise Tampered("A log file has a name that no writer gives.", field=file.name, next_step="Move it elsewhere.")
    return int(name)
