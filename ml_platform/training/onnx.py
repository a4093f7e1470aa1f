"""Tree models as ONNX that decides exactly as the native model does, for float32 inputs.

Thresholds of the native model are doubles. Rounded to the nearest float32, half of them move up, and rows between the
two values go down the wrong branch. Rounded *down* nothing moves: for a float32 x and the largest float32 t' ≤ t,
x ≤ t if and only if x ≤ t'.

A categorical split is a chain of ``BRANCH_EQ`` nodes with one common left child. The bytes depend on the model alone:
fixed names, fixed operator sets, no versions, no label output.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ml_platform.core.errors import DeclarationError
from ml_platform.training.lightgbm_text import MISSING_NONE, MISSING_ZERO, TextModel, Tree

__all__ = ["INPUT", "OUTPUT", "round_down", "tree_ensemble"]

INPUT: Final = "features"
OUTPUT: Final = "score"

_GRAPH: Final = "model"
_PRODUCER: Final = "ml_platform"
_IR_VERSION: Final = 8
_OPSET: Final = 13
_ML_OPSET: Final = 3
_ZERO: Final = float(np.float32(1e-35))  # LightGBM's kZeroThreshold: |x| ≤ this is zero


def round_down(thresholds: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """The largest float32 that is not above each threshold; −inf where even the least finite one is.

    >>> float(round_down([0.1])[0]) <= 0.1
    True
    """
    exact = np.asarray(thresholds, np.float64)
    with np.errstate(over="ignore", under="ignore"):
        nearest = exact.astype(np.float32)
        below = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest.astype(np.float64) > exact, below, nearest).astype(np.float32)


@dataclass(frozen=True)
class _Test:
    """One ONNX node of an inner node; a target of None is the next test of the same inner node."""

    mode: str
    value: float
    missing_true: bool
    true: int | None
    false: int | None


def _tests(tree: Tree, node: int) -> list[_Test]:
    left, right = tree.left[node], tree.right[node]
    if tree.is_categorical(node):
        return _category_tests(tree.categories(node), left, right)
    threshold = tree.thresholds[node]
    if tree.missing(node) == MISSING_ZERO:
        return _zero_tests(threshold, left, right, default_left=tree.default_left(node))
    # Where the training data had no missing value, LightGBM reads NaN as 0.
    missing_left = threshold >= 0 if tree.missing(node) == MISSING_NONE else tree.default_left(node)
    return [_Test("BRANCH_LEQ", _beside_zero(threshold), missing_left, left, right)]


def _beside_zero(threshold: float) -> float:
    """LightGBM reads every |x| ≤ 1e-35 as 0 when it predicts, so a threshold in that range decides at its edge."""
    if -_ZERO <= threshold < 0:
        return float(np.nextafter(np.float32(-_ZERO), np.float32(-np.inf)))
    return max(threshold, _ZERO) if threshold >= 0 else threshold


def _category_tests(codes: tuple[int, ...], left: int, right: int) -> list[_Test]:
    if not codes:
        raise DeclarationError(
            "A categorical split has no category.", field="categories", next_step="Train the model again."
        )
    # A missing category is in no set: it goes right.
    tests = [_Test("BRANCH_EQ", float(code), missing_true=False, true=left, false=None) for code in codes]
    tests[-1] = _Test("BRANCH_EQ", float(codes[-1]), missing_true=False, true=left, false=right)
    return tests


def _zero_tests(threshold: float, left: int, right: int, *, default_left: bool) -> list[_Test]:
    """Zero and NaN go the default way; every other value by the threshold."""
    if default_left:
        if threshold >= -_ZERO:
            return [_Test("BRANCH_LEQ", max(threshold, _ZERO), missing_true=True, true=left, false=right)]
        return [
            _Test("BRANCH_LEQ", threshold, missing_true=True, true=left, false=None),
            _Test("BRANCH_LT", -_ZERO, missing_true=False, true=right, false=None),
            _Test("BRANCH_LEQ", _ZERO, missing_true=True, true=left, false=right),
        ]
    if threshold < -_ZERO:
        return [_Test("BRANCH_LEQ", threshold, missing_true=False, true=left, false=right)]
    if threshold <= _ZERO:
        return [_Test("BRANCH_LT", -_ZERO, missing_true=False, true=left, false=right)]
    return [
        _Test("BRANCH_LT", -_ZERO, missing_true=False, true=left, false=None),
        _Test("BRANCH_LEQ", _ZERO, missing_true=True, true=right, false=None),
        _Test("BRANCH_LEQ", threshold, missing_true=False, true=left, false=right),
    ]


def _nodes(tree: Tree) -> Iterator[tuple[str, int, float, bool, int, int]]:
    """(mode, feature, value, missing goes to true, true id, false id) by node id; leaves last."""
    chains = [_tests(tree, node) for node in range(len(tree.features))]
    starts = list(accumulate((len(chain) for chain in chains), initial=0))

    def place(child: int | None, following: int) -> int:
        if child is None:
            return following
        return starts[child] if child >= 0 else starts[-1] - child - 1

    for node, chain in enumerate(chains):
        for offset, test in enumerate(chain):
            following = starts[node] + offset + 1
            true, false = place(test.true, following), place(test.false, following)
            yield test.mode, tree.features[node], test.value, test.missing_true, true, false
    for _ in tree.leaf_values:
        yield "LEAF", 0, 0.0, False, 0, 0


def _attributes(model: TextModel) -> dict[str, Any]:
    rows = [(index, place, *node) for index, tree in enumerate(model.trees) for place, node in enumerate(_nodes(tree))]
    tree_ids, node_ids, modes, features, values, missing, true, false = zip(*rows, strict=True)
    leaves = [(index, place) for index, place, mode, *_ in rows if mode == "LEAF"]
    weights = [value for tree in model.trees for value in tree.leaf_values]
    return {
        "nodes_treeids": tree_ids,
        "nodes_nodeids": node_ids,
        "nodes_featureids": features,
        "nodes_modes": modes,
        "nodes_values": round_down(values).tolist(),
        "nodes_missing_value_tracks_true": [int(item) for item in missing],
        "nodes_truenodeids": true,
        "nodes_falsenodeids": false,
        "target_treeids": [index for index, _ in leaves],
        "target_nodeids": [place for _, place in leaves],
        "target_ids": [0] * len(leaves),
        "target_weights": np.asarray(weights, np.float32).tolist(),
        "n_targets": 1,
        "aggregate_function": "SUM",
        "post_transform": "NONE",
    }


def tree_ensemble(model: TextModel) -> bytes:
    """ONNX bytes: ``features`` float32 [n, f] to ``score`` float32 [n, 1], the probability of the label being 1.

    Categories are codes: whole numbers ≥ 0, or NaN for missing and unknown. Missing numbers are NaN.

    Raises:
        DeclarationError: the model has no trees.
    """
    from onnx import TensorProto, helper

    if not model.trees:
        raise DeclarationError("The model has no trees.", field="rounds", next_step="Train at least one round.")
    ensemble = helper.make_node("TreeEnsembleRegressor", [INPUT], ["raw"], domain="ai.onnx.ml", **_attributes(model))
    graph = helper.make_graph(
        [ensemble, helper.make_node("Sigmoid", ["raw"], [OUTPUT])],
        _GRAPH,
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, model.features])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, 1])],
    )
    operators = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
    proto = helper.make_model(graph, opset_imports=operators, producer_name=_PRODUCER, ir_version=_IR_VERSION)
    return bytes(proto.SerializeToString(deterministic=True))
