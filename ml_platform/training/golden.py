"""Golden rows (``ml-platform/golden/1``): what a version answered at training, to be answered again in the server.

Rows are made from the contract and the bin edges of the training part, never taken from it: edges lie between values,
so no row is a person's. They are kept as the model sees them, with the scores of the ONNX that was exported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from ml_platform.core.contract import Contract, ResolvedField
from ml_platform.core.digests import canonical_json
from ml_platform.core.errors import ArtifactCorrupt, DataError, PlatformError
from ml_platform.profiles.profile import BINS, MIN_ROWS
from ml_platform.stats.divergence import quantile_edges
from ml_platform.training.onnxruntime import OnnxModel

__all__ = ["GOLDEN_FORMAT", "GOLDEN_PART", "GOLDEN_ROWS", "Golden", "golden_matrix", "make_golden", "matrix_edges"]

GOLDEN_FORMAT: Final = "ml-platform/golden/1"
GOLDEN_PART: Final = "golden.json"
GOLDEN_ROWS: Final = 32
Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Golden:
    """Rows as the model sees them, and their scores.

    Attributes:
        matrix: float32 [n, f] in contract order, missing is NaN.
        scores: float32 [n], of the exported ONNX.
    """

    contract_digest: str
    matrix: Matrix
    scores: npt.NDArray[np.float32]

    def to_bytes(self) -> bytes:
        """The canonical form: numbers as float64 (exact), missing as null."""
        return canonical_json(
            {
                "format": GOLDEN_FORMAT,
                "contract": self.contract_digest,
                "rows": [[None if np.isnan(value) else float(value) for value in row] for row in self.matrix],
                "scores": [float(score) for score in self.scores],
            }
        )

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The rows of a stored part.

        Raises:
            ArtifactCorrupt: the bytes are no golden rows.
        """
        try:
            document = json.loads(raw)
            rows = [[np.nan if value is None else value for value in row] for row in document["rows"]]
            golden = cls(document["contract"], np.array(rows, np.float32), np.array(document["scores"], np.float32))
            whole = golden.matrix.ndim == 2 and golden.scores.shape == golden.matrix.shape[:1] and len(rows) > 0
            known = whole and golden.to_bytes() == raw
        except (KeyError, TypeError, ValueError, OverflowError, PlatformError) as error:
            raise _unreadable() from error
        if not known:
            raise _unreadable()
        return golden

    def same_scores(self, scores: npt.NDArray[np.float32]) -> bool:
        """Whether these are the recorded scores, bit by bit."""
        return scores.dtype == np.float32 and scores.reshape(-1).tobytes() == self.scores.tobytes()


def _unreadable() -> ArtifactCorrupt:
    return ArtifactCorrupt(
        "The golden rows cannot be read.", field=GOLDEN_PART, next_step="Register the version again."
    )


def golden_matrix(contract: Contract, edges: Mapping[str, Sequence[float]]) -> Matrix:
    """Up to 32 distinct rows, float32 [n, f]: every field walks through its values at its own pace.

    Args:
        contract: fields, categories and ranges.
        edges: interior bin edges of number fields, where known (``profiles.NumberProfile.edges``).

    >>> golden_matrix(Contract((("id", "int64"),), "at", ()), {}).shape
    (1, 0)
    """
    columns = [_values(item, edges.get(item.name, ())) for item in contract.fields]
    rows = np.empty((GOLDEN_ROWS, len(columns)), np.float32)
    for place, values in enumerate(columns):
        # Every value in the first rows, then again with a stride, so that fields do not move together.
        steps = [(row + (row // len(values)) * (place + 1)) % len(values) for row in range(GOLDEN_ROWS)]
        rows[:, place] = values[steps]
    keys = [row.tobytes() for row in rows]
    return rows[[keys.index(key) == place for place, key in enumerate(keys)]]


def matrix_edges(contract: Contract, matrix: Matrix) -> dict[str, list[float]]:
    """The interior bin edges of the number fields of a training part, as its reference profile has them."""
    edges: dict[str, list[float]] = {}
    for place, item in enumerate(contract.fields):
        values = matrix[:, place].astype(np.float64)
        values = values[np.isfinite(values)]
        if item.kind == "number" and len(values):
            edges[item.name] = quantile_edges(values, bins=BINS, min_rows=MIN_ROWS).tolist()
    return edges


def _values(item: ResolvedField, edges: Sequence[float]) -> Matrix:
    """What a field may look like to the model, at most 32 values, missing last where that is possible."""
    if item.kind == "category":
        found: list[float] = [float(code) for code in range(len(item.categories or ()))][: GOLDEN_ROWS - 1]
        missing = item.nullable or "flag" in {item.on_null, item.on_unknown}
    else:
        found = _numbers(item, edges)
        missing = item.nullable or item.on_null == "flag"
    values = np.array(found, np.float32)
    with np.errstate(over="ignore"):
        values = np.unique(values[np.isfinite(values)]) + np.float32(0)  # -0 has no canonical form
    return np.append(values, np.float32(np.nan)) if missing or not len(values) else values


def _numbers(item: ResolvedField, edges: Sequence[float]) -> list[float]:
    """The edges and points beyond them; without edges some powers of ten; always within the declared range."""
    found = list(edges)
    if found:
        width = max(found[-1] - found[0], abs(found[0]), 1.0)
        found = [found[0] - width, *found, found[-1] + width]
    else:
        found = [-100.0, -1.0, 0.0, 0.5, 1.0, 10.0, 100.0, 10_000.0]
    low, high = item.range or (None, None)
    if item.on_range != "flag":
        found = [value for value in found if (low is None or value >= low) and (high is None or value <= high)]
    elif low is not None or high is not None:
        found += [low - 1.0] if low is not None else []
        found += [high + 1.0] if high is not None else []
    found += [bound for bound in (low, high) if bound is not None]
    return found


def make_golden(contract: Contract, onnx: bytes, edges: Mapping[str, Sequence[float]] | None = None) -> Golden:
    """Golden rows of a version, scored by its ONNX as exported. Who adopts a foreign ONNX calls this without edges.

    Rows that the model gives no finite score are left out, as scoring refuses them.

    Raises:
        ArtifactCorrupt: the ONNX cannot be loaded.
        DataError: it gives no row a finite score.
    """
    matrix = golden_matrix(contract, edges or {})
    scores = OnnxModel(onnx).scores(matrix)
    finite = np.isfinite(scores)
    if not finite.any():
        raise DataError(
            "The exported model gives no row a finite score.", field="score", next_step="Mend the model or its export."
        )
    return Golden(contract.digest, matrix[finite], scores[finite])
