"""Parts that other processes wrote: sorted out, whole or refused, named by what is in them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from ml_platform.core.errors import ArtifactCorrupt, StorageFailed
from ml_platform.serving.spool_parts import Part, PartsReader, PartWriter
from tests.serving.test_spool import drained, ids, table


def written(folder: Path, matrix: np.ndarray, chunk: int = 100) -> Part:
    writer = PartWriter(folder, "id", at=6, skip=4)
    for start in range(0, len(matrix), chunk):
        writer.append(table(matrix[start : start + chunk]))
    part = writer.finish()
    writer.abandon()
    assert part is not None
    return part


@pytest.mark.parametrize("sizes", [[1], [700], [5, 700, 30], [3000, 1]])
def test_the_rows_of_all_parts_come_out_sorted(tmp_path: Path, sizes: list[int]) -> None:
    matrix = ids(sum(sizes), 5)
    edges = np.cumsum([0, *sizes])
    parts = [written(tmp_path, matrix[start:stop]) for start, stop in pairwise(edges)]
    reader = PartsReader(tmp_path, parts, "id")
    assert reader.rows == len(matrix)
    assert drained(reader) == sorted(row.tobytes().hex() for row in matrix)  # type: ignore[arg-type]


def test_no_parts_are_no_rows(tmp_path: Path) -> None:
    reader = PartsReader(tmp_path, [], "id")
    assert (reader.rows, list(reader.blocks())) == (0, [])


def test_a_second_try_writes_the_same_file_and_one_that_was_given_up_leaves_none(tmp_path: Path) -> None:
    matrix = ids(300, 7)
    first = written(tmp_path, matrix)
    assert written(tmp_path, matrix) == first
    given_up = PartWriter(tmp_path, "id", at=6, skip=4)
    given_up.append(table(matrix))
    given_up.abandon()
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


def test_a_writer_without_rows_makes_no_part(tmp_path: Path) -> None:
    writer = PartWriter(tmp_path, "id", at=6, skip=4)
    assert writer.finish() is None
    writer.abandon()
    assert list(tmp_path.iterdir()) == []


def test_a_torn_part_is_not_read(tmp_path: Path) -> None:
    part = written(tmp_path, ids(300, 8))
    whole = (tmp_path / part.name).read_bytes()
    for torn in (whole[:-1], whole[:200] + b"\x00" + whole[201:], b""):
        (tmp_path / part.name).write_bytes(torn)
        with pytest.raises(ArtifactCorrupt):
            PartsReader(tmp_path, [part], "id")


def test_a_part_that_is_elsewhere_says_that_the_folder_must_be_shared(tmp_path: Path) -> None:
    part = written(tmp_path, ids(10, 9))
    with pytest.raises(StorageFailed, match="share the scratch folder"):
        PartsReader(tmp_path / "other", [part], "id")
