"""Rows in files: pieces that are every row once, and errors that name the file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core.errors import DataError, NotFound
from ml_platform.serving.files import RowFiles, pieces_of, read_pieces

EMPTY = pa.RecordBatch.from_pydict({"number": pa.array([], pa.int64())})


def numbers(first: int, rows: int) -> pa.Table:
    return pa.table({"number": pa.array(range(first, first + rows), pa.int64())})


def read(pieces: list[tuple[str, int, int]]) -> list[int]:
    named = [dict(zip(("path", "first", "last"), piece, strict=True)) for piece in pieces]
    return [number for batch in read_pieces(named, 7) for number in batch.column(0).to_pylist()]


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(0, 40), max_size=4), group=st.integers(1, 12), rows=st.integers(1, 50))
def test_pieces_are_every_row_once_in_order(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], group: int, rows: int
) -> None:
    folder, first = tmp_path_factory.mktemp("files"), 0
    paths = []
    for number, size in enumerate(sizes):
        paths.append(folder / f"{number}.parquet")
        pq.write_table(numbers(first, size), paths[-1], row_group_size=group)
        first += size
    pieces = pieces_of(paths, rows)
    assert read(pieces) == list(range(first))
    for piece in pieces:
        assert len(read([piece])) < rows + group  # no piece is larger than asked for by more than its last row group
    assert RowFiles.of(paths).count() == first
    assert [number for batch in RowFiles.of(paths) for number in batch.column(0).to_pylist()] == list(range(first))


def test_a_file_without_rows_still_gives_its_columns(tmp_path: Path) -> None:
    pq.write_table(numbers(0, 0), tmp_path / "none.parquet")
    (batch,) = RowFiles.of([tmp_path / "none.parquet"])
    assert (batch.num_rows, batch.schema.names) == (0, ["number"])
    with pq.ParquetWriter(tmp_path / "empty_group.parquet", numbers(0, 0).schema) as writer:
        writer.write_batch(EMPTY)
    for name in ("none", "empty_group"):
        assert len(pieces_of([tmp_path / f"{name}.parquet"], 5)) == 1


def test_a_file_that_is_not_there_or_not_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("number\n1\n")
    for ask in (list, lambda files: files.count(), lambda files: pieces_of(files.paths, 5)):
        with pytest.raises(DataError, match=r"text\.parquet"):
            ask(RowFiles.of([tmp_path / "text.parquet"]))
        with pytest.raises(NotFound, match=r"gone\.parquet"):
            ask(RowFiles.of([tmp_path / "gone.parquet"]))
