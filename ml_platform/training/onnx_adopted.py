"""A model that a company already has, as an ONNX file: given our input and output, and nothing else changed.

What it needs is a graph that takes numbers and gives one probability a row. Its own columns come in its own order;
the contract's come by name, so the columns are picked from the matrix in front of the graph.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ml_platform.core.contract import Contract
from ml_platform.core.errors import ArtifactCorrupt, DeclarationError, NotFound
from ml_platform.training.absent import Absent
from ml_platform.training.onnx import INPUT, OUTPUT
from ml_platform.training.onnxruntime import OnnxModel, open_session
from ml_platform.training.trainer import Matrix, RunContext, Scores, TrainingData

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

__all__ = ["NOT_REPRODUCIBLE", "Onnx"]

NOT_REPRODUCIBLE: Final = "The model was trained elsewhere and adopted as a file: it is not reproducible here."
_ORDER: Final = "ml_platform.columns"
_PREFIX: Final = "ml_platform_"
_FLOAT: Final = 1  # TensorProto.FLOAT


@dataclass(frozen=True)
class Onnx:
    """An adopted model: an ONNX file that takes numbers and gives the probability of the label being 1.

    The digest of the file is the trainer's identity. Its graph has one input [n, columns], or one input [n, 1] a
    column, named like it; its output is [n], [n, 1], or the two class probabilities [n, 2] (a ``ZipMap`` at the end is
    left out). Only number features: a category has no encoding that the file and the contract both know.

    Args:
        path: the file, beside the declaration, such as ``Path(__file__).with_name("churn.onnx")``.
        columns: the features in the order of the file's input; not needed where each column has its own input.
        output: the output to take, where there are several of numbers; the last one if none is named.

    Raises:
        NotFound: there is no such file.
        DeclarationError: a column is named twice.
    """

    path: Path
    columns: Sequence[str] = ()
    output: str | None = None
    _raw: bytes = field(default=b"", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        if len(set(self.columns)) != len(self.columns):
            raise DeclarationError("A column is named twice.", field="columns", next_step="Name each column once.")
        try:
            object.__setattr__(self, "_raw", Path(self.path).read_bytes())
        except OSError as error:
            raise NotFound(
                "The adopted model's file cannot be read.",
                field=Path(self.path).name,
                next_step='Put it beside the declaration and write Path(__file__).with_name("model.onnx").',
            ) from error

    @property
    def native_part(self) -> str:
        return "model.adopted.onnx"

    def spec(self) -> dict[str, object]:
        digest = "sha256:" + hashlib.sha256(self._raw).hexdigest()
        return {"trainer": "onnx", "file": digest, "columns": list(self.columns), "output": self.output or "last"}

    def determinism(self) -> dict[str, object]:
        return {"guarantee": "none", "reproducible": Absent(NOT_REPRODUCIBLE)}

    def fit(self, data: TrainingData, run: RunContext) -> bytes:  # noqa: ARG002 - a trainer's signature
        """Fits nothing: the file, with a note of the order of our columns."""
        model = _load(self._raw)
        note = model.metadata_props.add()
        note.key, note.value = _ORDER, json.dumps(list(data.feature_names))
        return bytes(model.SerializeToString(deterministic=True))

    def predict(self, native: bytes, matrix: Matrix) -> Scores:
        """By the file's own graph, fed through its own inputs: what the graph around it must agree with."""
        session = open_session(native)
        order = json.loads(session.get_modelmeta().custom_metadata_map[_ORDER])
        inputs = session.get_inputs()
        types = {one.name: np.float64 if "double" in one.type else np.float32 for one in inputs}
        if len(inputs) == 1:
            picked = matrix[:, [order.index(name) for name in (self.columns or order)]]
            fed = {inputs[0].name: np.ascontiguousarray(picked, types[inputs[0].name])}
        else:
            fed = {one.name: matrix[:, [order.index(one.name)]].astype(types[one.name]) for one in inputs}
        found: Any = session.run([self.output or session.get_outputs()[-1].name], fed)[0]
        if isinstance(found, list):  # a ZipMap gives a mapping of classes for each row
            return np.array([row[1] for row in found], np.float64)
        scores = np.asarray(found, np.float64)
        return scores[:, 1] if scores.ndim == 2 and scores.shape[1] == 2 else scores.reshape(len(matrix))

    def to_onnx(self, native: bytes, contract: Contract) -> bytes:
        """The file's graph behind our input and output.

        Raises:
            DeclarationError: a feature is a category, or the columns are not the contract's; names them.
            ArtifactCorrupt: the file is no ONNX model of this kind.
        """
        categories = [item.name for item in contract.fields if item.kind == "category"]
        if categories:
            raise DeclarationError(
                "An adopted model takes numbers only; these features are categories.",
                field=", ".join(categories),
                next_step="Declare them as numbers, in the encoding that the file was trained with.",
            )
        model = _load(native)
        _take_output(model, self.output)
        _take_columns(model.graph, contract.names, tuple(self.columns))
        model.graph.name, model.producer_name = "model", "ml_platform"
        raw = bytes(model.SerializeToString(deterministic=True))
        OnnxModel(raw)
        return raw


def _load(raw: bytes) -> ModelProto:
    import onnx

    try:
        model = onnx.load_model_from_string(raw)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf and onnx raise plain classes of their own, by kind of damage
        raise ArtifactCorrupt(
            f"The file is no ONNX model ({type(error).__name__}).",
            field="model.onnx",
            next_step="Export it again; onnx.checker.check_model says what is wrong.",
        ) from error
    return model


def _take_output(model: ModelProto, wanted: str | None) -> None:
    """``score`` float32 [n, 1] from the graph's output, by nodes that are appended."""
    from onnx import TensorProto, helper

    graph = model.graph
    name, columns = _probabilities(model, wanted)
    if columns not in {1, 2}:
        raise _unusable("output", "It must give one probability, or those of two classes, a row.")
    flat = f"{_PREFIX}shape"
    graph.initializer.append(helper.make_tensor(flat, TensorProto.INT64, [2], [-1, 1]))
    if columns == 2:
        one = f"{_PREFIX}one"
        graph.initializer.append(helper.make_tensor(one, TensorProto.INT64, [1], [1]))
        graph.node.append(helper.make_node("Gather", [name, one], [f"{_PREFIX}positive"], axis=1))
        name = f"{_PREFIX}positive"
    graph.node.append(helper.make_node("Cast", [name], [f"{_PREFIX}float"], to=_FLOAT))
    graph.node.append(helper.make_node("Reshape", [f"{_PREFIX}float", flat], [OUTPUT]))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, 1]))
    if not any(one.domain in {"", "ai.onnx"} for one in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", 13))


def _probabilities(model: ModelProto, wanted: str | None) -> tuple[str, int]:
    """The tensor of the output and its columns; a ``ZipMap`` in front of the output is taken away.

    Raises:
        DeclarationError: there is no such output, or its shape is not to be found out.
    """
    graph = model.graph
    names = [one.name for one in graph.output]
    name = str(wanted or names[-1])
    if name not in names:
        raise _unusable("output", f"It has the outputs {', '.join(names)}.")
    for node in graph.node:
        if node.op_type == "ZipMap" and name in node.output:
            classes = max(len(one.ints) + len(one.strings) for one in node.attribute)
            graph.node.remove(node)
            return str(node.input[0]), classes
    shape = _shapes(model).get(name)
    if shape is None:
        raise _unusable("output", f"Of the outputs {', '.join(names)}, name one of numbers.")
    return name, shape[1] if len(shape) == 2 else 1


def _shapes(model: ModelProto) -> dict[str, tuple[int, ...]]:
    """The shapes of tensors, as far as inference can tell; an unknown dimension is 0."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model).graph
    return {
        one.name: tuple(dimension.dim_value for dimension in one.type.tensor_type.shape.dim)
        for one in (*inferred.value_info, *inferred.output)
        if one.type.HasField("tensor_type")
    }


def _take_columns(graph: GraphProto, names: Sequence[str], columns: Sequence[str]) -> None:
    """``features`` float32 [n, f] in contract order in front of the graph's own inputs."""
    from onnx import TensorProto, helper

    constants = {one.name for one in graph.initializer}
    inputs = [one for one in graph.input if one.name not in constants]
    wanted = [columns or tuple(names)] if len(inputs) == 1 else [(one.name,) for one in inputs]
    asked = [name for part in wanted for name in part]
    if sorted(asked) != sorted(names):
        raise DeclarationError(
            "The file's columns are not the model's features.",
            field=", ".join(sorted(set(asked) ^ set(names))),
            next_step=f"Name the {len(names)} features in the order of the file's input: columns=[…].",
        )
    nodes = []
    for one, part in zip(inputs, wanted, strict=True):
        shape = one.type.tensor_type.shape.dim
        width = shape[1].dim_value if len(shape) == 2 else 0
        if width not in {0, len(part)}:
            raise _unusable("columns", f"Its input {one.name} takes {width} columns; {len(part)} are declared.")
        places, picked = f"{_PREFIX}places_{one.name}", f"{_PREFIX}picked_{one.name}"
        graph.initializer.append(
            helper.make_tensor(places, TensorProto.INT64, [len(part)], [list(names).index(name) for name in part])
        )
        nodes.append(helper.make_node("Gather", [INPUT, places], [picked], axis=1))
        nodes.append(helper.make_node("Cast", [picked], [one.name], to=one.type.tensor_type.elem_type or _FLOAT))
    own = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *own])
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, len(names)]))


def _unusable(name: str, next_step: str) -> DeclarationError:
    return DeclarationError("The file's graph cannot be taken as it is.", field=name, next_step=next_step)
