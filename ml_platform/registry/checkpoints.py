"""Checkpoints: what the log has committed to, signed, kept for ever as ``checkpoints/<size>`` in the object store.

The signer also keeps the highest one in a file of its own (the high-water mark): it never signs a second root for a
size, nor a log that does not extend what it signed before, even if store and database were both rolled back.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ml_platform.core.errors import NotFound, SettingsError, Tampered
from ml_platform.core.files import write_atomically
from ml_platform.core.objects import ObjectStore
from ml_platform.registry.notes import Checkpoint, Signer, Verifier, open_checkpoint, sign_checkpoint

__all__ = ["CheckpointSigner", "Checkpoints", "Claim", "require_extension", "rolled_back"]

_FOLDER: Final = "checkpoints"


class CheckpointSigner:
    """The log's key and its high-water mark.

    Args:
        key: note signer named as the log's origin.
        high_water: the file of the mark, beside the key; its folder must exist.
    """

    def __init__(self, key: Signer, high_water: Path) -> None:
        self.key = key
        self._path = high_water

    def high_water(self) -> Checkpoint | None:
        """The highest checkpoint that this key signed; None before the first.

        Raises:
            Tampered: the file is not what this key signed.
        """
        note = self.mark()
        return None if note is None else open_checkpoint(note, [self.key.verifier])

    def mark(self) -> bytes | None:
        """The note of the mark as it lies in the file; None before the first."""
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None

    def sign(self, checkpoint: Checkpoint, root_at: Callable[[int], bytes]) -> bytes:
        """The signed note, once the mark is durable.

        Args:
            checkpoint: what to sign.
            root_at: root of the log at a size, read anew where it must be; `NotFound` beyond the log.

        Raises:
            Tampered: the log does not extend what was signed before.
        """
        with self._alone():
            mark = self.high_water()
            if mark is not None:
                require_extension(mark, root_at)
            note = sign_checkpoint(checkpoint, self.key)
            if mark is None or checkpoint.size > mark.size:
                write_atomically(self._path, note, mode=0o600)
            return note

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One signing process at a time."""
        try:
            handle = os.open(self._path.with_name(self._path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise SettingsError(
                f"The high-water mark's folder cannot be used ({type(error).__name__}).",
                field="high_water",
                next_step="Check the folder of the log's key.",
            ) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


@dataclass(frozen=True, slots=True)
class Claim:
    """A note that says what the log was, and the size under which it was stored."""

    size: int | None
    note: bytes

    def open(self, verifier: Verifier) -> Checkpoint:
        """The checkpoint; `Tampered` when the log did not sign it, or for another size."""
        checkpoint = open_checkpoint(self.note, [verifier])
        if self.size is not None and checkpoint.size != self.size:
            raise Tampered(
                f"The checkpoint stored for size {self.size} is for another size.",
                field=f"checkpoints/{self.size}",
                next_step="Restore the checkpoints from a copy.",
            )
        return checkpoint


class Checkpoints:
    """Reads and publishes a log's checkpoints.

    Args:
        objects: the store.
        signer: None where nothing is written; such a log can be read and verified only.
    """

    def __init__(self, objects: ObjectStore, signer: CheckpointSigner | None = None) -> None:
        self._objects = objects
        self._signer = signer

    def require_signer(self) -> CheckpointSigner:
        """Raises `SettingsError` where nothing may be written."""
        if self._signer is None:
            raise SettingsError(
                "The log was opened without its key: it can be read only.",
                field="log_key",
                next_step="Open it in a process that may read the log's key file.",
            )
        return self._signer

    def sizes(self) -> list[int]:
        """The sizes at which there are checkpoints, ascending; one listing of the folder."""
        names = [path.rpartition("/")[2] for path in self._objects.list(_FOLDER)]
        return sorted(int(name) for name in names if name.isascii() and name.isdecimal())

    def note(self, size: int) -> bytes:
        """The stored note of a size; `NotFound` when there is none."""
        return self._objects.read(f"{_FOLDER}/{size}")

    def read(self, size: int, verifier: Verifier) -> Checkpoint:
        """A checkpoint whose signature is checked; `Tampered` when it is not what the log signed."""
        return Claim(size, self.note(size)).open(verifier)

    def claims(self) -> list[Claim]:
        """What the log must extend: the newest checkpoint of the store, and the signer's mark; not yet checked.

        They are published after the entries that they cover are committed: read them before the entries.
        """
        sizes = self.sizes()
        found = [Claim(sizes[-1], self.note(sizes[-1]))] if sizes else []
        mark = self._signer.mark() if self._signer is not None else None
        return found if mark is None else [*found, Claim(None, mark)]

    def publish(self, origin: str, size: int, root_at: Callable[[int], bytes]) -> Checkpoint:
        """Signs and stores the checkpoint of a size; again for the same size changes nothing.

        Raises:
            Tampered: the log does not extend an earlier checkpoint, or the size already has another root.
        """
        signer = self.require_signer()
        checkpoint = Checkpoint(origin, size, root_at(size))
        note = signer.sign(checkpoint, root_at)
        if not self._objects.create(f"{_FOLDER}/{size}", note):
            stored = self.read(size, signer.key.verifier)
            if stored.root != checkpoint.root:
                raise _other_root(size)
        return checkpoint


def require_extension(checkpoint: Checkpoint, root_at: Callable[[int], bytes]) -> None:
    """Raises `Tampered` when the log does not begin with what a checkpoint committed to."""
    try:
        root = root_at(checkpoint.size)
    except NotFound:
        raise rolled_back(checkpoint.size) from None
    if root != checkpoint.root:
        raise _other_root(checkpoint.size)


def rolled_back(size: int | None = None) -> Tampered:
    """The error of a database that is older than a checkpoint."""
    which = "a checkpoint" if size is None else f"the checkpoint of {size} entries"
    return Tampered(
        f"The database is older than {which}: it was rolled back. Nothing is written.",
        field="checkpoints" if size is None else f"checkpoints/{size}",
        next_step="Restore the newest database; do not delete checkpoints.",
    )


def _other_root(size: int) -> Tampered:
    return Tampered(
        f"The first {size} entries are not those that the checkpoint commits to. Nothing is written.",
        field=f"checkpoints/{size}",
        next_step="`mlp verify` names the entry; restore the database from a backup.",
    )
