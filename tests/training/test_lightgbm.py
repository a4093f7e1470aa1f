from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from ml_platform.core.errors import ArtifactCorrupt, DeclarationError
from ml_platform.training.lightgbm import LightGBM
from ml_platform.training.lightgbm_text import parse, strip_parameters
from ml_platform.training.trainer import Explains, RunContext
from tests.training import cases

lightgbm = pytest.importorskip("lightgbm", reason="LightGBM is not installed (extra: lightgbm)")

SMALL = LightGBM(num_leaves=7, learning_rate=0.1, rounds=15, min_data_in_leaf=20)
FRESH = """
import hashlib
from ml_platform.training.lightgbm import LightGBM
from ml_platform.training.trainer import RunContext
from tests.training import cases
trainer = LightGBM(num_leaves=7, learning_rate=0.1, rounds=15, min_data_in_leaf=20)
native = trainer.fit(cases.data(), RunContext(3, {threads}))
print(hashlib.sha256(native).hexdigest(), hashlib.sha256(trainer.to_onnx(native, cases.contract())).hexdigest())
"""


@pytest.fixture(scope="module")
def native() -> bytes:
    return SMALL.fit(cases.data(), RunContext(3, 1))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_fresh_process_makes_the_same_bytes_with_any_thread_count(native, repository, threads):
    done = subprocess.run(
        [sys.executable, "-c", FRESH.format(threads=threads)],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    )
    onnx = SMALL.to_onnx(native, cases.contract())
    assert done.stdout.split() == [hashlib.sha256(raw).hexdigest() for raw in (native, onnx)]


def test_the_stored_model_has_no_parameters_and_still_predicts_the_same(native):
    assert b"parameters" not in native
    assert b"num_threads" not in native
    data = cases.data()
    rows = lightgbm.Dataset(data.matrix, data.labels, categorical_feature=[2])
    booster = lightgbm.train({"objective": "binary", "verbosity": -1}, rows, 3)
    full = booster.model_to_string()
    assert "parameters" in full
    again = lightgbm.Booster(model_str=strip_parameters(full))
    np.testing.assert_array_equal(again.predict(data.matrix), booster.predict(data.matrix))
    assert strip_parameters(strip_parameters(full)) == strip_parameters(full)


def test_declared_parameters_reach_the_trees(native):
    model = parse(native.decode())
    assert len(model.trees) == SMALL.rounds
    assert max(len(tree.leaf_values) for tree in model.trees) == SMALL.num_leaves
    more = LightGBM(num_leaves=7, learning_rate=0.1, rounds=15, min_data_in_leaf=20, lambda_l2=50)
    assert more.fit(cases.data(), RunContext(3)) != native


def test_categories_are_split_as_categories(native):
    model = parse(native.decode())
    kinds = {(tree.features[n], tree.is_categorical(n)) for tree in model.trees for n in range(len(tree.features))}
    assert (2, True) in kinds
    assert (2, False) not in kinds


def test_scores_are_probabilities_of_rounded_rows(native):
    matrix = cases.data().matrix
    scores = SMALL.predict(native, matrix)
    assert scores.dtype == np.float64
    assert ((scores > 0) & (scores < 1)).all()
    np.testing.assert_array_equal(SMALL.predict(native, matrix.astype(np.float64)), scores)
    assert SMALL.predict(native, matrix[:0]).shape == (0,)


def test_contributions_add_up_to_the_raw_score(native):
    assert isinstance(SMALL, Explains)
    matrix = cases.data().matrix[:200]
    parts = SMALL.contributions(native, matrix)
    scores = SMALL.predict(native, matrix)
    assert parts.shape == (200, 5)
    np.testing.assert_allclose(parts.sum(axis=1), np.log(scores / (1 - scores)), atol=1e-9)
    assert np.ptp(parts[:, -1]) == 0
    assert SMALL.contributions(native, matrix[:0]).shape == (0, 5)


def test_contributions_that_do_not_add_up_are_refused(native, monkeypatch):
    class Lying:
        def __init__(self, model_str):
            self.inner = booster(model_str=model_str)

        def predict(self, matrix, **asked):
            return self.inner.predict(matrix, **asked) + (1e-6 if "pred_contrib" in asked else 0)

    from ml_platform.core.errors import DataError
    from ml_platform.training import lightgbm as ours

    booster = lightgbm.Booster
    monkeypatch.setattr(lightgbm, "Booster", Lying)
    monkeypatch.setattr(ours, "_booster", ours._booster.__wrapped__)  # past the models that are loaded already
    with pytest.raises(DataError, match="add up"):
        SMALL.contributions(native, cases.data().matrix[:5])


def test_a_specification_says_everything_and_gives_the_trainer_back():
    assert LightGBM.from_spec(SMALL.spec()) == SMALL
    assert SMALL.spec()["trainer"] == "lightgbm"
    assert SMALL.spec() != LightGBM(rounds=16).spec()
    assert LightGBM(learning_rate=1).spec() == LightGBM(learning_rate=1.0).spec()
    with pytest.raises(DeclarationError):
        LightGBM.from_spec({**SMALL.spec(), "trainer": "other"})
    with pytest.raises(DeclarationError):
        LightGBM.from_spec({"trainer": "lightgbm", "rounds": 3})


@pytest.mark.parametrize(
    "wrong",
    [
        {"objective": "regression"},
        {"num_leaves": 1},
        {"num_leaves": 7.0},
        {"num_leaves": 131_073},
        {"rounds": 0},
        {"rounds": True},
        {"min_data_in_leaf": 0},
        {"learning_rate": 0},
        {"learning_rate": 1.01},
        {"learning_rate": "fast"},
        {"learning_rate": float("nan")},
        {"lambda_l2": -1},
    ],
)
def test_an_impossible_parameter_is_named_when_declared(wrong):
    with pytest.raises(DeclarationError, match=next(iter(wrong))):
        LightGBM(**wrong)


def test_the_ends_of_parameters_are_possible():
    assert LightGBM(num_leaves=2, learning_rate=1, rounds=1, min_data_in_leaf=1, lambda_l2=0).rounds == 1
    assert LightGBM(num_leaves=131_072, rounds=100_000).num_leaves == 131_072


def test_another_objective_or_other_bytes_are_refused(native):
    data = cases.data()
    rows = lightgbm.Dataset(data.matrix, data.labels)
    other = lightgbm.train({"objective": "regression", "verbosity": -1}, rows, 2).model_to_string()
    with pytest.raises(DeclarationError, match="objective"):
        parse(other)
    scaled = native.decode().replace("objective=binary sigmoid:1", "objective=binary sigmoid:2")
    with pytest.raises(DeclarationError, match="objective"):
        parse(scaled)
    with pytest.raises(DeclarationError, match="Linear"):
        parse(native.decode().replace("is_linear=0", "is_linear=1"))
    with pytest.raises(ArtifactCorrupt):
        parse("not a model")


def test_a_forest_that_averages_is_refused():
    data = cases.data()
    rows = lightgbm.Dataset(data.matrix, data.labels)
    forest = {"objective": "binary", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5, "verbosity": -1}
    with pytest.raises(DeclarationError, match="objective"):
        parse(lightgbm.train(forest, rows, 2).model_to_string())


def test_a_contract_of_another_width_is_refused(native):
    with pytest.raises(DeclarationError, match="number of features"):
        SMALL.to_onnx(native, cases.one_number())
