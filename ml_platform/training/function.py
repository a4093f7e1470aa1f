"""Any Python model: three functions that a company already has."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from textwrap import dedent
from typing import Any

import numpy as np

from ml_platform.core.contract import Contract
from ml_platform.core.errors import DataError, DeclarationError
from ml_platform.core.fields import check_name
from ml_platform.training.trainer import Matrix, RunContext, Scores, TrainingData

__all__ = ["Function"]


@dataclass(frozen=True)
class Function:
    """A trainer made of functions; its identity is its name and the source code of the three.

    Args:
        name: what kind of model this is.
        train: (TrainingData, RunContext) to the native bytes.
        predict: (native bytes, float32 [n, f]) to probabilities [n].
        to_onnx: (native bytes, Contract) to ONNX with input ``features`` and output ``score``.
        bit_identical: the author's word that equal inputs give equal bytes; it lands in the run record.

    Raises:
        DeclarationError: a function whose source is not to be had, or that captures variables: its source would not
            say what it does.
    """

    name: str
    train: Callable[[TrainingData, RunContext], bytes]
    predict_: Callable[[bytes, Matrix], Any]
    export: Callable[[bytes, Contract], bytes]
    bit_identical: bool = False
    _sources: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __init__(
        self,
        name: str,
        train: Callable[[TrainingData, RunContext], bytes],
        predict: Callable[[bytes, Matrix], Any],
        to_onnx: Callable[[bytes, Contract], bytes],
        *,
        bit_identical: bool = False,
    ) -> None:
        check_name(name, field="name")
        functions: dict[str, Callable[..., Any]] = {"train": train, "predict": predict, "to_onnx": to_onnx}
        sources = {role: _source_digest(role, function) for role, function in functions.items()}
        values = {"name": name, "train": train, "predict_": predict, "export": to_onnx}
        for attribute, value in {**values, "bit_identical": bit_identical, "_sources": sources}.items():
            object.__setattr__(self, attribute, value)

    @property
    def native_part(self) -> str:
        return "model.native"

    def spec(self) -> dict[str, object]:
        return {"trainer": "function", "name": self.name, "sources": dict(self._sources)}

    def determinism(self) -> dict[str, object]:
        return {"guarantee": "bit_identical" if self.bit_identical else "none"}

    def fit(self, data: TrainingData, run: RunContext) -> bytes:
        return _require_bytes(self.train(data, run), "train")

    def predict(self, native: bytes, matrix: Matrix) -> Scores:
        scores = np.asarray(self.predict_(native, matrix), np.float64)
        if scores.shape != (matrix.shape[0],) or not np.isfinite(scores).all():
            raise DataError(
                "The function does not return one finite score a row.", field="predict", next_step="Mend predict."
            )
        return scores

    def to_onnx(self, native: bytes, contract: Contract) -> bytes:
        return _require_bytes(self.export(native, contract), "to_onnx")


def _require_bytes(raw: object, role: str) -> bytes:
    if not isinstance(raw, bytes) or not raw:
        raise DataError("The function does not return bytes.", field=role, next_step="Return the model as bytes.")
    return raw


def _source_digest(role: str, function: Callable[..., Any]) -> str:
    if not inspect.isfunction(function) or function.__closure__:
        raise DeclarationError(
            "Not a plain function, or one that captures variables.",
            field=role,
            next_step="Pass a function of a module that gets all it needs as arguments.",
        )
    try:
        source = dedent(inspect.getsource(function))
    except (OSError, TypeError) as error:
        raise DeclarationError(
            "The source of the function is not to be had.", field=role, next_step="Define it in a file."
        ) from error
    return "sha256:" + hashlib.sha256(source.encode()).hexdigest()
