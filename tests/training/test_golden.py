from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.core.contract import Contract, ResolvedField
from ml_platform.core.errors import ArtifactCorrupt, DataError
from ml_platform.profiles.profile import NumberProfile
from ml_platform.training.golden import GOLDEN_ROWS, Golden, golden_matrix, make_golden, matrix_edges
from ml_platform.training.onnx_surcharge import with_surcharge
from ml_platform.training.onnxruntime import OnnxModel
from tests.serving.support import CONTRACT, train


def number(name: str, **how) -> ResolvedField:
    return ResolvedField(name, f"v@sha256:00:{name}", "input", "number", "float64", **how)


def category(name: str, *categories: str, **how) -> ResolvedField:
    return ResolvedField(name, f"v@sha256:00:{name}", "input", "category", "string", categories=categories, **how)


def contract(*fields: ResolvedField) -> Contract:
    return Contract((("id", "int64"),), "at", fields)


@pytest.fixture(scope="module")
def onnx() -> bytes:
    return train()["model.onnx"]


def test_rows_are_distinct_and_the_same_every_time():
    edges = {"amount": [1.0, 2.0, 3.0]}
    matrix = golden_matrix(CONTRACT, edges)
    assert matrix.dtype == np.float32
    assert 16 < len(matrix) <= GOLDEN_ROWS
    assert len({row.tobytes() for row in matrix}) == len(matrix)
    assert matrix.tobytes() == golden_matrix(CONTRACT, edges).tobytes()


def test_every_bin_category_null_and_unknown_is_in_some_row():
    fields = (
        number("a", nullable=True),
        category("b", "x", "y", "z"),
        category("c", "x", on_unknown="flag"),
        number("d", on_null="flag"),
        number("e"),
    )
    matrix = golden_matrix(contract(*fields), {"a": [1.0, 2.0]})
    a, b, c, d, e = matrix.T
    assert {0.0, 1.0, 2.0, 3.0} == set(a[~np.isnan(a)].tolist())  # beyond the edges on both sides too
    assert set(b.tolist()) == {0.0, 1.0, 2.0}
    assert set(c[~np.isnan(c)].tolist()) == {0.0}
    assert [bool(np.isnan(column).any()) for column in (a, b, c, d, e)] == [True, False, True, True, False]


@pytest.mark.parametrize(("policy", "low", "high"), [("reject", 0.0, 2.0), ("flag", -1.0, 3.0), ("default", 0.0, 2.0)])
def test_values_out_of_range_are_there_only_where_the_contract_lets_them_through(policy, low, high):
    matrix = golden_matrix(contract(number("a", range=(0.0, 2.0), on_range=policy, default=1.0)), {"a": [1.0, 2.0]})
    assert (matrix.min(), matrix.max()) == (low, high)
    assert {0.0, 2.0} <= set(matrix[:, 0].tolist())  # the ends of the range themselves


@given(
    edges=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), max_size=9).map(sorted),
    categories=st.integers(1, 60),
    nullable=st.booleans(),
)
def test_any_contract_gives_rows_that_survive_their_document(edges, categories, nullable):
    names = [f"c{code}" for code in range(categories)]
    one = contract(number("a", nullable=nullable), category("b", *names, nullable=nullable))
    matrix = golden_matrix(one, {"a": edges})
    golden = Golden(one.digest, matrix, np.arange(len(matrix), dtype=np.float32) / 3)
    again = Golden.from_bytes(golden.to_bytes())
    assert again.matrix.tobytes() == matrix.tobytes()
    assert again.scores.tobytes() == golden.scores.tobytes()
    assert (matrix[:, 1][~np.isnan(matrix[:, 1])] < categories).all()
    assert np.isnan(matrix).any() == nullable


def test_scores_are_those_of_the_onnx_and_compared_bit_by_bit(onnx):
    golden = make_golden(CONTRACT, onnx)
    assert golden.scores.tobytes() == OnnxModel(onnx).scores(golden.matrix).tobytes()
    assert golden.same_scores(golden.scores.reshape(-1, 1))
    for place in (0, len(golden.scores) - 1):
        other = golden.scores.copy()
        other[place] = np.nextafter(other[place], np.float32(1))
        assert not golden.same_scores(other)
    assert not golden.same_scores(golden.scores[:-1])
    assert not golden.same_scores(golden.scores.astype(np.float64))


def test_the_edges_are_those_of_the_reference_profile():
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(500, 7)).astype(np.float32)
    matrix[rng.random(matrix.shape) < 0.1] = np.nan
    edges = matrix_edges(CONTRACT, matrix)
    for place, item in enumerate(CONTRACT.fields):
        if item.kind == "number":
            assert tuple(edges[item.name]) == NumberProfile.of(matrix[:, place].astype(np.float64)).edges
    assert set(edges) == {item.name for item in CONTRACT.fields if item.kind == "number"}
    assert "amount" not in matrix_edges(CONTRACT, np.full((3, 7), np.nan, np.float32))


def test_no_row_holds_a_value_of_the_training_part():
    rng = np.random.default_rng(4)
    matrix = rng.normal(size=(500, 1)).astype(np.float32)
    one = contract(number("a"))
    rows = golden_matrix(one, matrix_edges(one, matrix))
    assert not set(rows[:, 0].tolist()) & set(matrix[:, 0].tolist())


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: b"",
        lambda raw: raw[:-1],
        lambda raw: raw.replace(b"golden/1", b"golden/2"),
        lambda raw: raw.replace(b'"scores":[', b'"scores":[0.5,'),
        lambda raw: raw.replace(b'"contract":"', b'"contract": "'),
        lambda raw: raw.replace(b'"contract":"', b'"contract":7,"x":"'),
        lambda raw: raw.replace(b'"rows":', b'"others":'),
        lambda raw: b'{"contract":"sha256:0","format":"ml-platform/golden/1","rows":[],"scores":[]}',
        lambda raw: b"[]",
    ],
)
def test_a_damaged_part_is_no_golden_rows(onnx, change):
    raw = make_golden(CONTRACT, onnx).to_bytes()
    with pytest.raises(ArtifactCorrupt, match="golden"):
        Golden.from_bytes(change(raw))


def test_a_contract_that_changes_changes_the_rows():
    wider = replace(CONTRACT, fields=(*CONTRACT.fields, number("extra")))
    assert golden_matrix(wider, {}).shape[1] == len(CONTRACT.fields) + 1


def test_rows_without_a_finite_score_are_left_out_and_a_model_of_none_is_refused(onnx):
    place = CONTRACT.names.index("income")  # may be missing: then so is the surcharge, and the score
    made = make_golden(CONTRACT, with_surcharge(onnx, place, 1e-9))
    all_rows = golden_matrix(CONTRACT, {})
    assert 0 < len(made.matrix) == np.count_nonzero(~np.isnan(all_rows[:, place])) < len(all_rows)
    assert np.isfinite(made.scores).all()
    assert Golden.from_bytes(made.to_bytes()).to_bytes() == made.to_bytes()
    with pytest.raises(DataError, match="no row a finite score"):
        make_golden(CONTRACT, with_surcharge(onnx, place, float("nan")))
