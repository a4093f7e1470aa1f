from __future__ import annotations

import json

import numpy as np
import pytest

from ml_platform.core.errors import DataError, DeclarationError
from ml_platform.training.fitting import fit
from ml_platform.training.function import Function
from ml_platform.training.onnx import INPUT, OUTPUT
from ml_platform.training.onnxruntime import OnnxModel
from ml_platform.training.trainer import RunContext
from tests.training import cases


def train(data, run):
    return json.dumps({"rate": data.base_rate}).encode()


def predict(native, matrix):
    return np.full(len(matrix), json.loads(native)["rate"])


def to_onnx(native, contract):
    """A constant: zero times the first feature's row count, plus the rate."""
    from onnx import TensorProto, helper

    rate = json.loads(native)["rate"]
    width = len(contract.fields)
    nodes = [
        helper.make_node("Constant", [], ["zero"], value_floats=[0.0] * width),
        helper.make_node("IsNaN", [INPUT], ["nan"]),
        helper.make_node("Where", ["nan", "zero", "zero"], ["empty"]),
        helper.make_node("ReduceSum", ["empty", "axis"], ["sum"], keepdims=1),
        helper.make_node("Add", ["sum", "rate"], [OUTPUT]),
    ]
    initial = [
        helper.make_tensor("rate", TensorProto.FLOAT, [1], [rate]),
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
    ]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, 1])],
        initial,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


def other_predict(native, matrix):
    return np.zeros(len(matrix))


def short_predict(native, matrix):
    return np.zeros(1)


def nothing(data, run):
    return None


CONSTANT = Function("base_rate", train, predict, to_onnx, bit_identical=True)


def test_a_model_of_functions_goes_the_whole_way():
    pytest.importorskip("onnx", reason="onnx is not installed (extra: lightgbm)")
    data = cases.data()
    fitted = fit(CONSTANT, data, None, RunContext(0))
    assert set(fitted.artifact.parts) == {"model.native", "model.onnx", "contract.json", "golden.json"}
    scores = OnnxModel(fitted.artifact.part("model.onnx")).scores(data.matrix)
    native = CONSTANT.predict(fitted.artifact.part("model.native"), data.matrix)
    assert np.abs(scores - native).max() < 1e-6
    assert fitted.metrics["auc"]["point"] == 0.5
    assert fitted.artifact.decision is None


def test_its_identity_is_its_name_and_its_source():
    assert CONSTANT.spec() == Function("base_rate", train, predict, to_onnx).spec()
    assert CONSTANT.spec() != Function("base_rate", train, other_predict, to_onnx).spec()
    assert CONSTANT.spec() != Function("other", train, predict, to_onnx).spec()


def test_its_author_says_whether_it_repeats():
    assert CONSTANT.determinism() == {"guarantee": "bit_identical"}
    assert Function("base_rate", train, predict, to_onnx).determinism() == {"guarantee": "none"}


def test_a_function_that_captures_variables_is_refused():
    rate = 0.5

    def captured(native, matrix):
        return np.full(len(matrix), rate)

    with pytest.raises(DeclarationError, match="predict"):
        Function("x", train, captured, to_onnx)


@pytest.mark.parametrize("impossible", [len, np.zeros, "predict"])
def test_what_has_no_source_is_refused(impossible):
    with pytest.raises(DeclarationError, match="predict"):
        Function("x", train, impossible, to_onnx)


def test_a_function_written_nowhere_is_refused():
    scope: dict = {}
    exec("def predict(native, matrix): return matrix[:, 0]", scope)
    with pytest.raises(DeclarationError, match="source"):
        Function("x", train, scope["predict"], to_onnx)


def test_wrong_results_are_refused():
    with pytest.raises(DataError, match="predict"):
        Function("x", train, short_predict, to_onnx).predict(b"x", np.zeros((3, 1), np.float32))
    with pytest.raises(DataError, match="train"):
        Function("x", nothing, predict, to_onnx).fit(cases.data(), RunContext(0))
