"""LightGBM: gradient-boosted trees, trained so that the same inputs give the same bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal, Self

import numpy as np

from ml_platform.core.contract import Contract
from ml_platform.core.errors import DataError, DeclarationError
from ml_platform.training.lightgbm_text import parse, strip_parameters
from ml_platform.training.onnx import tree_ensemble
from ml_platform.training.trainer import Matrix, RunContext, Scores, TrainingData

__all__ = ["NATIVE_PART", "LightGBM", "contributions", "predict"]

NATIVE_PART: Final = "model.txt"
_LARGEST_LEAVES: Final = 131_072  # LightGBM's own limit
_SUM_TOLERANCE: Final = 1e-9


@dataclass(frozen=True)
class LightGBM:
    """A binary classifier of boosted trees (G. Ke et al. 2017, NeurIPS).

    Args:
        objective: ``binary``: the logistic of the sum of trees.
        num_leaves: leaves of each tree, 2 or more.
        learning_rate: in (0, 1].
        rounds: number of trees.
        min_data_in_leaf: rows a leaf must have.
        lambda_l2: penalty on leaf values; small data wants some.

    Raises:
        DeclarationError: names the parameter and what it may be.
    """

    objective: Literal["binary"] = "binary"
    num_leaves: int = 7
    learning_rate: float = 0.03
    rounds: int = 120
    min_data_in_leaf: int = 50
    lambda_l2: float = 5.0

    def __post_init__(self) -> None:
        if self.objective != "binary":
            raise DeclarationError("This is not an objective.", field="objective", next_step='Choose "binary".')
        for name, least, most in (
            ("num_leaves", 2, _LARGEST_LEAVES),
            ("rounds", 1, 100_000),
            ("min_data_in_leaf", 1, 2**31 - 1),
        ):
            _check_whole(name, getattr(self, name), least, most)
        _check_number("learning_rate", self.learning_rate, 1.0, positive=True)
        _check_number("lambda_l2", self.lambda_l2, 1e9, positive=False)

    @property
    def native_part(self) -> str:
        return NATIVE_PART

    def spec(self) -> dict[str, object]:
        return {
            "trainer": "lightgbm",
            "objective": self.objective,
            "num_leaves": self.num_leaves,
            "learning_rate": float(self.learning_rate),
            "rounds": self.rounds,
            "min_data_in_leaf": self.min_data_in_leaf,
            "lambda_l2": float(self.lambda_l2),
        }

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Self:
        """The trainer of a stored canonical form.

        Raises:
            DeclarationError: it is another trainer's, or lacks a parameter.
        """
        values = dict(spec)
        if values.pop("trainer", None) != "lightgbm" or set(values) != set(cls.__dataclass_fields__):
            raise DeclarationError("This is not a LightGBM specification.", next_step="Use the trainer that wrote it.")
        return cls(**values)

    def determinism(self) -> dict[str, object]:
        return {"guarantee": "bit_identical", "deterministic": True, "force_row_wise": True, "threads": "pinned"}

    def fit(self, data: TrainingData, run: RunContext) -> bytes:
        import lightgbm

        parameters = {
            "objective": self.objective,
            "num_leaves": self.num_leaves,
            "learning_rate": self.learning_rate,
            "min_data_in_leaf": self.min_data_in_leaf,
            "lambda_l2": self.lambda_l2,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": run.threads,
            "seed": run.seed,
            "verbosity": -1,
        }
        rows = lightgbm.Dataset(
            data.matrix,
            data.labels,
            feature_name=list(data.feature_names),
            categorical_feature=list(data.category_indices),
            params=parameters,
        )
        booster = lightgbm.train(parameters, rows, num_boost_round=self.rounds)
        return strip_parameters(booster.model_to_string(num_iteration=-1)).encode()

    def predict(self, native: bytes, matrix: Matrix) -> Scores:
        return predict(native, matrix)

    def contributions(self, native: bytes, matrix: Matrix) -> Scores:
        return contributions(native, matrix)

    def to_onnx(self, native: bytes, contract: Contract) -> bytes:
        model = parse(native.decode())
        if model.features != len(contract.fields):
            raise DeclarationError(
                "The model and the contract differ in their number of features.",
                field="features",
                next_step="Export the model with the contract that it was trained with.",
            )
        return tree_ensemble(model)


def predict(native: bytes, matrix: Matrix) -> Scores:
    """Probabilities float64 [n] by the native model, for float32 rows in contract order."""
    if not matrix.shape[0]:
        return np.empty(0)
    return np.asarray(_booster(native).predict(matrix.astype(np.float32, copy=False)), np.float64)


def contributions(native: bytes, matrix: Matrix) -> Scores:
    """What each feature added to the raw score (log-odds), float64 [n, f + 1]; the last column is the baseline.

    Path-dependent tree SHAP (S. Lundberg et al. 2020, Nature Machine Intelligence 2:56): the baseline is the model's
    expected raw score over its training rows. Each row's sum is checked against the native raw score.

    Raises:
        DataError: contributions do not add up to the score.
    """
    booster = _booster(native)
    if not matrix.shape[0]:
        return np.empty((0, matrix.shape[1] + 1))
    exact = matrix.astype(np.float32, copy=False)
    parts = np.asarray(booster.predict(exact, pred_contrib=True), np.float64)
    raw = np.asarray(booster.predict(exact, raw_score=True), np.float64)
    if not np.allclose(parts.sum(axis=1), raw, rtol=_SUM_TOLERANCE, atol=_SUM_TOLERANCE):
        raise DataError(
            "Contributions do not add up to the score that they explain.",
            field="contributions",
            next_step="Do not give reasons from this model; report the model and the version of LightGBM.",
        )
    return parts


@lru_cache(maxsize=8)  # reading a model costs more than explaining a row of it; predicting changes nothing in it
def _booster(native: bytes) -> Any:
    import lightgbm

    return lightgbm.Booster(model_str=native.decode())


def _check_whole(name: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise DeclarationError(
            f"The parameter is not a whole number from {least} to {most}.", field=name, next_step="Choose such a one."
        )


def _check_number(name: str, value: object, most: float, *, positive: bool) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not isinstance(value, int | float) or not 0 <= value <= most or (positive and value == 0):
        least = "above 0" if positive else "from 0"
        raise DeclarationError(
            f"The parameter is not a number {least} to {most:g}.", field=name, next_step="Choose such a one."
        )
