"""Scores by ONNX: the same bits for a row, whatever the batch around it and the number of threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ml_platform.core.errors import ArtifactCorrupt, DataError, DeclarationError
from ml_platform.training.onnx import INPUT, OUTPUT

__all__ = ["OnnxModel", "open_session"]

_CHUNK_ROWS: Final = 8192


class OnnxModel:
    """A loaded model. Thread-safe; memory beside input and output is bounded by the chunk.

    onnxruntime itself runs on one thread: with more it adds the trees of small batches in another order, which changes
    the last bit. ``threads`` score chunks of rows side by side instead.

    Args:
        raw: the bytes of ``model.onnx``, verified by who loads the artifact.
        threads: chunks scored at a time.

    Raises:
        ArtifactCorrupt: the bytes are not a model of ours.
    """

    def __init__(self, raw: bytes, threads: int = 1) -> None:
        if threads < 1:
            raise DeclarationError("Scoring needs a thread.", field="threads", next_step="Use 1 or more.")
        self._threads = threads
        self._session = open_session(raw)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if [item.name for item in inputs] != [INPUT] or OUTPUT not in [item.name for item in outputs]:
            raise ArtifactCorrupt(
                f"The model has not the one input {INPUT!r} and the output {OUTPUT!r}.",
                next_step="Export it with the trainer's to_onnx.",
            )
        self.features = int(inputs[0].shape[1])

    def scores(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """float32 [n] for a float32 matrix [n, f] in contract order; n may be 0.

        Raises:
            DataError: another shape or type.
        """
        if matrix.ndim != 2 or matrix.shape[1] != self.features or matrix.dtype != np.float32:
            raise DataError(
                f"The matrix is not float32 with {self.features} columns.",
                field=INPUT,
                next_step="Encode the rows with the version's contract.",
            )
        starts = range(0, matrix.shape[0], _CHUNK_ROWS)
        result = np.empty(matrix.shape[0], np.float32)

        def score(start: int) -> None:
            chunk = np.ascontiguousarray(matrix[start : start + _CHUNK_ROWS])
            result[start : start + _CHUNK_ROWS] = self._session.run([OUTPUT], {INPUT: chunk})[0].reshape(-1)

        if self._threads == 1 or len(starts) < 2:
            for start in starts:
                score(start)
        else:
            with ThreadPoolExecutor(self._threads) as pool:
                list(pool.map(score, starts))
        return result


def open_session(raw: bytes) -> Any:
    """An onnxruntime session on one thread.

    Raises:
        ArtifactCorrupt: the bytes are no model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises plain classes of its own, by kind of damage
        raise ArtifactCorrupt(
            f"The model cannot be loaded ({type(error).__name__}).",
            field="model.onnx",
            next_step="Restore the artifact from a backup, or rebuild it with `mlp reproduce`.",
        ) from error
