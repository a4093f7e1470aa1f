"""Spooled rows that other processes left in files: one a task, named by its content, sorted out when they are read.

A task that is tried again, or runs twice, writes the same rows into a file of the same name; a file has its name only
when it is whole. Which files count is what the tasks report, never what lies in the folder.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from ml_platform.core.digests import file_digest
from ml_platform.core.errors import ArtifactCorrupt, StorageFailed
from ml_platform.serving.spool import BUCKETS, in_buckets, sorted_table

__all__ = ["Part", "PartWriter", "PartsReader"]


@dataclass(frozen=True)
class Part:
    """A file of sorted pieces.

    Args:
        digest: of its bytes; its name.
        buckets: of each record batch, the bucket of its keys.
    """

    digest: str
    rows: int
    buckets: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.digest.removeprefix('sha256:')}.arrow"

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        return cls(document["digest"], document["rows"], tuple(document["buckets"]))


class PartWriter:
    """Writes one part; takes chunks as ``Spool`` does.

    Args:
        folder: exists; other writers use it too.
        key, at, skip: see ``Spool``.
    """

    def __init__(self, folder: Path, key: str, *, at: int, skip: int) -> None:
        self._folder = folder
        self._key, self._at, self._skip = key, at, skip
        self._path = folder / f"_{secrets.token_hex(8)}.unfinished"
        self._writer: pa.ipc.RecordBatchFileWriter | None = None
        self._rows = 0
        self._buckets: list[int] = []

    def append(self, table: pa.Table) -> None:
        """Adds a chunk.

        Raises:
            OSError: the disk is full.
        """
        if self._writer is None:
            self._writer = pa.ipc.new_file(str(self._path), table.schema)
        for number, piece in in_buckets(table, self._key, at=self._at, skip=self._skip):
            for batch in piece.combine_chunks().to_batches():
                self._writer.write_batch(batch)
                self._buckets.append(number)
        self._rows += table.num_rows

    def finish(self) -> Part | None:
        """The whole file under its name; None where no row came.

        Raises:
            OSError: the disk is full.
        """
        if self._writer is None:
            return None
        self._writer.close()
        self._writer = None  # closing it again would write a second end into the file
        part = Part(file_digest(self._path), self._rows, tuple(self._buckets))
        self._path.rename(self._folder / part.name)
        return part

    def abandon(self) -> None:
        """Removes what is not finished."""
        try:
            if self._writer is not None:
                self._writer.close()
        except (OSError, pa.ArrowInvalid):
            pass  # the disk is full: the error that led here is the one to report
        self._path.unlink(missing_ok=True)


class PartsReader:
    """The rows of all parts, sorted by key; memory holds one bucket.

    Raises:
        StorageFailed: a part is not in the folder.
        ArtifactCorrupt: a part holds other bytes than were reported.
    """

    def __init__(self, folder: Path, parts: Sequence[Part], key: str) -> None:
        self._folder = folder
        self._parts = parts
        self._key = key
        for part in self._parts:
            self._check(part)

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self._parts)

    def _check(self, part: Part) -> None:
        try:
            digest = file_digest(self._folder / part.name)
        except FileNotFoundError as error:
            raise StorageFailed(
                "A worker's part is not in the scratch folder.",
                field=part.digest,
                next_step="Driver and executors must share the scratch folder; mount it everywhere.",
            ) from error
        if digest != part.digest:
            raise ArtifactCorrupt(
                "A worker's part holds other bytes than were written.",
                field=part.digest,
                next_step="Check the scratch folder's disk, then run it again.",
            )

    def blocks(self) -> Iterator[pa.Table]:
        """All rows, sorted: tables whose keys follow each other."""
        opened = []
        try:
            for part in self._parts:
                source = pa.OSFile(str(self._folder / part.name), "rb")
                opened.append((part, source, pa.ipc.open_file(source)))
            for number in range(BUCKETS):
                pieces = [
                    reader.get_batch(place)
                    for part, _, reader in opened
                    for place, bucket in enumerate(part.buckets)
                    if bucket == number
                ]
                if pieces:
                    yield sorted_table(pa.Table.from_batches(pieces), self._key)[0]
        finally:
            for _, source, _ in opened:
                source.close()
