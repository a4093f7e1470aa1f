"""What the platform itself asks of a running server, over gRPC: models, and rows to score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from ml_platform.core.errors import ContractViolation, NotFound, PlatformError, ServerUnavailable, ValidationFailed
from ml_platform.serving.triton.boot import CONTROL_HEADER, Boot

__all__ = ["TritonClient", "v2_datatype"]

Tensors = Mapping[str, npt.NDArray[Any]]
_GRPC_PREFIX: Final = "triton-grpc-protocol-"
_AWAY: Final = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"}
_BROKEN: Final = {"INTERNAL", "UNKNOWN"}  # of a request: no fault of the client's
_NEXT: Final = " Next: "
_DATATYPES: Final = {
    "float32": "FP32",
    "float64": "FP64",
    "int64": "INT64",
    "int32": "INT32",
    "bool": "BOOL",
    "object": "BYTES",
}


def v2_datatype(values: npt.NDArray[Any]) -> str:
    """The KServe V2 name of an array's type; texts are arrays of objects."""
    return _DATATYPES[values.dtype.name]


class TritonClient:
    """A connection to one boot. Thread-safe; close it, or use it as a context.

    Args:
        boot: where the server listens, and its control key.
        host: its address.
        timeout_seconds: how long an answer may take; loading a model has ten times as long.
    """

    def __init__(self, boot: Boot, *, host: str = "127.0.0.1", timeout_seconds: float = 10.0) -> None:
        from tritonclient import grpc

        self._grpc: Any = grpc
        self._timeout = timeout_seconds
        self._client: Any = grpc.InferenceServerClient(f"{host}:{boot.grpc_port}")
        self._control = {f"{_GRPC_PREFIX}{CONTROL_HEADER}": boot.control_key}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def load(self, name: str) -> None:
        """Loads a model from the repository and waits until it answers.

        Raises:
            ValidationFailed: the server refuses it; says why in the server's words.
            ServerUnavailable: the server is away.
        """
        try:
            self._client.load_model(name, headers=self._control, client_timeout=10 * self._timeout)
        except Exception as error:
            raise self._error(error, f"The server does not load {name}") from error

    def unload(self, name: str) -> None:
        """Takes a model out of service after what it has begun; one that is not there is fine.

        Raises:
            ServerUnavailable: the server is away.
        """
        try:
            self._client.unload_model(name, headers=self._control, client_timeout=self._timeout)
        except Exception as error:
            raise self._error(error, f"The server does not unload {name}") from error

    def loaded(self) -> frozenset[str]:
        """The models that answer.

        Raises:
            ServerUnavailable: the server is away.
        """
        try:
            index = self._client.get_model_repository_index(headers=self._control, client_timeout=self._timeout)
        except Exception as error:
            raise self._error(error, "The server does not list its models") from error
        return frozenset(item.name for item in index.models if item.state == "READY")

    def inputs(self, name: str) -> dict[str, str]:
        """The input tensors of a loaded model and their types, in the words of KServe V2.

        Raises:
            NotFound: no such model answers.
            ServerUnavailable: the server is away.
        """
        try:
            metadata = self._client.get_model_metadata(name, client_timeout=self._timeout)
        except Exception as error:
            raise self._error(error, f"The server has no {name}", refused=NotFound) from error
        return {item.name: item.datatype for item in metadata.inputs}

    def infer(
        self, name: str, tensors: Tensors, *, parameters: Mapping[str, str] | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """One request: named arrays [n, …] in, named arrays out.

        Raises:
            ContractViolation: the request was refused; names field and rule.
            ServerUnavailable: the server is away, or cannot record decisions now.
        """
        inputs = []
        for field, values in tensors.items():
            tensor = self._grpc.InferInput(field, list(values.shape), v2_datatype(values))
            tensor.set_data_from_numpy(values)
            inputs.append(tensor)
        try:
            result = self._client.infer(name, inputs, parameters=dict(parameters or {}), client_timeout=self._timeout)
        except Exception as error:
            raise self._error(error, "The request is refused", refused=ContractViolation) from error
        return {item.name: _plain(result.as_numpy(item.name)) for item in result.get_response().outputs}

    def _error(self, error: Exception, what: str, *, refused: type[PlatformError] = ValidationFailed) -> PlatformError:
        status = str(getattr(error, "status", lambda: None)() or "").removeprefix("StatusCode.")
        if not status or status in _AWAY or (refused is ContractViolation and status in _BROKEN):
            return _unavailable(_message(error) if status == "UNAVAILABLE" else None)
        said, _, next_step = _message(error).partition(_NEXT)
        return refused(f"{what}: {said}", next_step=next_step or "Mend what it names.")


def _message(error: Exception) -> str:
    text = " ".join(str(getattr(error, "message", lambda: "")() or "").split())
    return text if text.endswith(".") else f"{text}."


def _unavailable(said: str | None = None) -> ServerUnavailable:
    why, _, next_step = (said or "").partition(_NEXT)
    return ServerUnavailable(
        f"The inference server cannot answer now{f' ({why})' if why else ''}; nothing was changed.",
        field="serving",
        next_step=next_step or "Start it with `mlp serve`, or look at its log, then run this again.",
    )


def _plain(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Texts as str, not bytes."""
    if values.dtype.name != "object":
        return values
    texts = [item.decode() if isinstance(item, bytes) else item for item in values.reshape(-1)]
    return np.array(texts, dtype=object).reshape(values.shape)
