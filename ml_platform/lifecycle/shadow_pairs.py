"""What a shadow version said beside the one that decided: sealed records and those that wait for the sealer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow.dataset as ds

from ml_platform.core.ids import id_bytes, id_text, id_time
from ml_platform.governance.contracts import KnownContracts
from ml_platform.lifecycle.shadow_cursor import COUNTS, ShadowCursor, cursor_path
from ml_platform.platform import Platform
from ml_platform.rollout.agreement import agreement
from ml_platform.serving.online_record import DECISION
from ml_platform.serving.online_writers import writer_folders
from ml_platform.serving.raw_decision import RawDecision
from ml_platform.serving.record import SHADOW_ROLE
from ml_platform.serving.tables import output_column, personal_table, predictions_table
from ml_platform.serving.wal import WAL_FOLDER

__all__ = ["shadow_report"]

_Said = tuple[str | None, float]
_HEADER: Final = ["prediction_id", "pair_of"]


def shadow_report(platform: Platform, model: str, version: int) -> dict[str, Any]:
    """Pairs, other decisions, score differences, and what could not be compared. Reads only.

    ``waiting`` are pairs of which one record is not to be found any more, or not yet.

    Raises:
        NotFound: unknown model or version.
    """
    platform.registry.state().version(model, version)
    logged = list(_logged(platform, model))
    pair_of, said = _shadows(platform, model, version, logged)
    primaries = _primaries(platform, model, set(pair_of.values()), logged)
    found = [(primaries[pair], said[own]) for own, pair in pair_of.items() if pair in primaries and own in said]
    compared = agreement(
        [(before[0], after[0]) for before, after in found],
        np.array([before[1] for before, _ in found], np.float64),
        np.array([after[1] for _, after in found], np.float64),
    )
    cursor = ShadowCursor.read(cursor_path(platform.root, model, version))
    counts = {name: 0 if cursor is None else cursor.counts[name] for name in COUNTS if name != "pairs"}
    waiting = len(pair_of) - len(found)
    return {"model": model, "version": version, **compared.to_json(), "waiting": waiting, **counts}


def _logged(platform: Platform, model: str) -> Iterator[RawDecision]:
    contracts = KnownContracts(platform)
    for folder in writer_folders(platform.root / WAL_FOLDER, model):
        for payload in folder.frames():
            if payload[0] == DECISION:
                yield RawDecision.of(payload, contracts)


def _shadows(
    platform: Platform, model: str, version: int, logged: list[RawDecision]
) -> tuple[dict[str, str], dict[str, _Said]]:
    """Of the version's own records: id → the id that it accompanies, and id → what it said."""
    own = [one for one in logged if (one.header.role, one.header.version) == (SHADOW_ROLE, version)]
    pair_of = {_id(one): id_text(one.header.pair_of) for one in own if one.header.pair_of is not None}
    said = {_id(one): _said(one) for one in own}
    table = predictions_table(model)
    if platform.lake.exists(table):
        where = (ds.field("role") == SHADOW_ROLE) & (ds.field("version") == version)
        rows = platform.lake.read(table, columns=_HEADER, where=where).to_pylist()
        pair_of |= {row["prediction_id"]: row["pair_of"] for row in rows}
        said |= _sealed(platform, model, set(pair_of) - set(said))
    return pair_of, said


def _primaries(platform: Platform, model: str, wanted: set[str], logged: list[RawDecision]) -> dict[str, _Said]:
    found = {_id(one): _said(one) for one in logged if _id(one) in wanted}
    if platform.lake.exists(predictions_table(model)):
        found |= _sealed(platform, model, wanted - set(found))
    return found


def _id(one: RawDecision) -> str:
    return id_text(one.header.prediction_id)


def _said(one: RawDecision) -> _Said:
    score = one.section.outputs[0]
    return one.section.decision, float("nan") if score is None else score


def _sealed(platform: Platform, model: str, ids: set[str]) -> dict[str, _Said]:
    """What sealed records of some ids say by the output that they have."""
    if not ids:
        return {}
    names = platform.lake.dataset(personal_table(model)).schema.names
    outputs = [name for name in names if name.startswith(output_column(""))]
    dates = sorted({id_time(id_bytes(one)).date().isoformat() for one in ids})
    where = ds.field("decided_date").isin(dates) & ds.field("prediction_id").isin(sorted(ids))
    table = platform.lake.read(personal_table(model), columns=["prediction_id", "decision", *outputs], where=where)
    rows = table.to_pylist()
    return {
        row["prediction_id"]: (row["decision"], next(row[name] for name in outputs if row[name] is not None))
        for row in rows
    }
