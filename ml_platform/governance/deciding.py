"""One decision as the trace shows it: what was decided, from which features, in which batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

import pyarrow.dataset as ds

from ml_platform.core.clock import format_utc, parse_utc
from ml_platform.core.contract import Contract, ResolvedField
from ml_platform.core.errors import NotFound, Tampered
from ml_platform.core.rows import utc
from ml_platform.governance.parts import Parts
from ml_platform.governance.proving import NOT_YET_PROVEN
from ml_platform.governance.reading import shown_float
from ml_platform.serving import FoundRecord
from ml_platform.serving.intent import marker_path, read_intent, read_result
from ml_platform.serving.online_sealing import DECLARED_LAG_SECONDS
from ml_platform.serving.tables import SEGMENTS, age_column, feature_column, key_column, output_column
from ml_platform.serving.unsealed import UnsealedRecord
from ml_platform.training import Decline

__all__ = ["Recorded", "batch_section", "features_section", "prediction_section", "recording_section"]

_MICROSECONDS_A_DAY: Final = 86_400_000_000
_REPLAYED: Final = "replayed, never served"


class Recorded(Protocol):
    """A record as the tables hold it, sealed or not."""

    @property
    def prediction_id(self) -> str: ...

    @property
    def header(self) -> Mapping[str, Any]: ...

    @property
    def personal(self) -> Mapping[str, Any] | None: ...


def prediction_section(found: Recorded, contract: Contract, decision: Decline | None) -> dict[str, Any]:
    """Who was decided about, when, and how."""
    header, personal = found.header, found.personal or {}
    outputs = {output.name: shown_float(personal[output_column(output.name)]) for output in contract.outputs}
    return {
        "id": found.prediction_id,
        "model": header["model"],
        "version": header["version"],
        "mode": header["mode"],
        "role": header["role"],
        "served": _REPLAYED if header["clock"] == "replay" else "served",
        "decision_of_record": header["decision_of_record"],
        "entity": {name: personal[key_column(name)] for name, _ in contract.entity_keys},
        "request_time": format_utc(personal["request_time"]),
        "decided_at": format_utc(header["decided_at"]),
        "recorded_at": format_utc(header["recorded_at"]),
        "time_asserted_by": "the operator",  # until a witness cosigns checkpoints
        "outputs": outputs,
        "score": outputs[contract.outputs[0].name],
        "threshold": None if decision is None else decision.above,
        "decision": personal["decision"],
        "reasons": list(personal["reasons"]),
        "flags": list(personal["flags"]),
        "contract": header["contract_digest"],
        "artifact": header["artifact_digest"],
        "supersedes": header["supersedes"],
        "pair_of": header["pair_of"],
        "latency_us": header["latency_us"],
        "writer": header["writer"],
        "seq": header["seq"],
    }


def features_section(found: Recorded, contract: Contract) -> list[dict[str, Any]]:
    """Each feature as the model used it; a number is the float32 that went in, a category the value as received."""
    row = found.personal or {}
    flags: dict[str, list[str]] = {}
    for flag in row["flags"]:
        name, _, rule = flag.partition(":")
        flags.setdefault(name, []).append(rule)
    return [_feature(item, row, flags.get(item.name, [])) for item in contract.fields]


def _feature(item: ResolvedField, row: Mapping[str, Any], flags: list[str]) -> dict[str, Any]:
    value = row[feature_column(item)]
    shown = {
        "name": item.name,
        "value": shown_float(value) if item.kind == "number" else value,
        "origin": item.origin,
        "reference": item.reference,
        "flags": flags,
    }
    if item.expression is not None:
        shown["expression"] = item.expression
    if item.origin == "stored":
        age = row[age_column(item)]
        shown["age_us"] = age
        shown["age_days"] = None if age is None else round(age / _MICROSECONDS_A_DAY, 3)
    return shown


def batch_section(parts: Parts, found: FoundRecord | UnsealedRecord) -> dict[str, Any] | None:
    """The partition that the record belongs to, its counts, and what scored it again; None for other modes.

    Raises:
        Tampered: the commit marker and the segment contradict each other.
    """
    if found.header["mode"] != "batch" or isinstance(found, UnsealedRecord):
        return None
    rows = parts.lake.read(SEGMENTS, columns=["marker"], where=ds.field("segment_id") == found.segment.id).to_pylist()
    partition, revision = _place(found, rows)
    result = read_result(parts.objects, found.segment.model, partition, revision)
    if result is None:
        raise NotFound(
            "The partition has no commit marker.", field=partition, next_step="Score it again to complete it."
        )
    marked = {name: getattr(result, name) for name in ("accepted", "declined", "flagged", "refused")}
    if (result.segment_id, result.root, marked) != (found.segment.id, found.segment.root, dict(found.segment.counts)):
        raise Tampered(
            "The partition's commit marker and the sealed segment contradict each other.",
            field=marker_path(found.segment.model, partition, revision),
            next_step="Restore the marker from a backup.",
        )
    return {
        "partition": partition,
        "revision": revision,
        "already_decided": result.already_decided,
        "rows": result.rows,
        **marked,
        "flags": result.flags,
        "refusals": result.refusals,
        "scored_again": _scored_again(parts, found, partition, revision),
    }


def _place(found: FoundRecord, rows: list[dict[str, Any]]) -> tuple[str, int]:
    parts = rows[0]["marker"].split("/") if rows else []
    if len(parts) != 5 or parts[1] != found.segment.model or not parts[3].isdecimal():
        raise Tampered(
            "The index of segments does not name the commit marker of this one.",
            field=found.segment.id,
            next_step="Restore the table index/segments from a backup.",
        )
    return parts[2], int(parts[3])


def _scored_again(parts: Parts, found: FoundRecord, partition: str, revision: int) -> list[dict[str, Any]]:
    """Later revisions of the partition: they stand beside this decision, or correct it."""
    later: list[dict[str, Any]] = []
    model = found.segment.model
    while (result := read_result(parts.objects, model, partition, revision + 1)) is not None:
        revision += 1
        intent = read_intent(parts.objects, model, partition, revision)
        later.append(
            {
                "revision": revision,
                "version": result.version,
                "decided_at": result.decided_at,
                "decision_of_record": result.decision_of_record,
                "reason": intent.reason,
            }
        )
    return later


def recording_section(parts: Parts, found: Recorded, sealing_index: int | None) -> dict[str, Any]:
    """When the record was sealed, and whether later than online records are promised to be.

    Args:
        parts: the root.
        found: the record.
        sealing_index: of the log's entry that seals it; None while there is none.
    """
    header, promised = found.header, None if found.header["mode"] == "batch" else DECLARED_LAG_SECONDS
    shown: dict[str, Any] = {"promised_within_seconds": promised}
    if sealing_index is None:
        return {**shown, "says": NOT_YET_PROVEN, "sealed_at": None, "lag_seconds": None, "late": None}
    sealed_at = parts.registry.entry(sealing_index).recorded_at
    lag = (parse_utc(sealed_at) - utc(header["recorded_at"])).total_seconds()
    late = promised is not None and lag > promised
    says = f"late-recorded: sealed {lag:.0f} s after it was recorded" if late else "sealed"
    return {**shown, "says": says, "sealed_at": sealed_at, "lag_seconds": round(lag, 3), "late": late}
