"""Small files that are whole or absent: temporary name, sync, rename, sync of the folder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ml_platform.core.errors import StorageFailed

__all__ = ["sync_folder", "write_atomically"]


def sync_folder(folder: Path) -> None:
    """Makes renames and new names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, raw: bytes, *, mode: int = 0o644) -> None:
    """Replaces a file's content; a reader or a crash sees the old bytes or the new, never a part.

    Raises:
        StorageFailed: the disk is full or not writable; the old content stands.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
        temporary = None
        sync_folder(path.parent)
    except OSError as error:
        raise StorageFailed(
            f"Writing {path.name} failed ({error.strerror}); nothing was changed.",
            next_step="Free space or mend the folder, then run it again.",
        ) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
