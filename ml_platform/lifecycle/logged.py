"""What is in a model's prediction log: how much, of which modes, sealed by which entry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow.dataset as ds

from ml_platform.core.errors import NotFound
from ml_platform.platform import Platform
from ml_platform.serving.tables import SEGMENTS, predictions_table

__all__ = ["PredictionLog", "prediction_log"]


@dataclass(frozen=True)
class PredictionLog:
    """The sealed decisions of a model. ``log_index``: of the newest entry that sealed one; None without any."""

    model: str
    table_version: int
    decisions: int
    segments: int
    modes: dict[str, int]
    versions: dict[str, int]
    log_index: int | None

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "table": predictions_table(self.model),
            "table_version": self.table_version,
            "decisions": self.decisions,
            "segments": self.segments,
            "modes": self.modes,
            "versions": self.versions,
            "log_index": self.log_index,
        }


def prediction_log(platform: Platform, model: str) -> PredictionLog:
    """Counts a model's sealed decisions; all zero where nothing was decided yet."""
    table = predictions_table(model)
    if not platform.lake.exists(table) or not platform.lake.exists(SEGMENTS):
        return PredictionLog(model, 0, 0, 0, {}, {}, None)
    version = platform.lake.version(table) or 0
    segments = platform.lake.read(SEGMENTS, columns=["segment_id"], where=ds.field("model") == model)
    counted = platform.lake.read(table, version=version, columns=["mode", "version"])
    by = counted.group_by(["mode", "version"], use_threads=False).aggregate([([], "count_all")]).to_pylist()
    modes: dict[str, int] = {}
    versions: dict[str, int] = {}
    for row in by:
        modes[row["mode"]] = modes.get(row["mode"], 0) + row["count_all"]
        versions[f"v{row['version']}"] = versions.get(f"v{row['version']}", 0) + row["count_all"]
    return PredictionLog(
        model=model,
        table_version=version,
        decisions=counted.num_rows,
        segments=segments.num_rows,
        modes=dict(sorted(modes.items())),
        versions=dict(sorted(versions.items())),
        log_index=_newest(platform, segments.column("segment_id").to_pylist()),
    )


def _newest(platform: Platform, segments: list[Any]) -> int | None:
    found: list[int] = []
    for segment in segments:
        try:
            found.append(platform.registry.sealed_in(segment))
        except NotFound:
            continue  # in the lake, and the entry is still to come
    return max(found, default=None)
