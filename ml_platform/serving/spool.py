"""Sorting more rows than fit in memory: sorted chunks, spilled into buckets of their key, read back bucket by bucket.

Keys are uniform (they come from HMACs), so buckets are even; memory holds one chunk, or one bucket, at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["BUCKETS", "Spool", "binary_matrix", "in_buckets", "sorted_order", "sorted_table"]

BUCKETS: Final = 64


def binary_matrix(column: pa.ChunkedArray[Any] | pa.Array[Any], width: int) -> npt.NDArray[np.uint8]:
    """A fixed-size binary column without nulls as [n, width] bytes."""
    array: Any = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    raw = np.frombuffer(array.buffers()[1], np.uint8)
    return raw[array.offset * width : (array.offset + len(array)) * width].reshape(len(array), width)


def sorted_order(matrix: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """The order that sorts rows of bytes [n, width ≥ 8] as ``memcmp`` does.

    Eight bytes from the first that differs between rows decide, but for the ties among them.
    """
    rows, width = matrix.shape
    varying = (column for column in range(width - 8) if rows and (matrix[:, column] != matrix[0, column]).any())
    at = next(varying, width - 8)
    word = np.ascontiguousarray(matrix[:, at : at + 8]).view(">u8").ravel().astype(np.uint64)
    order = np.argsort(word)
    ordered = word[order]
    if (ordered[1:] != ordered[:-1]).all():
        return np.asarray(order, np.int64)
    return np.asarray(np.lexsort(matrix.T[::-1]), np.int64)


def sorted_table(table: pa.Table, key: str) -> tuple[pa.Table, npt.NDArray[np.uint8]]:
    """The rows in the order of their key, and the keys [n, width]."""
    matrix = binary_matrix(table.column(key), int(table.schema.field(key).type.byte_width))
    order = sorted_order(matrix)
    return table.take(order), matrix[order]


def in_buckets(table: pa.Table, key: str, *, at: int, skip: int) -> Iterator[tuple[int, pa.Table]]:
    """The sorted rows of each bucket that has any; see ``Spool`` for ``at`` and ``skip``."""
    ordered, matrix = sorted_table(table, key)
    word = matrix[:, at].astype(np.uint16) << 8 | matrix[:, at + 1]
    bucket = (word << skip & 0xFFFF) >> 10
    edges = np.searchsorted(bucket, np.arange(BUCKETS + 1))
    for number in range(BUCKETS):
        start, stop = int(edges[number]), int(edges[number + 1])
        if stop > start:
            yield number, ordered.slice(start, stop - start)


@dataclass
class Spool:
    """Rows by a fixed-size binary key column, in any order in, sorted out.

    Args:
        folder: for the spilled buckets; made when needed.
        key: the key column, ``binary(width)`` without nulls, width 8 or more.
        at: the offset of the two key bytes that choose the bucket; the bytes before ``at`` are equal in all keys but
            for the four bits that ``skip`` masks out.
        skip: how many leading bits of those two bytes are equal in all keys.
        limit: rows kept in memory before anything is spilled; small chunks wait for each other.
    """

    folder: Path
    key: str
    at: int
    skip: int
    limit: int
    rows: int = 0
    _memory: list[pa.Table] = field(default_factory=list)
    _files: dict[int, pa.ipc.RecordBatchStreamWriter] = field(default_factory=dict)
    _spilled: bool = False
    _waiting: int = 0

    def append(self, table: pa.Table) -> None:
        """Adds a chunk.

        Raises:
            OSError: the disk is full.
        """
        self.rows += table.num_rows
        self._memory.append(table)
        self._waiting += table.num_rows
        if self.rows > self.limit and (self._waiting >= self.limit or not self._spilled):
            self._flush()

    def _flush(self) -> None:
        """Large chunks are sorted one by one, small ones together: a bucket gets few pieces, not many tiny ones."""
        self._spilled = True
        large = max(table.num_rows for table in self._memory) * 2 > self.limit
        for table in self._memory if large else [pa.concat_tables(self._memory)]:
            self._spill(table)
        self._memory.clear()
        self._waiting = 0

    def _spill(self, table: pa.Table) -> None:
        for number, piece in in_buckets(table, self.key, at=self.at, skip=self.skip):
            self._file(number, table.schema).write_table(piece)

    def _path(self, number: int) -> Path:
        return self.folder / f"{self.key}-{number:02d}.arrow"

    def _file(self, number: int, schema: pa.Schema) -> pa.ipc.RecordBatchStreamWriter:
        if number not in self._files:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._files[number] = pa.ipc.new_stream(str(self._path(number)), schema)
        return self._files[number]

    def blocks(self) -> Iterator[pa.Table]:
        """All rows, sorted: tables whose keys follow each other. Spilled files are removed as they are read."""
        if not self._spilled:
            if self.rows:
                yield sorted_table(pa.concat_tables(self._memory), self.key)[0]
            return
        if self._waiting:
            self._flush()
        for writer in self._files.values():
            writer.close()
        for number in sorted(self._files):
            with pa.OSFile(str(self._path(number)), "rb") as stream:
                table = pa.ipc.open_stream(stream).read_all()
            self._path(number).unlink()
            yield sorted_table(table, self.key)[0]

    def close(self) -> None:
        """Closes what is open; the folder is the caller's to remove."""
        for writer in self._files.values():
            try:
                writer.close()
            except (OSError, pa.ArrowInvalid):
                continue  # the disk is full or it is closed: the first error is the one to report
        self._memory.clear()
