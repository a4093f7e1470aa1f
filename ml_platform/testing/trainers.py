"""What every trainer must do, whoever wrote it."""

from __future__ import annotations

import json

import numpy as np

from ml_platform.training import OnnxModel, RunContext, Trainer, TrainingData

__all__ = ["check_trainer"]

_PARITY = 1e-6


def check_trainer(trainer: Trainer, data: TrainingData) -> None:
    """Trains twice on the same rows and holds the results against the promises of ``Trainer``.

    Args:
        trainer: the one to be judged.
        data: a few hundred rows, missing values and unknown categories among them.

    Raises:
        AssertionError: names the promise that is broken.
    """
    run = RunContext(seed=7, threads=1)
    native = trainer.fit(data, run)
    _require(isinstance(native, bytes) and bool(native), "fit returns bytes that are not empty")
    _require(json.dumps(trainer.spec(), sort_keys=True) == json.dumps(trainer.spec(), sort_keys=True), "spec is stable")
    if trainer.determinism()["guarantee"] == "bit_identical":
        _require(trainer.fit(data, run) == native, "equal inputs give equal bytes, as determinism() says")
    scores = trainer.predict(native, data.matrix)
    _require(scores.shape == (len(data.matrix),), "predict returns one score a row")
    _require(
        bool(np.isfinite(scores).all() and (scores >= 0).all() and (scores <= 1).all()), "scores are probabilities"
    )
    exported = trainer.to_onnx(native, data.contract)
    _require(trainer.to_onnx(native, data.contract) == exported, "the export of one model is always the same bytes")
    difference = float(np.max(np.abs(OnnxModel(exported).scores(data.matrix).astype(np.float64) - scores)))
    _require(difference < _PARITY, "ONNX and the native model agree within 1e-6")


def _require(holds: bool, promise: str) -> None:  # noqa: FBT001 - a condition, as in assert
    if not holds:
        raise AssertionError(f"A trainer's promise is broken: {promise}.")
