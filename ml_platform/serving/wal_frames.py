"""Frames of the write-ahead log: the bytes of a record in a file, and reading them back.

A frame is u32 length, u32 CRC-32 of the payload, payload, little-endian. Zeros behind the last frame are room that the
writer has made for the next ones: no length is 0, so that they read as no frame.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Final, NamedTuple

from ml_platform.core.errors import DataError, StorageFailed

__all__ = ["Frames", "failed", "frame", "has_frames", "read_frames"]

FIELD: Final = "wal"
_HEAD: Final = struct.Struct("<II")
_LARGEST: Final = 16 * 1024 * 1024


def frame(payload: bytes) -> bytes:
    """The bytes of one frame.

    Raises:
        DataError: the payload is empty (a block of zeros would read as such frames) or larger than 16 MiB.
    """
    if not 0 < len(payload) <= _LARGEST:
        raise DataError("A record has no size that the log takes.", next_step="Records are 1 byte to 16 MiB.")
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


class Frames(NamedTuple):
    """The whole frames of a file, in order, and how many bytes after them belong to none.

    Zeros at the end of the file do not count: they are room that was not written to.
    """

    frames: list[bytes]
    torn_bytes: int


def read_frames(path: Path, offset: int = 0) -> Frames:
    """Payloads of a log file from a frame's start on; what follows the last whole frame is counted, not returned.

    In a file that is complete (not the newest of its writer) torn bytes are damage. Of a living writer's newest file
    the last frames may not be durable yet.

    Raises:
        StorageFailed: the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            raw = stream.read()
    except OSError as error:
        raise failed(error, "Reading") from error
    found, end = _split(raw)
    return Frames(found, len(raw[end:].rstrip(b"\0")))


def has_frames(path: Path) -> bool:
    """Whether a log file begins with a frame, perhaps a torn one, rather than with its end or with room."""
    with path.open("rb") as stream:
        return any(stream.read(_HEAD.size))


def _split(raw: bytes) -> tuple[list[bytes], int]:
    found: list[bytes] = []
    at, size = 0, len(raw)
    while at + _HEAD.size <= size:
        length, checksum = _HEAD.unpack_from(raw, at)
        start = at + _HEAD.size
        payload = raw[start : start + length]
        if not 0 < length <= _LARGEST or len(payload) < length or zlib.crc32(payload) != checksum:
            break
        found.append(payload)
        at = start + length
    return found, at


def failed(error: OSError, doing: str) -> StorageFailed:
    """What a file of the log does not let us do."""
    return StorageFailed(
        f"{doing} failed ({error.strerror}); nothing was half-done.",
        field=FIELD,
        next_step="Free space or mend the folder; requests are refused until it works.",
    )
