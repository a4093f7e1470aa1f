"""The leaves of many records from the two tables, whole columns at a time.

Written apart from ``serving.building``, which made them: two ways to the same bytes check each other.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from ml_platform.core.contract import Contract
from ml_platform.core.errors import PlatformError, StorageFailed
from ml_platform.core.ids import id_bytes
from ml_platform.core.rows import encode_row, encode_table, encode_value
from ml_platform.governance.reading import column_values
from ml_platform.serving.record import HEADER_FORMAT, PERSONAL_TAG, SECTION_FORMAT, record_leaf
from ml_platform.serving.tables import (
    age_column,
    feature_column,
    key_column,
    leaf_from_rows,
    output_column,
    personal_schema,
)

__all__ = ["RecordLeaf", "record_leaves"]

_BEFORE_IDS: Final = (
    "root_id",
    "model",
    "version",
    "mode",
    "role",
    "decision_of_record",
    "contract_digest",
    "artifact_digest",
    "route_digest",
    "epoch",
    "flip_digest",
    "clock",
    "decided_at",
    "recorded_at",
    "latency_us",
)
_HEADER_COLUMNS: Final = (*_BEFORE_IDS, "supersedes", "pair_of", "writer", "prediction_id", "seq")
_ID_COLUMNS: Final = ("supersedes", "pair_of", "prediction_id")


@dataclass(frozen=True, slots=True)
class RecordLeaf:
    """What the rows of one record give: the leaf, or None and what is wrong with the personal part or the header."""

    leaf: bytes | None
    wrong: str | None = None


def record_leaves(headers: pa.Table, personal: pa.Table, contract: Contract) -> list[RecordLeaf]:
    """The leaf of each row of ``headers``; row i of ``personal`` belongs to row i of ``headers``.

    Never raises for a row: one that cannot be encoded, or whose personal part does not fit its commitment, says so.
    """
    try:
        whole = _whole_columns(headers, personal, contract)
    except StorageFailed:
        raise
    except (PlatformError, pa.ArrowException, KeyError, TypeError, ValueError):
        return _row_by_row(headers, personal, contract)
    return whole


def _whole_columns(headers: pa.Table, personal: pa.Table, contract: Contract) -> list[RecordLeaf]:
    committed = column_values(headers, "commitment")
    tag = encode_row([("text", PERSONAL_TAG)])
    fits = [
        hmac.compare_digest(hmac.digest(salt, tag + encode_value("bytes", raw), "sha256"), given)
        for salt, raw, given in zip(
            column_values(personal, "salt"), _personal_bytes(personal, contract), committed, strict=True
        )
    ]
    roles = column_values(headers, "section_role")
    return [
        RecordLeaf(record_leaf(header, [(role, given)]))
        if fit
        else RecordLeaf(None, "The personal part does not fit its commitment.")
        for header, role, given, fit in zip(_header_bytes(headers), roles, committed, fits, strict=True)
    ]


def _header_bytes(headers: pa.Table) -> list[bytes]:
    table = headers.select(list(_HEADER_COLUMNS))
    for name in _ID_COLUMNS:
        texts = column_values(table, name)
        raw = pa.array([None if text is None else id_bytes(text) for text in texts], pa.binary())
        table = table.set_column(table.column_names.index(name), name, raw)
    start = encode_value("text", HEADER_FORMAT)
    return [start + row for row in encode_table(table, _HEADER_COLUMNS)]


def _personal_bytes(personal: pa.Table, contract: Contract) -> list[bytes]:
    table = personal.select(personal_schema(contract).names)
    before = ["request_time", *(key_column(name) for name, _ in contract.entity_keys)]
    before += [feature_column(item) for item in contract.fields] + [age_column(item) for item in contract.stored]
    outputs = [output_column(output.name) for output in contract.outputs]
    start = encode_value("text", SECTION_FORMAT)
    parts = zip(
        encode_table(table, before),
        _texts(table, "flags"),
        encode_table(table, [*outputs, "decision"]),
        _texts(table, "reasons"),
        strict=True,
    )
    return [start + b"".join(row) for row in parts]


def _texts(table: pa.Table, name: str) -> list[bytes]:
    known: dict[tuple[str, ...], bytes] = {}
    encoded: list[bytes] = []
    for texts in column_values(table, name):
        key = tuple(texts)
        if key not in known:
            known[key] = encode_value("texts", key)
        encoded.append(known[key])
    return encoded


def _row_by_row(headers: pa.Table, personal: pa.Table, contract: Contract) -> list[RecordLeaf]:
    return [_one(header, row, contract) for header, row in zip(_rows(headers), _rows(personal), strict=True)]


def _rows(table: pa.Table) -> Sequence[Mapping[str, Any]]:
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _one(header: Mapping[str, Any], personal: Mapping[str, Any], contract: Contract) -> RecordLeaf:
    try:
        return RecordLeaf(leaf_from_rows(header, personal, contract))
    except StorageFailed:
        raise
    except PlatformError as error:
        return RecordLeaf(None, error.what)
    except (KeyError, TypeError, ValueError):
        return RecordLeaf(None, "A column holds what cannot have been written.")
