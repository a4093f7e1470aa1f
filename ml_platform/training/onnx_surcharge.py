"""A model's ONNX with a surcharge on its score: a hand-made rule laid over a trained model, as companies do."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ml_platform.training.onnx import INPUT, OUTPUT

__all__ = ["with_surcharge"]


def with_surcharge(raw: bytes, feature: int, amount: float) -> bytes:
    """ONNX bytes of min(1, score + amount × feature); the feature must not be missing.

    Args:
        raw: a model with input ``features`` float32 [n, f] and output ``score`` float32 [n, 1].
        feature: the index of the feature that is charged for.
        amount: per unit of the feature.
    """
    import onnx
    from onnx import helper, numpy_helper

    proto = onnx.load_model_from_string(raw)
    graph = proto.graph
    for node in graph.node:
        node.output[:] = ["score_before" if name == OUTPUT else name for name in node.output]
    constants: dict[str, npt.NDArray[Any]] = {
        "charged": np.array([feature], np.int64),
        "amount": np.array([amount], np.float32),
        "one": np.array(1.0, np.float32),
    }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    graph.node.extend(
        [
            helper.make_node("Gather", [INPUT, "charged"], ["units"], axis=1),
            helper.make_node("Mul", ["units", "amount"], ["surcharge"]),
            helper.make_node("Add", ["score_before", "surcharge"], ["charged_score"]),
            helper.make_node("Min", ["charged_score", "one"], [OUTPUT]),
        ]
    )
    return bytes(proto.SerializeToString(deterministic=True))
