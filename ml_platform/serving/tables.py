"""Where records lie: two tables per model, its quarantine, and two small index tables for all models.

``<model>/predictions`` (headers and commitments) is append-only; ``<model>/predictions_personal`` alone may be
rewritten and vacuumed. Column names carry what they hold (``key_…``, ``number_…``, ``category_…``, ``age_…``,
``output_…``), so that versions with other features, or with a feature of another kind, share the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pyarrow as pa

from ml_platform.core.columns import arrow_type
from ml_platform.core.contract import Contract, ResolvedField
from ml_platform.core.errors import IntegrityError
from ml_platform.core.ids import id_bytes
from ml_platform.core.rows import FieldType, arrow_row_type, micros
from ml_platform.serving.record import Header, Section, commitment, record_leaf

__all__ = [
    "ENTITIES",
    "ENTITY_SCHEMA",
    "HEADER_SCHEMA",
    "QUARANTINE_SCHEMA",
    "SEGMENTS",
    "SEGMENT_SCHEMA",
    "age_column",
    "dense_columns",
    "feature_column",
    "header_from_row",
    "key_column",
    "leaf_from_rows",
    "output_column",
    "personal_schema",
    "personal_table",
    "predictions_table",
    "quarantine_table",
    "repeating_columns",
    "section_from_row",
]

_US: Final = pa.timestamp("us", "UTC")
_TEXTS: Final = pa.list_(pa.string())


def _schema(columns: list[tuple[str, pa.DataType]]) -> pa.Schema:
    return pa.schema(columns)


SEGMENTS: Final = "index/segments"
ENTITIES: Final = "index/entities"

HEADER_SCHEMA: Final = _schema(
    [
        ("prediction_id", pa.string()),
        ("root_id", pa.string()),
        ("model", pa.string()),
        ("version", pa.int64()),
        ("mode", pa.string()),
        ("role", pa.string()),
        ("decision_of_record", pa.bool_()),
        ("contract_digest", pa.string()),
        ("artifact_digest", pa.string()),
        ("route_digest", pa.string()),
        ("epoch", pa.int64()),
        ("flip_digest", pa.string()),
        ("clock", pa.string()),
        ("decided_at", _US),
        ("recorded_at", _US),
        ("latency_us", pa.int64()),
        ("supersedes", pa.string()),
        ("pair_of", pa.string()),
        ("writer", pa.string()),
        ("seq", pa.int64()),
        ("section_role", pa.string()),
        ("commitment", pa.binary()),
        ("segment_id", pa.string()),
        ("leaf_index", pa.int64()),
    ]
)
QUARANTINE_SCHEMA: Final = _schema(
    [
        ("partition", pa.string()),
        ("revision", pa.int64()),
        ("version", pa.int64()),
        ("decided_at", _US),
        ("writer", pa.string()),
        ("row_index", pa.string()),
        ("field", pa.string()),
        ("rule", pa.string()),
        ("kind", pa.string()),
    ]
)
ENTITY_SCHEMA: Final = _schema([("entity_index", pa.string()), ("bucket", pa.int64()), ("prediction_id", pa.string())])
SEGMENT_SCHEMA: Final = _schema(
    [
        ("segment_id", pa.string()),
        ("model", pa.string()),
        ("min_id", pa.string()),
        ("max_id", pa.string()),
        ("size", pa.int64()),
        ("root", pa.string()),
        ("decided_date", pa.string()),
        ("predictions_version", pa.int64()),
        ("personal_version", pa.int64()),
        ("tiles", pa.string()),
        ("marker", pa.string()),
    ]
)


def predictions_table(model: str) -> str:
    """Headers and commitments of a model's records, by ``decided_date``; append-only."""
    return f"{model}/predictions"


def personal_table(model: str) -> str:
    """Their personal sections and salts, by ``decided_date``; the only table that may be rewritten."""
    return f"{model}/predictions_personal"


def quarantine_table(model: str) -> str:
    """Why rows were refused, by ``decided_date``; no values."""
    return f"{model}/quarantine"


def key_column(name: str) -> str:
    """The column of an entity key."""
    return f"key_{name}"


def feature_column(item: ResolvedField) -> str:
    """The column of a feature: a number as used, a category as received."""
    return f"{item.kind}_{item.name}"


def age_column(item: ResolvedField) -> str:
    """The column of a stored feature's age in microseconds."""
    return f"age_{item.name}"


def output_column(name: str) -> str:
    """The column of a named output."""
    return f"output_{name}"


_DENSE: Final = {"prediction_id", "commitment", "salt", "entity_index", "row_index"}
_UNIQUE: Final = {
    "prediction_id",
    "seq",
    "commitment",
    "leaf_index",
    "salt",
    "entity_index",
    "row_index",
    "request_time",
}


def repeating_columns(schema: pa.Schema) -> list[str]:
    """Columns that are worth a dictionary: not ids, hashes, keys, numbers."""
    unique = ("key_", "number_", "age_", "output_")
    return [name for name in schema.names if name not in _UNIQUE and not name.startswith(unique)]


def dense_columns(schema: pa.Schema) -> list[str]:
    """Columns that compression makes no smaller, or hardly: ids and hashes. They are also what look-ups read."""
    return [name for name in schema.names if name in _DENSE]


def personal_schema(contract: Contract) -> pa.Schema:
    """The columns of ``predictions_personal`` that the records of one contract fill."""
    columns: list[tuple[str, pa.DataType]] = [("prediction_id", pa.string()), ("request_time", _US)]
    columns += [(key_column(name), arrow_type(kind, field=name)) for name, kind in contract.entity_keys]
    columns += [
        (feature_column(item), pa.float32() if item.kind == "number" else pa.string()) for item in contract.fields
    ]
    columns += [(age_column(item), pa.int64()) for item in contract.stored]
    columns += [("flags", _TEXTS)]
    columns += [(output_column(output.name), pa.float32()) for output in contract.outputs]
    columns += [("decision", pa.string()), ("reasons", _TEXTS), ("salt", pa.binary())]
    return pa.schema(columns)


def _id(value: str | None) -> bytes | None:
    return None if value is None else id_bytes(value)


def header_from_row(row: Mapping[str, Any]) -> Header:
    """The header of a row of ``predictions``."""
    return Header(
        root_id=row["root_id"],
        model=row["model"],
        version=row["version"],
        mode=row["mode"],
        role=row["role"],
        decision_of_record=row["decision_of_record"],
        contract_digest=row["contract_digest"],
        artifact_digest=row["artifact_digest"],
        route_digest=row["route_digest"],
        epoch=row["epoch"],
        flip_digest=row["flip_digest"],
        clock=row["clock"],
        decided_at_us=micros(row["decided_at"]),
        recorded_at_us=micros(row["recorded_at"]),
        latency_us=row["latency_us"],
        supersedes=_id(row["supersedes"]),
        pair_of=_id(row["pair_of"]),
        writer=row["writer"],
        prediction_id=id_bytes(row["prediction_id"]),
        seq=row["seq"],
    )


def section_from_row(row: Mapping[str, Any], contract: Contract) -> Section:
    """The personal section of a row of ``predictions_personal``, as the contract of its header orders it."""

    def typed(name: str, kind: str) -> tuple[FieldType, object]:
        return arrow_row_type(arrow_type(kind, field=name), field=name), row[key_column(name)]

    features: list[tuple[FieldType, object]] = [
        ("f32" if item.kind == "number" else "text", row[feature_column(item)]) for item in contract.fields
    ]
    return Section(
        request_time_us=micros(row["request_time"]),
        keys=tuple(typed(name, kind) for name, kind in contract.entity_keys),
        features=tuple(features),
        ages_us=tuple(row[age_column(item)] for item in contract.stored),
        flags=tuple(row["flags"]),
        outputs=tuple(row[output_column(output.name)] for output in contract.outputs),
        decision=row["decision"],
        reasons=tuple(row["reasons"]),
    )


def leaf_from_rows(header_row: Mapping[str, Any], personal_row: Mapping[str, Any], contract: Contract) -> bytes:
    """The leaf, computed from the two tables alone.

    Raises:
        IntegrityError: the personal row does not fit the commitment of the header row.
    """
    personal = section_from_row(personal_row, contract).to_bytes()
    committed = commitment(personal_row["salt"], personal)
    if committed != header_row["commitment"]:
        raise IntegrityError(
            "The personal part of the record does not fit its commitment.",
            field="commitment",
            next_step="Run `mlp verify`: a table was changed.",
        )
    return record_leaf(header_from_row(header_row).to_bytes(), [(header_row["section_role"], committed)])
