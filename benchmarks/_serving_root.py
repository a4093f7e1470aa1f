"""A root to serve from: 24 features, 200 trees, one signed route; and the requests that are sent to it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

MODEL = "bench"
FEATURES = [f"x{number:02d}" for number in range(24)]
ROOT_ID = "0123456789abcdef0123456789abcdef"


@cache
def view():
    """What arrives with a request: 24 numbers."""
    from ml_platform import Entity, RequestView, SameAsEvent, Source, number

    rows = Source(
        "rows",
        columns={"row_id": "int64", "at": "timestamp", **dict.fromkeys(FEATURES, "float64")},
        keys=("row_id",),
        event_time="at",
        known_time=SameAsEvent(reason="It arrives as it happens."),
    )
    entity = Entity("row", keys=("row_id",))
    return RequestView("bench", entity=entity, source=rows, time="at", columns=[number(name) for name in FEATURES])


@cache
def contract():
    from ml_platform.core.contract import Contract, ResolvedField

    name_of = view().reference
    fields = tuple(ResolvedField(name, f"{name_of}:{name}", "input", "number", "float64") for name in FEATURES)
    return Contract((("row_id", "int64"),), "at", fields)


def make_parts(seed: int = 1, trees: int = 200) -> dict[str, bytes]:
    """A model of 200 trees with 31 leaves; every second row is declined, reasons off (they cost what SHAP costs)."""
    from ml_platform.training.artifact import CONTRACT_PART, ONNX_PART
    from ml_platform.training.golden import GOLDEN_PART, make_golden, matrix_edges
    from ml_platform.training.lightgbm import NATIVE_PART, LightGBM
    from ml_platform.training.trainer import RunContext, TrainingData

    rng = np.random.default_rng(seed)
    train = rng.normal(size=(20_000, len(FEATURES))).astype(np.float32)
    labels = (train[:, 0] + train[:, 1] * train[:, 2] + rng.normal(size=len(train)) > 0).astype(np.float64)
    trainer = LightGBM(num_leaves=31, rounds=trees, learning_rate=0.1, min_data_in_leaf=50)
    native = trainer.fit(TrainingData(train, labels, contract()), RunContext(seed=1, threads=2))
    onnx = trainer.to_onnx(native, contract())
    return {
        NATIVE_PART: native,
        ONNX_PART: onnx,
        CONTRACT_PART: contract().to_bytes(),
        GOLDEN_PART: make_golden(contract(), onnx, matrix_edges(contract(), train)).to_bytes(),
    }


@dataclass(frozen=True)
class BenchRoot:
    """A root with routed versions."""

    folder: Path
    artifacts: dict[int, str]
    key: Any

    @property
    def settings_file(self) -> Path:
        return self.folder / "settings.toml"


def make_root(folder: Path, versions: dict[int, dict[str, bytes]], primary: int) -> BenchRoot:
    """A wall root whose route sends everything to ``primary``; the other versions are allowed rollbacks."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from ml_platform.core.objects import ObjectStore
    from ml_platform.features import definitions
    from ml_platform.registry.pinned import pin_root
    from ml_platform.registry.routefolder import RouteFolder
    from ml_platform.registry.sshsig import public_key_line
    from ml_platform.training.artifact import store_artifact

    folder.mkdir(parents=True)
    (folder / "settings.toml").write_text('kind = "wall"\n')
    objects = ObjectStore(folder / "store")
    definitions.store(objects, view())
    artifacts = {version: store_artifact(objects, parts).digest for version, parts in versions.items()}
    key = Ed25519PrivateKey.generate()
    pin_root(folder / "serving", root_id=ROOT_ID, genesis="sha256:" + "00" * 32, service_key=public_key_line(key))
    root = BenchRoot(folder, artifacts, key)
    RouteFolder.of(folder, MODEL).write(sign(root, primary))
    return root


def sign(root: BenchRoot, primary: int):
    """The first route of a root."""
    from datetime import UTC, datetime

    from ml_platform.core.clock import format_utc
    from ml_platform.registry.route import ALL_BP, AllowedRollback, Arm, Route, sign_route
    from ml_platform.registry.sshsig import fingerprint, public_key_line

    others = tuple(AllowedRollback(version, one) for version, one in root.artifacts.items() if version != primary)
    route = Route(
        root_id=ROOT_ID,
        model=MODEL,
        epoch=1,
        previous=None,
        arms=(Arm("primary", primary, root.artifacts[primary], ALL_BP),),
        salt="00" * 16,
        allowed_rollbacks=others,
        supersedes_flip=None,
        log_index=0,
        issued_at=format_utc(datetime.now(UTC)),
        key_id=fingerprint(public_key_line(root.key)),
    )
    return sign_route(route, root.key)


def rows(count: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, len(FEATURES))).round(3)


def v2_body(
    tensors: dict[str, np.ndarray],
    parameters: dict[str, str] | None = None,
    outputs: tuple[str, ...] = (),
) -> tuple[bytes, int]:
    """A KServe V2 request with binary tensors, as ``tritonclient.http`` sends it, and the length of its JSON.

    ``outputs`` are those that it asks for; none: all.
    """
    kinds = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "object": "BYTES"}
    contents = {name: _content(values) for name, values in tensors.items()}
    inputs = [
        {
            "name": name,
            "datatype": kinds[values.dtype.name],
            "shape": list(values.shape),
            "parameters": {"binary_data_size": len(contents[name])},
        }
        for name, values in tensors.items()
    ]
    document = {"inputs": inputs, "parameters": {"binary_data_output": True, **(parameters or {})}}
    if outputs:
        document["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
    header = json.dumps(document, separators=(",", ":")).encode()
    return header + b"".join(contents.values()), len(header)


def _content(values: np.ndarray) -> bytes:
    """The bytes of a tensor: of texts each with its length before it."""
    if values.dtype != object:
        return values.tobytes()
    return b"".join(len(text).to_bytes(4, "little") + text for text in values.reshape(-1).tolist())
