from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml_platform.core.errors import DataError, DuplicateKeys, NotEnoughData, Tampered
from ml_platform.training.evaluation_table import EvaluationTable
from tests.training.cases import leaf

LEAVES = [leaf(row) for row in range(5)]


def build(**changes) -> EvaluationTable:
    values = {
        "score": np.array([0.1, 0.2, 0.3, 0.4, 0.5], np.float32),
        "native_score": np.array([0.1, 0.2, 0.3, 0.4, 0.5]),
        "label": np.array([0, 1, 0, 1, 0]),
        "groups": {"group": ["a", None, "b", "a", "b"]},
        "baseline_score": np.array([0.1, np.nan, 0.3, 0.4, 0.5], np.float32),
    }
    return EvaluationTable.build(changes.pop("row_leaf", LEAVES), **{**values, **changes})


def test_rows_stand_by_leaf_and_columns_have_fixed_types():
    table = build().table
    assert table.column("row_leaf").to_pylist() == sorted(LEAVES)
    assert {field.name: str(field.type) for field in table.schema} == {
        "row_leaf": "fixed_size_binary[32]",
        "score": "float",
        "native_score": "double",
        "label": "int64",
        "baseline_score": "float",
        "group_group": "string",
    }
    by_leaf = dict(zip(table.column("row_leaf").to_pylist(), table.column("group_group").to_pylist(), strict=True))
    assert [by_leaf[one] for one in LEAVES] == ["a", None, "b", "a", "b"]


def test_stored_bytes_give_the_same_table():
    table = build()
    again = EvaluationTable.from_parquet(table.to_parquet())
    assert again.table.equals(table.table)
    assert again.digest == table.digest
    assert table.to_parquet() == again.to_parquet()
    assert again.attributes == ("group",)
    assert np.isnan(again.baseline_scores).sum() == 1


def test_the_digest_does_not_depend_on_how_a_file_is_written():
    table = build()
    sink = pa.BufferOutputStream()
    pq.write_table(table.table, sink, row_group_size=2, compression="none", use_dictionary=False)
    assert EvaluationTable.from_parquet(bytes(sink.getvalue())).digest == table.digest


def change(values, place, value):
    values = np.array(values)
    values[place] = value
    return values


@pytest.mark.parametrize(
    "changes",
    [
        {"row_leaf": [leaf(9), *LEAVES[1:]]},
        {"score": change([0.1, 0.2, 0.3, 0.4, 0.5], 1, 0.25)},
        {"native_score": change([0.1, 0.2, 0.3, 0.4, 0.5], 1, np.nextafter(0.2, 1))},
        {"label": np.array([1, 1, 0, 1, 0])},
        {"groups": {"group": ["b", None, "b", "a", "b"]}},
        {"groups": {"group": ["a", "", "b", "a", "b"]}},
        {"groups": {"other": ["a", None, "b", "a", "b"]}},
        {"groups": None},
        {"baseline_score": None},
        {"baseline_score": np.array([0.1, 0.2, 0.3, 0.4, 0.5], np.float32)},
    ],
)
def test_every_cell_is_in_the_digest(changes):
    assert build(**changes).digest != build().digest


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"row_leaf": [LEAVES[0], *LEAVES[:4]]}, DuplicateKeys),
        ({"row_leaf": [b"short", *LEAVES[1:]]}, DataError),
        ({"row_leaf": [None, *LEAVES[1:]]}, DataError),
        ({"row_leaf": LEAVES[:4]}, DataError),
        ({"score": np.array([0.1, np.nan, 0.3, 0.4, 0.5])}, DataError),
        ({"score": np.array([0.1, np.inf, 0.3, 0.4, 0.5])}, DataError),
        ({"native_score": np.array([0.1, np.nan, 0.3, 0.4, 0.5])}, DataError),
        ({"baseline_score": np.array([0.1, np.inf, 0.3, 0.4, 0.5])}, DataError),
        ({"label": np.array([0, 1, 2, 0, 0])}, DataError),
        ({"groups": {"group": ["a"]}}, DataError),
    ],
)
def test_what_is_wrong_is_refused(changes, error):
    with pytest.raises(error):
        build(**changes)


def test_no_rows_are_not_enough():
    with pytest.raises(NotEnoughData):
        EvaluationTable.build([], score=np.array([]), native_score=np.array([]), label=np.array([]))


@pytest.mark.parametrize("damage", [lambda raw: b"", lambda raw: raw[:-20], lambda raw: b"no parquet"])
def test_bytes_that_are_no_table_are_refused(damage):
    with pytest.raises(Tampered):
        EvaluationTable.from_parquet(damage(build().to_parquet()))


def test_a_table_that_lacks_a_column_is_refused():
    sink = pa.BufferOutputStream()
    pq.write_table(build().table.drop(["label"]), sink)
    with pytest.raises(Tampered):
        EvaluationTable.from_parquet(bytes(sink.getvalue()))
