"""One version inside Triton: the ONNX of an artifact, checked by digest, answering only this boot's routers.

Triton's Python backend makes one ``TritonPythonModel`` per instance and calls ``initialize`` once and ``execute`` per
batch. Features come as the model sees them (float32, categories as codes, missing as NaN): one row tensor, or one
tensor per feature; scores leave with exactly the bits that they had at training.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ml_platform.core.errors import ArtifactCorrupt, SettingsError
from ml_platform.core.settings import load_settings, settings_path
from ml_platform.serving.router_root import object_store
from ml_platform.serving.triton.boot import CAPABILITY_PARAMETER, CAPABILITY_VARIABLE
from ml_platform.serving.triton.repository import MATRIX
from ml_platform.training.artifact import ONNX_PART, load_artifact
from ml_platform.training.onnxruntime import OnnxModel

__all__ = ["TritonPythonModel", "config_parameters"]

Matrix = npt.NDArray[np.float32]


def config_parameters(args: Mapping[str, str]) -> dict[str, str]:
    """The parameters of a model's configuration, as ``initialize`` gets them."""
    found: dict[str, dict[str, str]] = json.loads(args["model_config"])["parameters"]
    return {name: value["string_value"] for name, value in found.items()}


class TritonPythonModel:
    """What Triton makes and calls."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Loads the version's bytes; whatever is wrong with them makes the load fail, and Triton says why.

        Raises:
            ArtifactCorrupt: a byte is not what the digest says, or the ONNX takes other features than the contract.
            SettingsError: the server was not started by the platform.
        """
        import triton_python_backend_utils as pb

        self._pb = pb
        parameters = config_parameters(args)
        settings = load_settings(settings_path(None))
        artifact = load_artifact(object_store(settings), parameters["artifact"])
        self._names = artifact.contract.names
        self._output = artifact.contract.outputs[0].name
        self._model = OnnxModel(artifact.part(ONNX_PART))
        if self._model.features != len(self._names):
            raise ArtifactCorrupt(
                "The ONNX takes another number of features than the contract names.",
                field=ONNX_PART,
                next_step="Register the version again from its training.",
            )
        self._capability = os.environ.get(CAPABILITY_VARIABLE, "")
        if not self._capability:
            raise SettingsError(
                "The server has no capability.", field=CAPABILITY_VARIABLE, next_step="Start it with `mlp serve`."
            )

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Scores a batch at once; a request that is not a router's gets an error and no score."""
        answers: list[Any] = [None] * len(requests)
        rows: list[Matrix] = []
        places: list[int] = []
        for place, request in enumerate(requests):
            if not self._allowed(request):
                answers[place] = self._refusal(
                    "capability: versions answer their router only. Next: call the model by its own name."
                )
                continue
            matrix = self._matrix(request)
            if matrix is None:
                answers[place] = self._refusal(
                    f"features: the row is not whole. Next: send {MATRIX}, or every feature, as float32."
                )
                continue
            rows.append(matrix)
            places.append(place)
        if rows:
            scores = self._model.scores(rows[0] if len(rows) == 1 else np.concatenate(rows))
            start = 0
            for place, matrix in zip(places, rows, strict=True):
                end = start + len(matrix)
                tensor = self._pb.Tensor(self._output, scores[start:end].reshape(-1, 1))
                answers[place] = self._pb.InferenceResponse([tensor])
                start = end
        return answers

    def _allowed(self, request: Any) -> bool:
        try:
            given = json.loads(request.parameters() or "{}").get(CAPABILITY_PARAMETER)
        except (ValueError, AttributeError):
            return False
        return isinstance(given, str) and hmac.compare_digest(given.encode(), self._capability.encode())

    def _matrix(self, request: Any) -> Matrix | None:
        """float32 [n, f] in contract order; None where something is missing or of another length."""
        given = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        whole: Matrix | None = given.get(MATRIX)
        if whole is not None:
            return whole if len(given) == 1 else None
        if len(given) != len(self._names):
            return None
        columns = [given[name].reshape(-1) for name in self._names]
        if len({len(column) for column in columns}) != 1:
            return None
        stacked: Matrix = np.stack(columns, axis=1)
        return stacked

    def _refusal(self, text: str) -> Any:
        return self._pb.InferenceResponse(error=self._pb.TritonError(text, self._pb.TritonError.INVALID_ARG))
