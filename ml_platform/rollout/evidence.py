"""From the records of a step to what each arm did: counts, latencies, scores. Pure: tables come in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ml_platform.rollout.decision import ArmEvidence
from ml_platform.training.decision import DECLINED

__all__ = ["RECORD_COLUMNS", "arm_evidence"]

RECORD_COLUMNS: Final = ("prediction_id", "latency_us", "decision", "score")


def arm_evidence(version: int, records: pa.Table, keys: Sequence[str], refused_rows: Sequence[str]) -> ArmEvidence:
    """What an arm did.

    A unit counts once for decisions and scores, by its first exposure: whoever asks ten times is one person. Every
    answer counts for latency, every refused row for errors.

    Args:
        version: of the arm.
        records: its answers, in any order: ``RECORD_COLUMNS`` and the key columns. Ids order by time.
        keys: the columns that name the unit.
        refused_rows: the index of each refused request, as often as it was refused; a row may break several rules.
    """
    ordered = records.sort_by("prediction_id")
    first = ordered.group_by(list(keys), use_threads=False).aggregate([("decision", "first"), ("score", "first")])
    decisions: Any = first.column("decision_first")
    refused = len(set(refused_rows))
    return ArmEvidence(
        version=version,
        units=first.num_rows + refused,
        answered=ordered.num_rows,
        refused=refused,
        decided=first.num_rows - decisions.null_count,
        declined=decisions.to_pylist().count(DECLINED),
        latency_ms=_floats(ordered.column("latency_us")) / 1000.0,
        scores=_floats(first.column("score_first")),
    )


def _floats(column: pa.ChunkedArray[Any]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The values that are there."""
    return np.asarray(column.drop_null().cast(pa.float64()).to_numpy(), np.float64)
