"""ONNX decides as the native model does, on rows made to find where it does not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core.errors import DeclarationError
from ml_platform.training.gates import ONNX_PARITY
from ml_platform.training.lightgbm_text import MISSING_NAN, MISSING_NONE, MISSING_ZERO, TextModel, Tree, parse
from ml_platform.training.onnx import INPUT, OUTPUT, round_down, tree_ensemble
from ml_platform.training.onnxruntime import OnnxModel
from ml_platform.training.verdict import verdicts
from tests.training import cases

lightgbm = pytest.importorskip("lightgbm", reason="LightGBM is not installed (extra: dev)")
onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra: dev)")

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
FLOATS32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(FLOATS, FLOATS32)
def test_rounding_down_changes_no_comparison(threshold, value):
    rounded = round_down([threshold])[0]
    assert rounded.dtype == np.float32
    assert (np.float32(value) <= rounded) == (float(np.float32(value)) <= threshold)


@given(FLOATS)
def test_rounding_down_gives_the_largest_float32_that_is_not_above(threshold):
    rounded = round_down([threshold])[0]
    assert float(rounded) <= threshold
    with np.errstate(over="ignore", under="ignore"):
        following = float(np.nextafter(rounded, np.float32(np.inf)))
    assert math.isinf(rounded) or following > threshold


@given(FLOATS32)
def test_what_is_float32_already_stays(threshold):
    assert round_down([threshold])[0] == np.float32(threshold)


def train(**changes) -> tuple[str, np.ndarray]:
    data = cases.data(1_500, seed=changes.pop("data_seed", 0))
    parameters = {
        "objective": "binary", "num_leaves": 15, "learning_rate": 0.1, "min_data_in_leaf": 10, "verbosity": -1,
        "deterministic": True, "force_row_wise": True, "num_threads": 1, "min_data_per_group": 5, "cat_smooth": 1,
    }  # fmt: skip
    rounds = changes.pop("rounds", 40)
    parameters |= changes
    rows = lightgbm.Dataset(data.matrix, data.labels, categorical_feature=[2], params=parameters)
    return lightgbm.train(parameters, rows, rounds).model_to_string(), data.matrix


KINDS = {
    "plain": {},
    "zero is missing": {"zero_as_missing": True},
    "nothing is missing": {"use_missing": False},
    "one category against the rest": {"max_cat_to_onehot": 100},
    "deep": {"num_leaves": 63, "min_data_in_leaf": 3},
    "stumps": {"num_leaves": 2},
    "no split at all": {"min_gain_to_split": 1e9, "rounds": 2},
}


@pytest.mark.parametrize("kind", KINDS)
def test_scores_agree_on_adversarial_rows(kind):
    text, matrix = train(**KINDS[kind])
    model = parse(text)
    rows = cases.adversarial(model, matrix, 20_000, seed=1)
    native = lightgbm.Booster(model_str=text).predict(rows)
    assert np.abs(OnnxModel(tree_ensemble(model)).scores(rows) - native).max() < 1e-6


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31 - 1), st.sampled_from(sorted(KINDS)))
def test_scores_agree_for_any_model(seed, kind):
    text, matrix = train(**KINDS[kind], data_seed=seed, rounds=5) if "rounds" not in KINDS[kind] else train()
    model = parse(text)
    rows = cases.adversarial(model, matrix, 2_000, seed=seed)
    native = lightgbm.Booster(model_str=text).predict(rows)
    assert np.abs(OnnxModel(tree_ensemble(model)).scores(rows) - native).max() < 1e-6


def test_every_kind_of_missing_value_was_in_those_models():
    def kinds(**changes):
        model = parse(train(**changes)[0])
        return {
            (tree.missing(node), tree.default_left(node))
            for tree in model.trees
            for node in range(len(tree.features))
            if not tree.is_categorical(node)
        }

    assert {kind for kind, _ in kinds()} == {MISSING_NONE, MISSING_NAN}
    assert kinds() >= {(MISSING_NAN, True), (MISSING_NAN, False)}
    assert kinds(zero_as_missing=True) == {(MISSING_ZERO, True), (MISSING_ZERO, False)}


def text_of(threshold: float, decision: int) -> str:
    """A model of one split on one feature, as LightGBM writes it."""
    return f"""tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=0
objective=binary sigmoid:1
feature_names=x
feature_infos=[-1:1]
tree_sizes=1000

Tree=0
num_leaves=2
num_cat=0
split_feature=0
split_gain=1
threshold={threshold!r}
decision_type={decision}
left_child=-1
right_child=-2
leaf_value=-1 1
leaf_weight=1 1
leaf_count=1 1
internal_value=0
internal_weight=1
internal_count=2
is_linear=0
shrinkage=1


end of trees
"""


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        FLOATS.filter(lambda value: abs(value) < 1e300),
        st.sampled_from(
            [0.0, 1e-35, -1e-35, float(np.float32(1e-35)), -float(np.float32(1e-35)), 5e-36, -5e-36, 1e-40]
        ),
    ),
    st.sampled_from([MISSING_NONE, MISSING_ZERO, MISSING_NAN]),
    st.booleans(),
    st.lists(FLOATS32, max_size=10),
)
def test_one_split_goes_where_lightgbm_goes(threshold, missing, default_left, values):
    decision = missing << 2 | (2 if default_left else 0)
    text = text_of(threshold, decision)
    near = [round_down([edge])[0] for edge in (threshold, 1e-35, -1e-35, float(np.float32(1e-35)), 0.0)]
    with np.errstate(over="ignore", under="ignore"):
        near += [np.nextafter(edge, np.float32(side)) for edge in near for side in (-np.inf, np.inf)]
    finite = np.array([*values, *near, np.nan], np.float32)
    rows = finite[~np.isinf(finite)].reshape(-1, 1)
    native = lightgbm.Booster(model_str=text).predict(rows)
    scores = OnnxModel(tree_ensemble(parse(text))).scores(rows)
    np.testing.assert_array_equal(scores > 0.5, native > 0.5)


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(0, 70), min_size=1, max_size=40))
def test_a_categorical_split_sends_its_codes_left_and_all_else_right(codes):
    words = [sum(1 << code % 32 for code in codes if code // 32 == word) for word in range(max(codes) // 32 + 1)]
    tree = Tree((0,), (0.0,), (1,), (-1,), (-2,), (-1.0, 1.0), (0, len(words)), tuple(words))
    assert set(tree.categories(0)) == codes
    rows = np.array([*range(100), np.nan], np.float32).reshape(-1, 1)
    scores = OnnxModel(tree_ensemble(TextModel(1, (tree,)))).scores(rows)
    assert [code for code in range(100) if scores[code] < 0.5] == sorted(codes)
    assert scores[100] > 0.5


def stock_conversion(text: str) -> bytes:
    convert = pytest.importorskip("onnxmltools", reason="onnxmltools is not installed (extra: dev)").convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    booster = lightgbm.Booster(model_str=text)
    proto = convert(booster, initial_types=[(INPUT, FloatTensorType([None, 4]))], zipmap=False)
    return proto.SerializeToString()


def test_stock_rounding_turns_the_parity_gate_red_where_ours_stays_green():
    import onnxruntime

    text, matrix = train()
    model = parse(text)
    rows = cases.adversarial(model, matrix, 5_000, seed=2)
    rows[:, 2] = matrix[: len(rows), 2][np.arange(len(rows)) % len(matrix)]  # known categories: thresholds alone differ
    rows[np.isnan(rows)] = 1.0
    native = lightgbm.Booster(model_str=text).predict(rows)
    labels = (np.arange(len(rows)) % 5 == 0).astype(int)
    session = onnxruntime.InferenceSession(stock_conversion(text), providers=["CPUExecutionProvider"])
    stock = session.run([session.get_outputs()[1].name], {INPUT: rows})[0][:, 1]
    ours = OnnxModel(tree_ensemble(model)).scores(rows)

    def gate(scores):
        judged = verdicts([], cases.evaluation_table(scores, labels, native=native), cases.context())
        assert [one.gate for one in judged] == [ONNX_PARITY.name]
        return judged[0].verdict

    assert gate(stock) == "fail"
    assert gate(ours) == "pass"


def test_the_bytes_depend_on_the_model_alone_and_name_no_tool():
    text, _ = train(rounds=3)
    raw = tree_ensemble(parse(text))
    assert raw == tree_ensemble(parse(text))
    proto = onnx.load_from_string(raw)
    onnx.checker.check_model(proto)
    assert (proto.producer_name, proto.producer_version, proto.doc_string) == ("ml_platform", "", "")
    assert (proto.ir_version, proto.graph.name, len(proto.metadata_props)) == (8, "model", 0)
    assert {item.domain: item.version for item in proto.opset_import} == {"": 13, "ai.onnx.ml": 3}
    assert [item.name for item in proto.graph.input] == [INPUT]
    assert [item.name for item in proto.graph.output] == [OUTPUT]


def test_a_model_without_trees_is_refused():
    with pytest.raises(DeclarationError, match="no trees"):
        tree_ensemble(TextModel(1, ()))
