from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ml_platform.serving.building import binary_column
from ml_platform.serving.spool import Spool, binary_matrix, sorted_order


def ids(rows: int, seed: int) -> np.ndarray:
    matrix = np.random.default_rng(seed).integers(0, 256, (rows, 16), dtype=np.uint8)
    matrix[:, :6] = 7
    matrix[:, 6] = matrix[:, 6] & 0x0F | 0x80
    return matrix


def table(matrix: np.ndarray) -> pa.Table:
    return pa.table({"id": binary_column(matrix, 16), "word": [row.tobytes().hex() for row in matrix]})


def drained(spool: Spool) -> list[str]:
    found: list[str] = []
    for block in spool.blocks():
        assert [raw.hex() for raw in block.column("id").to_pylist()] == block.column("word").to_pylist()
        found += block.column("word").to_pylist()
    return found


@pytest.mark.parametrize(("rows", "limit"), [(0, 10), (1, 10), (10, 10), (11, 10), (3000, 100), (3000, 10_000)])
def test_rows_come_out_sorted_whether_or_not_they_were_spilled(tmp_path: Path, rows: int, limit: int) -> None:
    matrix = ids(rows, 5)
    spool = Spool(tmp_path, "id", at=6, skip=4, limit=limit)
    for start in range(0, rows, 100):
        spool.append(table(matrix[start : start + 100]))
    assert spool.rows == rows
    assert drained(spool) == sorted(row.tobytes().hex() for row in matrix)
    assert list(tmp_path.iterdir()) == []


def test_small_chunks_wait_for_each_other_and_the_last_ones_are_not_forgotten(tmp_path: Path) -> None:
    matrix = ids(1_003, 6)
    spool = Spool(tmp_path, "id", at=6, skip=4, limit=100)
    for start in range(0, 1_003, 7):
        spool.append(table(matrix[start : start + 7]))
    assert drained(spool) == sorted(row.tobytes().hex() for row in matrix)
    assert list(tmp_path.iterdir()) == []


def test_a_key_without_a_common_prefix_is_spilled_by_its_first_bytes(tmp_path: Path) -> None:
    matrix = np.random.default_rng(2).integers(0, 256, (500, 16), dtype=np.uint8)
    spool = Spool(tmp_path, "id", at=0, skip=0, limit=50)
    for start in range(0, 500, 50):
        spool.append(table(matrix[start : start + 50]))
    assert len(list(tmp_path.iterdir())) > 32
    assert drained(spool) == sorted(row.tobytes().hex() for row in matrix)


@pytest.mark.parametrize("width", [8, 16, 32])
def test_order_is_that_of_bytes_with_ties_in_the_first_eight(width: int) -> None:
    matrix = np.random.default_rng(1).integers(0, 3, (400, width), dtype=np.uint8) * 127
    ordered = matrix[sorted_order(matrix)]
    assert [row.tobytes() for row in ordered] == sorted(row.tobytes() for row in matrix)


def test_high_bytes_sort_after_low_ones() -> None:
    matrix = np.array([[255] * 8, [1] * 8, [128] * 8, [127] * 8], np.uint8)
    assert sorted_order(matrix).tolist() == [1, 3, 2, 0]


def test_a_slice_of_a_binary_column_is_its_own_rows() -> None:
    matrix = ids(10, 3)
    column = pa.chunked_array([binary_column(matrix[:4], 16), binary_column(matrix[4:], 16)])
    assert (binary_matrix(column.slice(3, 4), 16) == matrix[3:7]).all()
    assert (binary_matrix(binary_column(matrix, 16).slice(2, 3), 16) == matrix[2:5]).all()


def test_a_full_disk_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    spool = Spool(tmp_path / "file" / "deeper", "id", at=6, skip=4, limit=1)
    with pytest.raises(OSError):  # noqa: PT011 - the kind of OSError is the disk's
        spool.append(table(ids(10, 1)))
    spool.close()
