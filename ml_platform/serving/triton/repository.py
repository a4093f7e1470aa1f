"""The Triton model repository of a root, generated: one model per version, one router per model.

Everything follows from contract, artifact digest and ``Serving``; no file of it holds a path of the host or a secret.
The same code writes the repository of production images, whose versions run in Triton's onnxruntime backend.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ml_platform.core.contract import Contract
from ml_platform.core.errors import DeclarationError
from ml_platform.core.files import sync_folder, write_atomically
from ml_platform.serving.declaration import Serving
from ml_platform.serving.online_row import ROW

__all__ = [
    "MATRIX",
    "NULL_SUFFIX",
    "REASONS",
    "Tensor",
    "router_config",
    "router_files",
    "router_inputs",
    "router_model_name",
    "router_outputs",
    "version_config",
    "version_files",
    "version_model_name",
    "version_tensors",
    "write_model",
]

MATRIX: Final = "features"
NULL_SUFFIX: Final = ".null"
REASONS: Final = 4
_DATATYPES: Final = {
    "float64": "FP64",
    "int64": "INT64",
    "string": "BYTES",
    "bool": "BOOL",
    "timestamp": "INT64",
    "date": "INT32",
    "float32": "FP32",
}
_CONFIG_TYPES: Final = {"BYTES": "TYPE_STRING"}
_ROUTER_SOURCE: Final = '''"""The router of a model; see ml_platform.serving.triton.router_model."""

from ml_platform.serving.triton.router_model import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''
_VERSION_SOURCE: Final = '''"""One version of a model; see ml_platform.serving.triton.version_model."""

from ml_platform.serving.triton.version_model import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


@dataclass(frozen=True)
class Tensor:
    """A named tensor: ``datatype`` in the words of KServe V2, ``dims`` without the batch."""

    name: str
    datatype: str
    dims: tuple[int, ...] = (1,)
    optional: bool = False


def version_model_name(model: str, version: int) -> str:
    """``credit_risk.v7``."""
    return f"{model}.v{version}"


def router_model_name(model: str, generation: int = 1) -> str:
    """``credit_risk``, by which clients call it; ``credit_risk.g2`` for one that takes more request fields."""
    return model if generation == 1 else f"{model}.g{generation}"


def _column(name: str, kind: str) -> Tensor:
    return Tensor(name, _DATATYPES[kind], optional=True)


def router_inputs(contract: Contract) -> tuple[Tensor, ...]:
    """What a client sends: entity keys, the request's time in µs UTC, every field that comes with the request.

    All are optional for Triton, so that the router can say which one is missing; each field of the request has a
    companion ``<field>.null``, for V2 has no null.
    """
    tensors = [_column(name, kind) for name, kind in contract.entity_keys]
    tensors.append(_column(contract.time, "timestamp"))
    for item in contract.inputs:
        tensors += [_column(item.name, item.type), Tensor(f"{item.name}{NULL_SUFFIX}", "BOOL", optional=True)]
    return tuple(tensors)


def router_outputs(contract: Contract) -> tuple[Tensor, ...]:
    """What a client gets, a row each: the named outputs, and by which decision, version and record."""
    named = [Tensor(item.name, _DATATYPES[item.type], item.shape or (1,)) for item in contract.outputs]
    return (
        *named,
        Tensor("decision", "BYTES"),
        Tensor("version", "INT64"),
        Tensor("prediction_id", "BYTES"),
        Tensor("reason_codes", "BYTES", (REASONS,)),
        Tensor("epoch", "INT64"),
    )


def version_tensors(contract: Contract) -> tuple[Tensor, ...]:
    """What a version takes: every feature by name as the model sees it (encoded, float32), or all of them as one row.

    Raises:
        DeclarationError: a feature has the name of the whole row.
    """
    if MATRIX in contract.names:
        raise DeclarationError(
            "The name is that of the whole row of features.", field=MATRIX, next_step="Rename the feature."
        )
    named = (Tensor(name, "FP32", optional=True) for name in contract.names)
    return (Tensor(MATRIX, "FP32", (len(contract.fields),), optional=True), *named)


def version_config(
    model: str,
    version: int,
    artifact: str,
    contract: Contract,
    serving: Serving,
    *,
    backend: str = "python",
) -> str:
    """``config.pbtxt`` of a version.

    Args:
        model: model name.
        version: version number.
        artifact: the digest under which the version loads its bytes.
        contract: its contract.
        serving: batching and instances.
        backend: ``python`` for the embedded server; ``onnxruntime`` for production images, where the row of features
            is the only input, as in the ONNX itself.
    """
    inputs = version_tensors(contract)
    if backend == "onnxruntime":
        inputs = (Tensor(MATRIX, "FP32", (len(contract.fields),)),)
    outputs = [Tensor(item.name, _DATATYPES[item.type], item.shape or (1,)) for item in contract.outputs]
    return _config(
        version_model_name(model, version),
        backend,
        serving,
        inputs,
        outputs,
        instances=serving.instances,
        parameters={"artifact": artifact, "model": model, "version": str(version)},
    )


def router_config(model: str, generation: int, inputs: Sequence[Tensor], contract: Contract, serving: Serving) -> str:
    """``config.pbtxt`` of a router of a model. It is one process: it has one write-ahead log.

    Beside the tensors of its fields it takes whole rows as ``row``, unless a field has that name.

    Args:
        model: model name.
        generation: which router; see ``router_model_name``.
        inputs: what this generation takes.
        contract: a contract with the model's outputs.
        serving: executor and batching.
    """
    whole = () if any(one.name == ROW for one in inputs) else (Tensor(ROW, "BYTES", optional=True),)
    return _config(
        router_model_name(model, generation),
        "python",
        serving,
        (*inputs, *whole),
        router_outputs(contract),
        instances=1,
        parameters={
            "model": model,
            "outputs": json.dumps([item.name for item in contract.outputs]),
            "serving": json.dumps(serving.to_json(), sort_keys=True),
        },
    )


def _config(
    name: str,
    backend: str,
    serving: Serving,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    *,
    instances: int,
    parameters: Mapping[str, str],
) -> str:
    """The text of a configuration; names and digests are plain, and JSON text is quoted as protobuf text is."""
    lines = [f"name: {_text(name)}", f"backend: {_text(backend)}", f"max_batch_size: {serving.max_batch}"]
    for label, tensors in (("input", inputs), ("output", outputs)):
        lines += [f"{label} [", ",\n".join(_tensor(one) for one in tensors), "]"]
    lines += [
        f"instance_group [ {{ kind: KIND_CPU, count: {instances} }} ]",
        f"dynamic_batching {{ max_queue_delay_microseconds: {serving.queue_delay_us} }}",
    ]
    for key, value in parameters.items():
        lines.append(f"parameters {{ key: {_text(key)}, value: {{ string_value: {_text(value)} }} }}")
    return "\n".join(lines) + "\n"


def _tensor(tensor: Tensor) -> str:
    kind = _CONFIG_TYPES.get(tensor.datatype, f"TYPE_{tensor.datatype}")
    optional = ", optional: true" if tensor.optional else ""
    dims = ", ".join(map(str, tensor.dims))
    return f"  {{ name: {_text(tensor.name)}, data_type: {kind}, dims: [ {dims} ]{optional} }}"


def _text(value: str) -> str:
    return json.dumps(value)  # JSON's escapes of plain text are protobuf's


def write_model(folder: Path, config: str, files: Mapping[str, bytes]) -> None:
    """Puts one model into a repository, whole or not at all.

    Args:
        folder: the model's folder, named as its configuration says.
        config: the text of ``config.pbtxt``.
        files: names below the version folder ``1`` and their bytes.
    """
    building = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(building, ignore_errors=True)
    (building / "1").mkdir(parents=True)
    try:
        write_atomically(building / "config.pbtxt", config.encode())
        for name, raw in files.items():
            write_atomically(building / "1" / name, raw)
        shutil.rmtree(folder, ignore_errors=True)  # Triton reads a model's files while it loads it, and only then
        building.rename(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def version_files(*, backend: str = "python", onnx: bytes | None = None) -> dict[str, bytes]:
    """What lies beside a version's configuration."""
    if backend == "python":
        return {"model.py": _VERSION_SOURCE.encode()}
    if onnx is None:
        raise DeclarationError("A production version needs its ONNX.", field="onnx", next_step="Give its bytes.")
    return {"model.onnx": onnx}


def router_files() -> dict[str, bytes]:
    """What lies beside a router's configuration."""
    return {"model.py": _ROUTER_SOURCE.encode()}
