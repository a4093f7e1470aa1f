"""The bodies that `online.py` sends: the same rows in every form, each form with headers of its own."""

from __future__ import annotations

import json
import time

import numpy as np

from _serving_root import FEATURES, rows, v2_body  # isort: skip

BODIES = 256


def direct_bodies(parameters: dict[str, str]) -> tuple[list[bytes], dict[str, str]]:
    made = [
        v2_body({name: np.array([[value]], np.float32) for name, value in zip(FEATURES, row, strict=True)}, parameters)
        for row in rows(BODIES)
    ]
    return _same_header(made)


def matrix_bodies(parameters: dict[str, str]) -> tuple[list[bytes], dict[str, str]]:
    return _same_header([v2_body({"features": row.astype(np.float32)[None]}, parameters) for row in rows(BODIES)])


def routed_bodies(outputs: tuple[str, ...] = ()) -> tuple[list[bytes], dict[str, str]]:
    now = time.time_ns() // 1000 - 60_000_000
    made = []
    for number, row in enumerate(rows(BODIES)):
        tensors = {"row_id": np.array([[number]]), "at": np.array([[now]])}
        tensors |= {name: np.array([[value]]) for name, value in zip(FEATURES, row, strict=True)}
        made.append(v2_body(tensors, outputs=outputs))
    return _same_header(made)


def _same_header(made: list[tuple[bytes, int]]) -> tuple[list[bytes], dict[str, str]]:
    (length,) = {length for _, length in made}
    return [body for body, _ in made], {"Inference-Header-Content-Length": str(length)}


def json_bodies() -> tuple[list[bytes], dict[str, str]]:
    now = time.time_ns() // 1000 - 60_000_000
    bodies = []
    for number, row in enumerate(rows(BODIES).tolist()):
        inputs = [("row_id", "INT64", number), ("at", "INT64", now)]
        inputs += [(name, "FP64", value) for name, value in zip(FEATURES, row, strict=True)]
        tensors = [{"name": n, "datatype": d, "shape": [1, 1], "data": [v]} for n, d, v in inputs]
        document = {"inputs": tensors, "outputs": [{"name": "score"}]}
        bodies.append(json.dumps(document, separators=(",", ":")).encode())
    return bodies, {"Content-Type": "application/json"}


def row_texts() -> list[str]:
    """The same rows, each a JSON object."""
    now = time.time_ns() // 1000 - 60_000_000
    return [
        json.dumps({"row_id": number, "at": now, **dict(zip(FEATURES, row, strict=True))}, separators=(",", ":"))
        for number, row in enumerate(rows(BODIES).tolist())
    ]


def row_bodies(outputs: tuple[str, ...] = ()) -> tuple[list[bytes], dict[str, str]]:
    """Texts of one length (JSON takes spaces at its end), so that all have the same header."""
    texts = row_texts()
    longest = max(map(len, texts))
    made = [v2_body({"row": np.array([[text.ljust(longest).encode()]], object)}, outputs=outputs) for text in texts]
    return _same_header(made)


def row_json_bodies() -> tuple[list[bytes], dict[str, str]]:
    bodies = []
    for text in row_texts():
        tensor = {"name": "row", "datatype": "BYTES", "shape": [1, 1], "data": [text]}
        document = {"inputs": [tensor], "outputs": [{"name": "score"}]}
        bodies.append(json.dumps(document, separators=(",", ":")).encode())
    return bodies, {"Content-Type": "application/json"}
