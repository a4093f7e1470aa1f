from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from ml_platform.core.errors import DeclarationError, StorageFailed
from ml_platform.features import Entity, FeatureView, Source, count, sum_
from ml_platform.features.parts import change_parts
from ml_platform.features.windows import all_changes
from ml_platform.testing.histories import VIEWS, history, table
from tests.features.support import same, times


def in_order(changes: pa.Table) -> list[tuple[Any, ...]]:
    return sorted((tuple(row.values()) for row in changes.to_pylist()), key=repr)


@pytest.mark.parametrize("name", ["exact", "refreshed", "two_keys", "months"])
@pytest.mark.parametrize("parts", [1, 5])
def test_parts_hold_the_change_points_of_the_whole(name: str, parts: int, tmp_path: Path) -> None:
    view, random = VIEWS[name], Random(11)
    rows = table([row for place in range(40) for row in history(random, view, place)])
    pq.write_table(rows, tmp_path / "rows.parquet", row_group_size=50)
    folder = tmp_path / "it's here"
    folder.mkdir()
    made = list(change_parts(view, ds.dataset(tmp_path / "rows.parquet"), parts=parts, folder=folder, threads=2))
    assert len(made) == parts
    assert in_order(pa.concat_tables(made)) == in_order(all_changes(view, rows))
    keys = [{tuple(row[key] for key in view.entity.keys) for row in part.to_pylist()} for part in made]
    assert sum(map(len, keys)) == len(set().union(*keys))


def test_facts_of_one_version_need_no_order(tmp_path: Path) -> None:
    source = Source(
        "paid", columns={"k": "int64", "at": "timestamp", "n": "int64"}, keys=("k",), event_time="at", known_time=same()
    )
    view = FeatureView(
        "v",
        entity=Entity("k", ("k",)),
        source=source,
        aggregations=[count(over="5s"), sum_("n", over="5s")],
        refresh="1s",
    )
    rows = source.conform(pa.table({"k": [1, 2, 1], "at": times([0, 1_000_000, 2_000_000]), "n": [1, 2, 3]}))
    made = list(change_parts(view, rows, parts=2, folder=tmp_path))
    assert in_order(pa.concat_tables(made)) == in_order(all_changes(view, rows))


def test_no_rows_have_no_parts(tmp_path: Path) -> None:
    assert list(change_parts(VIEWS["exact"], table([]), parts=3, folder=tmp_path)) == []


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    rows = table(history(Random(1), VIEWS["exact"], 0))
    with pytest.raises(StorageFailed):
        list(change_parts(VIEWS["exact"], rows, parts=2, folder=tmp_path / "file"))


def test_columns_and_no_parts_are_refused(tmp_path: Path) -> None:
    for view, parts, field in ((VIEWS["held"], 2, "held"), (VIEWS["exact"], 0, "parts")):
        with pytest.raises(DeclarationError) as caught:
            list(change_parts(view, table([]), parts=parts, folder=tmp_path))
        assert caught.value.field == field
