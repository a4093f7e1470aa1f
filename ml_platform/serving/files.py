"""A window's rows in files of others: Parquet, or Arrow's own format; read in pieces, here or by workers elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from ml_platform.core.errors import DataError, NotFound

__all__ = ["PIECE_COLUMNS", "RowFiles", "pieces_of", "read_pieces"]

PIECE_COLUMNS: Final = "path string, first long, last long"
_BATCH_ROWS: Final = 65_536


@dataclass(frozen=True)
class RowFiles:
    """The rows of Parquet files, which may be many and large; every file has the columns of the contract.

    Args:
        paths: as whoever reads them reaches them.
    """

    paths: tuple[Path, ...]

    @classmethod
    def of(cls, paths: Iterable[Path | str]) -> RowFiles:
        return cls(tuple(Path(path) for path in paths))

    def count(self) -> int:
        """How many rows they hold, by what they say of themselves.

        Raises:
            DataError, NotFound: a file cannot be read.
        """
        return sum(_metadata(path).num_rows for path in self.paths)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for path in self.paths:
            yield from read_pieces(
                [{"path": str(path), "first": 0, "last": _metadata(path).num_row_groups}], _BATCH_ROWS
            )


def pieces_of(paths: Sequence[Path], rows: int) -> list[tuple[str, int, int]]:
    """Pieces of about ``rows`` rows, of whole row groups: path, first row group, and the one after the last.

    Raises:
        DataError, NotFound: a file cannot be read.
    """
    found: list[tuple[str, int, int]] = []
    for path in paths:
        if path.suffix == ".arrow":
            found.append((str(path), 0, 1))
            continue
        file = _metadata(path)
        first = held = 0
        for group in range(file.num_row_groups):
            held += file.row_group(group).num_rows
            if held >= rows:
                found.append((str(path), first, group + 1))
                first, held = group + 1, 0
        if first < file.num_row_groups or not file.num_row_groups:
            found.append((str(path), first, file.num_row_groups))
    return found


def read_pieces(pieces: Iterable[Mapping[str, Any]], rows: int) -> Iterator[pa.RecordBatch]:
    """The rows of pieces, in batches of at most ``rows``; a piece without rows gives its columns.

    Raises:
        DataError: a file is torn, or none of its kind.
        NotFound: there is no such file.
    """
    for piece in pieces:
        path = Path(piece["path"])
        with _reading(path):
            batches = _arrow(path) if path.suffix == ".arrow" else _parquet(path, piece["first"], piece["last"], rows)
            yield from batches


def _metadata(path: Path) -> pq.FileMetaData:
    with _reading(path):
        return pq.read_metadata(path)


def _parquet(path: Path, first: int, last: int, rows: int) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path, pre_buffer=False) as file:
        empty = True
        for batch in file.iter_batches(rows, row_groups=list(range(first, last))):
            empty = False
            yield batch
        if empty:
            yield pa.RecordBatch.from_pylist([], schema=file.schema_arrow)


def _arrow(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.OSFile(str(path), "rb") as source, pa.ipc.open_stream(source) as stream:
        yield from stream


class _reading:  # noqa: N801 - reads as a word in `with`
    """Turns errors of reading a file into ours; their text may hold a value."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> None:
        if isinstance(error, FileNotFoundError):
            raise NotFound("There is no such file.", field=self._path.name, next_step="Check the path.") from error
        if isinstance(error, OSError | pa.ArrowInvalid):
            raise DataError(
                "The file cannot be read: it is torn, or not Parquet.",
                field=self._path.name,
                next_step="Deliver it again; nothing was written.",
            ) from None
