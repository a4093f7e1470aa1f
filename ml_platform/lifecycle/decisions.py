"""Reading recorded decisions as a list: which ids there are to trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from ml_platform.core.clock import format_utc
from ml_platform.core.ids import id_bytes, id_time
from ml_platform.core.rows import micros, utc
from ml_platform.governance.contracts import KnownContracts
from ml_platform.lifecycle.scoring import month_window
from ml_platform.platform import Platform
from ml_platform.serving.record import SHADOW_ROLE
from ml_platform.serving.tables import SEGMENTS, personal_table, predictions_table
from ml_platform.serving.unsealed import UnsealedRecord, UnsealedRecords
from ml_platform.serving.wal import WAL_FOLDER

__all__ = ["Wanted", "complete_segments", "read_decisions"]

_OUTPUT = "output_"
_KEY = "key_"


@dataclass(frozen=True)
class Wanted:
    """Which decisions; whether with the entity's keys, and with what shadows would have decided."""

    model: str
    partition: str | None = None
    decision: str | None = None
    keys: bool = False
    shadows: bool = False

    def where(self) -> ds.Expression | None:
        """The filter on ``predictions_personal``; None for all rows."""
        parts: list[ds.Expression] = []
        if self.partition is not None:
            window = month_window(self.partition)
            start, end = (pa.scalar(micros(at), pa.timestamp("us", "UTC")) for at in (window.start, window.end))
            parts += [ds.field("request_time") >= start, ds.field("request_time") < end]
            # Nobody decides before the request: whole days are left out by their folder.
            parts.append(ds.field("decided_date") >= window.start.date().isoformat())
        if self.decision is not None:
            parts.append(ds.field("decision") == self.decision)
        if not parts:
            return None
        whole = parts[0]
        for part in parts[1:]:
            whole &= part
        return whole

    def admits(self, record: UnsealedRecord) -> bool:
        """The same filter for a record that is in no table yet."""
        personal = record.personal
        if record.header["role"] == SHADOW_ROLE and not self.shadows:
            return False
        if self.partition is not None:
            window = month_window(self.partition)
            if not window.start <= utc(personal["request_time"]) < window.end:
                return False
        return self.decision is None or personal["decision"] == self.decision


def read_decisions(platform: Platform, wanted: Wanted, limit: int) -> dict[str, Any]:
    """``{model, found, decisions}``, the newest ``limit`` by id; an id begins with the time of its decision.

    Online decisions that only their router's log holds are there as well, with ``sealed`` false.
    """
    # The logs first: what is sealed meanwhile is in the tables before it leaves them.
    logs = UnsealedRecords(platform.root / WAL_FOLDER, KnownContracts(platform))
    logged = {one.prediction_id: one for one in logs.shaped(wanted.model) if wanted.admits(one)}
    stored = set(_stored(platform, wanted))
    unsealed = {name: one for name, one in logged.items() if name not in stored}
    newest = sorted([*stored, *unsealed], reverse=True)[:limit]
    rows = _rows(platform, wanted, [one for one in newest if one in stored])
    rows += [_unsealed_row(unsealed[one], wanted) for one in newest if one in unsealed]
    return {
        "model": wanted.model,
        "found": len(stored) + len(unsealed),
        "decisions": sorted(rows, key=lambda row: str(row["prediction_id"]), reverse=True),
    }


def _stored(platform: Platform, wanted: Wanted) -> list[str]:
    """Ids of all decisions of complete segments."""
    personal, headers = personal_table(wanted.model), predictions_table(wanted.model)
    if not platform.lake.exists(personal) or not platform.lake.exists(headers):
        return []
    matching = platform.lake.read(personal, columns=["prediction_id"], where=wanted.where()).column(0)
    sealed = ds.field("segment_id").isin(complete_segments(platform, wanted.model))
    shown = sealed if wanted.shadows else sealed & (ds.field("role") != SHADOW_ROLE)
    ids = platform.lake.read(headers, columns=["prediction_id"], where=shown).column(0)
    found = matching.filter(pc.is_in(matching, value_set=ids.combine_chunks()))
    return [str(one) for one in found.to_pylist()]


def _unsealed_row(record: UnsealedRecord, wanted: Wanted) -> dict[str, Any]:
    names = list(record.personal)
    outputs = [name for name in names if name.startswith(_OUTPUT)]
    keys = [name for name in names if name.startswith(_KEY)] if wanted.keys else []
    return _row({**record.personal, **record.header}, outputs, keys) | {"sealed": False}


def complete_segments(platform: Platform, model: str) -> list[str]:
    """The segments of a model that a commit marker covers."""
    if not platform.lake.exists(SEGMENTS):
        return []
    rows = platform.lake.read(SEGMENTS, columns=["segment_id", "marker"], where=ds.field("model") == model)
    return [row["segment_id"] for row in rows.to_pylist() if platform.objects.exists(row["marker"])]


def _rows(platform: Platform, wanted: Wanted, ids: list[str]) -> list[dict[str, Any]]:
    if not ids:
        return []
    dates = {utc(id_time(id_bytes(one))).date().isoformat() for one in ids}
    one_of = ds.field("decided_date").isin(sorted(dates)) & ds.field("prediction_id").isin(ids)
    names = platform.lake.dataset(personal_table(wanted.model)).schema.names
    outputs = [name for name in names if name.startswith(_OUTPUT)]
    keys = [name for name in names if name.startswith(_KEY)] if wanted.keys else []
    columns = ["prediction_id", "request_time", "decision", "flags", *outputs, *keys]
    personal = platform.lake.read(personal_table(wanted.model), columns=columns, where=one_of)
    shown = ["prediction_id", "decided_at", "version", "mode", "role", "decision_of_record"]
    headers = platform.lake.read(predictions_table(wanted.model), columns=shown, where=one_of)
    decided = {row["prediction_id"]: row for row in headers.to_pylist()}
    return [
        _row({**row, **decided[row["prediction_id"]]}, outputs, keys) | {"sealed": True} for row in personal.to_pylist()
    ]


def _row(row: dict[str, Any], outputs: list[str], keys: list[str]) -> dict[str, Any]:
    made = {name.removeprefix(_OUTPUT): _shortest(row[name]) for name in outputs if row[name] is not None}
    shown = {
        "prediction_id": row["prediction_id"],
        "decided_at": format_utc(row["decided_at"]),
        "request_time": format_utc(row["request_time"]),
        "version": row["version"],
        "mode": row["mode"],
        "role": row["role"],
        "decision_of_record": row["decision_of_record"],
        "score": next(iter(made.values()), None),
        "outputs": made,
        "decision": row["decision"],
        "flags": list(row["flags"]),
    }
    return shown | ({"entity": {name.removeprefix(_KEY): row[name] for name in keys}} if keys else {})


def _shortest(value: float) -> float:
    """A float32 as the shortest decimal that stands for it alone."""
    return float(str(np.float32(value)))
