"""The router inside Triton: tensors in, decisions out; what it decides and records is `serving.router`'s.

Triton's Python backend makes one ``TritonPythonModel`` and calls ``execute`` once per batch. Each tensor is touched
once, the whole batch is handed to the router at once, and no answer is built before its records are durable.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ml_platform.core.errors import ServerUnavailable
from ml_platform.core.settings import load_settings, settings_path
from ml_platform.serving.declaration import Serving
from ml_platform.serving.router import Router
from ml_platform.serving.router_answers import Answer, Rejection
from ml_platform.serving.triton.boot import CAPABILITY_PARAMETER, CAPABILITY_VARIABLE
from ml_platform.serving.triton.repository import MATRIX, version_model_name
from ml_platform.serving.triton.router_metrics_export import MetricsExport
from ml_platform.serving.triton.router_tensors import AnswerTensors
from ml_platform.serving.triton.version_model import config_parameters

__all__ = ["TritonPythonModel"]


class TritonPythonModel:
    """What Triton makes and calls."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Opens the router of this model; whatever is wrong makes the load fail, and Triton says why."""
        import triton_python_backend_utils as pb

        self._pb = pb
        parameters = config_parameters(args)
        serving = Serving.from_json(json.loads(parameters["serving"]))
        outputs = json.loads(parameters["outputs"])
        self._tensors = AnswerTensors(pb, outputs)
        remote = _VersionModels(pb, parameters["model"], outputs[0]) if serving.executor == "triton" else None
        self._router = Router.open(load_settings(settings_path(None)), parameters["model"], executor=remote)
        self._metrics = MetricsExport(pb, args["model_name"])
        self._metrics.update(self._router.metrics, now=True)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Decides a batch: one response a request, in order, with the outputs that it asks for."""
        given = [{tensor.name(): tensor.as_numpy() for tensor in request.inputs()} for request in requests]
        answers = [
            self._response(answer, request)
            for answer, request in zip(self._router.handle(given), requests, strict=True)
        ]
        self._metrics.update(self._router.metrics)
        return answers

    def finalize(self) -> None:
        """Closes the log: the sealer then needs no adoption."""
        self._metrics.update(self._router.metrics, now=True)
        self._tensors.forget()
        self._router.close()

    def _response(self, answer: Answer | Rejection, request: Any) -> Any:
        pb = self._pb
        if isinstance(answer, Rejection):
            code = pb.TritonError.UNAVAILABLE if answer.unavailable else pb.TritonError.INVALID_ARG
            return pb.InferenceResponse(error=pb.TritonError(answer.text, code))
        return pb.InferenceResponse(self._tensors.of(answer, request.requested_output_names()))


class _VersionModels:
    """Scores by the versions' own Triton models (business-logic scripting), which only this boot's routers may call.

    It works only inside ``execute``: from any other thread a call would block for ever.
    """

    def __init__(self, pb: Any, model: str, output: str) -> None:
        self._pb = pb
        self._model = model
        self._output = output
        self._parameters = {CAPABILITY_PARAMETER: os.environ[CAPABILITY_VARIABLE]}

    def __call__(self, version: int, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """float32 [n] of an encoded matrix [n, f]; see `serving.served.Executor`.

        Raises:
            ServerUnavailable: the version does not answer.
        """
        request = self._pb.InferenceRequest(
            model_name=version_model_name(self._model, version),
            requested_output_names=[self._output],
            inputs=[self._pb.Tensor(MATRIX, matrix)],
            parameters=self._parameters,
        )
        response = request.exec()
        if response.has_error():
            raise ServerUnavailable(
                f"Version {version} does not answer: {response.error().message()}",
                field="version",
                next_step="Look at the server's log; a rollback needs no registry.",
            )
        found: npt.NDArray[np.float32] = response.output_tensors()[0].as_numpy()
        return found.reshape(-1)
