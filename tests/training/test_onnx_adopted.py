"""Files that other tools exported, adopted: their scores are theirs, and everything else is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ml_platform.core.contract import Contract
from ml_platform.core.errors import ArtifactCorrupt, DeclarationError, NotFound
from ml_platform.core.fields import category, number
from ml_platform.testing import check_trainer
from ml_platform.training import OnnxModel, RunContext, as_json
from ml_platform.training.contract import ResolvedInput, build
from ml_platform.training.onnx_adopted import NOT_REPRODUCIBLE, Onnx
from ml_platform.training.trainer import TrainingData, training_data

sklearn = pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra: dev)")
skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed (extra: dev)")

NAMES = ("age", "calls", "months", "spend")  # the contract's order
OWN = ("spend", "age", "months", "calls")  # the file's
RUN = RunContext(seed=1)


def table(rows: int = 600, *, missing: bool = False) -> pa.Table:
    random = np.random.default_rng(3)
    columns = {name: (random.normal(size=rows) * 10 + 40).astype(np.float32) for name in NAMES}
    logit = (columns["calls"] - 40) / 5 - (columns["spend"] - 40) / 20
    mask = random.random(rows) < (0.1 if missing else -1.0)
    arrays: dict[str, Any] = {name: pa.array(values) for name, values in columns.items()}
    arrays["spend"] = pa.array(columns["spend"], mask=mask)
    return pa.table({**arrays, "churned": (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int64)})


def data(*, missing: bool = False) -> TrainingData:
    rows = table(missing=missing)
    fields = [
        ResolvedInput(number(name, nullable=missing), f"v@sha256:00:{name}", "input", "float64") for name in NAMES
    ]
    return training_data(build(fields, rows, entity_keys=[("id", "int64")], time="at"), rows, "churned")


def own_matrix(made: TrainingData) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(made.matrix[:, [NAMES.index(name) for name in OWN]])


def exported(kind: str, path: Path, made: TrainingData, **options: Any) -> Any:
    from skl2onnx import to_onnx
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    models = {
        "linear": make_pipeline(StandardScaler(), LogisticRegression()),
        "boosted": HistGradientBoostingClassifier(max_iter=20, max_leaf_nodes=5, random_state=0),
    }
    matrix = own_matrix(made)
    fitted = models[kind].fit(matrix, made.labels)
    path.write_bytes(to_onnx(fitted, matrix[:1], options=options or None, target_opset=15).SerializeToString())
    return fitted


@pytest.mark.parametrize("zipmap", [True, False])
def test_a_classifier_of_scikit_learn_is_adopted_with_its_own_scores(tmp_path: Path, *, zipmap: bool) -> None:
    made, path = data(), tmp_path / "churn.onnx"
    fitted = exported("linear", path, made, zipmap=zipmap)
    trainer = Onnx(path, columns=OWN)
    check_trainer(trainer, made)
    wrapped = OnnxModel(trainer.to_onnx(trainer.fit(made, RUN), made.contract))
    assert np.abs(wrapped.scores(made.matrix) - fitted.predict_proba(own_matrix(made))[:, 1]).max() < 1e-5


def test_missing_values_reach_a_model_that_knows_them(tmp_path: Path) -> None:
    made, path = data(missing=True), tmp_path / "churn.onnx"
    assert np.isnan(made.matrix).any()
    fitted = exported("boosted", path, made)
    trainer = Onnx(path, columns=OWN)
    check_trainer(trainer, made)
    scores = OnnxModel(trainer.to_onnx(trainer.fit(made, RUN), made.contract)).scores(made.matrix)
    assert np.abs(scores - fitted.predict_proba(own_matrix(made))[:, 1]).max() < 1e-4


def one_input_a_column(path: Path, *, output: str = "FLOAT", shape: list[int | None] | None = None) -> None:
    """sigmoid((calls − spend) / 10), in double, each column with an input of its own."""
    from onnx import TensorProto, helper

    inputs = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, [None, 1]) for name in OWN]
    nodes = [
        helper.make_node("Sub", ["calls", "spend"], ["gap"]),
        helper.make_node("Div", ["gap", "ten"], ["scaled"]),
        helper.make_node("Add", ["age", "months"], ["unused_sum"]),
        helper.make_node("Sigmoid", ["scaled"], ["wide"]),
        helper.make_node("Squeeze", ["wide", "axis"], ["p"]),
    ]
    initial = [
        helper.make_tensor("ten", TensorProto.DOUBLE, [1], [10.0]),
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
    ]
    outputs = [helper.make_tensor_value_info("p", TensorProto.DOUBLE, shape or [None])]
    graph = helper.make_graph(nodes, "own", inputs, outputs, initial)
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
    )


def test_columns_with_inputs_of_their_own_are_fed_by_name(tmp_path: Path) -> None:
    made, path = data(), tmp_path / "own.onnx"
    one_input_a_column(path)
    trainer = Onnx(path)
    check_trainer(trainer, made)
    calls, spend = (made.matrix[:, NAMES.index(name)].astype(np.float64) for name in ("calls", "spend"))
    scores = trainer.predict(trainer.fit(made, RUN), made.matrix)
    assert np.abs(scores - 1 / (1 + np.exp(-(calls - spend) / 10))).max() < 1e-9


def test_another_order_of_columns_is_another_model_and_another_digest(tmp_path: Path) -> None:
    made, path = data(), tmp_path / "churn.onnx"
    exported("linear", path, made)
    right, wrong = Onnx(path, columns=OWN), Onnx(path, columns=NAMES)
    assert right.spec() != wrong.spec()
    one, other = (t.predict(t.fit(made, RUN), made.matrix) for t in (right, wrong))
    assert np.abs(one - other).max() > 0.1


def test_the_record_says_that_it_cannot_be_made_again_here(tmp_path: Path) -> None:
    path = tmp_path / "own.onnx"
    one_input_a_column(path)
    assert as_json(Onnx(path).determinism()) == {"guarantee": "none", "reproducible": {"absent": NOT_REPRODUCIBLE}}
    before = Onnx(path).spec()["file"]
    path.write_bytes(path.read_bytes() + b"\x00")
    assert Onnx(path).spec()["file"] != before


def test_columns_that_are_not_the_features_are_named(tmp_path: Path) -> None:
    made, path = data(), tmp_path / "churn.onnx"
    exported("linear", path, made)
    trainer = Onnx(path, columns=("spend", "age", "months", "mood"))
    with pytest.raises(DeclarationError, match="calls, mood"):
        trainer.to_onnx(trainer.fit(made, RUN), made.contract)
    short = Onnx(path, columns=("spend", "age", "months"))
    rows = table().drop_columns(["calls"])
    fields = [
        ResolvedInput(number(name), f"v@sha256:00:{name}", "input", "float64") for name in ("age", "months", "spend")
    ]
    fewer = training_data(build(fields, rows, entity_keys=[("id", "int64")], time="at"), rows, "churned")
    with pytest.raises(DeclarationError, match="takes 4 columns"):
        short.to_onnx(short.fit(fewer, RUN), fewer.contract)


def test_a_category_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.onnx"
    one_input_a_column(path)
    rows = table().append_column("plan", pa.array(["a", "b"] * 300))
    fields = [ResolvedInput(category("plan"), "v@sha256:00:plan", "input", "string")]
    contract: Contract = build(fields, rows, entity_keys=[("id", "int64")], time="at")
    with pytest.raises(DeclarationError, match="plan"):
        Onnx(path).to_onnx(Onnx(path).fit(data(), RUN), contract)


def test_an_output_that_is_no_probability_a_row_is_refused(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    path = tmp_path / "wide.onnx"
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "wide",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 4])],
    )
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
    )
    trainer, made = Onnx(path), data()
    with pytest.raises(DeclarationError, match="output"):
        trainer.to_onnx(trainer.fit(made, RUN), made.contract)
    with pytest.raises(DeclarationError, match="It has the outputs y"):
        Onnx(path, output="z").to_onnx(trainer.fit(made, RUN), made.contract)


def test_a_file_that_is_missing_or_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"gone\.onnx"):
        Onnx(tmp_path / "gone.onnx")
    path = tmp_path / "text.onnx"
    path.write_bytes(b"this is no model")
    with pytest.raises(ArtifactCorrupt, match="no ONNX model"):
        Onnx(path).fit(data(), RUN)
    with pytest.raises(DeclarationError, match="twice"):
        Onnx(path, columns=("a", "a"))
