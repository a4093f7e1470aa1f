"""Logged decisions as rows of the tables: leaves, commitments and entity index for a block of records at once.

The router logs header, section and salt and hashes nothing; what proves a record is made here, from exactly the bytes
that it logged. The rows are those bytes read as columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.core.contract import Contract
from ml_platform.core.errors import IntegrityError
from ml_platform.core.row_columns import RowColumns
from ml_platform.core.rows import encode_row, encode_value
from ml_platform.core.subjects import Subjects
from ml_platform.serving import tables
from ml_platform.serving.building import binary_column, hex_texts, id_texts
from ml_platform.serving.hashing import OneKey, RowKeys, hash_tails, sized
from ml_platform.serving.online_record import (
    HEADER_FIELDS,
    decision_parts,
    key_types,
)
from ml_platform.serving.raw_decision import Contracts
from ml_platform.serving.record import (
    HEADER_FORMAT,
    INDEX_TAG,
    LEAF_TAG,
    PERSONAL_TAG,
    SECTION_FORMAT,
    SUBJECT_ROLE,
)
from ml_platform.serving.segment import LeafTree

__all__ = [
    "Decoded",
    "EntityOf",
    "SegmentRows",
    "decision_rows",
    "decode_columns",
    "entity_rows",
    "joined",
]


@dataclass(frozen=True)
class EntityOf:
    """What a model decides about: the entity's name, and whether each has a seed of its own."""

    name: str
    personal: bool


@dataclass(frozen=True)
class Decoded:
    """Logged decisions of one model as columns, in the order in which they were logged.

    Args:
        headers: rows of ``predictions``; segment and place are null.
        personal: rows of ``predictions_personal``.
        keys: ``row/1`` bytes of each entity key.
        leaves: [n, 32].
    """

    headers: pa.Table
    personal: pa.Table
    keys: list[bytes]
    leaves: npt.NDArray[np.uint8]

    @property
    def rows(self) -> int:
        return len(self.keys)

    def numbers(self, name: str) -> npt.NDArray[np.int64]:
        """An integer or time column of the headers."""
        column: Any = self.headers.column(name)
        return np.asarray(column.cast(pa.int64()).to_numpy())

    def slice(self, start: int, stop: int) -> Decoded:
        """The rows [start, stop)."""
        size = stop - start
        tables_ = (self.headers.slice(start, size), self.personal.slice(start, size))
        return Decoded(*tables_, self.keys[start:stop], self.leaves[start:stop])


@dataclass(frozen=True)
class SegmentRows:
    """All rows of a segment, sorted as their files are (entities by index, the others by id), and its tree."""

    headers: pa.Table
    personal: pa.Table
    entities: pa.Table
    tree: LeafTree


_ID: Final = 16
_SALT: Final = 32
_LEAST: Final = 48
_US: Final = pa.timestamp("us", "UTC")
_RENAMED: Final = {"decided_at_us": "decided_at", "recorded_at_us": "recorded_at"}
_LEAF_PREFIX: Final = b"\x00" + encode_value("text", LEAF_TAG)
_ROLE: Final = encode_value("text", SUBJECT_ROLE)
_COMMITTED: Final = b"\x01\x20\x00\x00\x00"


def decision_rows(payload: bytes, contracts: Contracts) -> tuple[dict[str, Any], dict[str, Any]]:
    """The rows of ``predictions`` (segment and place are null) and ``predictions_personal`` of one logged decision."""
    found = decode_columns([payload], contracts)
    return found.headers.to_pylist()[0], found.personal.to_pylist()[0]


def decode_columns(payloads: Sequence[bytes], contracts: Contracts) -> Decoded:
    """Rows and leaves of logged decisions.

    Raises:
        IntegrityError: one of them is none, or its section is not of its contract.
        NotFound: nobody knows a contract.
    """
    headers, sections, salts = map(list, zip(*map(_parts, payloads), strict=True))
    commitments = RowKeys(salts).macs(encode_value("text", PERSONAL_TAG), sized(sections))
    heads = sized(headers, _ROLE + _COMMITTED)
    leaves = hash_tails(_LEAF_PREFIX, [head + end for head, end in zip(heads, commitments, strict=True)])
    table = _headers(headers, commitments)
    personal, keys = _personal(sections, salts, table, contracts)
    return Decoded(table, personal, keys, np.frombuffer(b"".join(leaves), np.uint8).reshape(-1, 32))


def _parts(payload: bytes) -> tuple[bytes, bytes, bytes]:
    """As ``decision_parts``, which is asked about everything that is not as it should be."""
    if len(payload) > _LEAST:
        middle = 6 + int.from_bytes(payload[2:6], "little")
        salt = middle + 5 + int.from_bytes(payload[middle + 1 : middle + 5], "little")
        if payload[:2] + payload[middle : middle + 1] == b"\x01\x01\x01" and payload[salt:][:5] == _COMMITTED:
            found = payload[6:middle], payload[middle + 5 : salt], payload[salt + 5 :]
            if len(found[2]) == _SALT:
                return found
    return decision_parts(payload)


def _headers(raw: Sequence[bytes], commitments: Sequence[bytes]) -> pa.Table:
    columns = RowColumns(raw)
    _require_format(columns, HEADER_FORMAT)
    rows = len(raw)
    made: dict[str, Any] = {}
    for name, kind in HEADER_FIELDS:
        column: Any = columns.take(kind)
        if kind == "us":
            column = column.cast(_US)
        elif kind == "bytes":
            column = _ids(column)
        made[_RENAMED.get(name, name)] = column
    columns.end()
    made["section_role"] = _constant(SUBJECT_ROLE, rows)
    made["commitment"] = binary_column(commitments, 32).cast(pa.binary())
    made["segment_id"] = pa.nulls(rows, pa.string())
    made["leaf_index"] = pa.nulls(rows, pa.int64())
    return pa.Table.from_arrays([made[name] for name in tables.HEADER_SCHEMA.names], schema=tables.HEADER_SCHEMA)


def _require_format(columns: RowColumns, expected: str) -> None:
    found = columns.take("text")
    if columns.rows and pc.unique(found).to_pylist() != [expected]:
        raise IntegrityError(
            "A logged record is none of ours.",
            field="format",
            next_step="Keep the file and find out which process wrote it; it is not sealed before.",
        )


def _ids(column: Any) -> pa.Array[Any]:
    """Ids as texts; null where there is none."""
    if column.null_count == len(column):
        return pa.nulls(len(column), pa.string())
    present: Any = column.drop_null()
    raw = b"".join(present.to_pylist())
    if len(raw) != _ID * len(present):
        raise IntegrityError("A logged id has not 16 bytes.", field="id", next_step="Find out which process wrote it.")
    texts: Any = id_texts(np.frombuffer(raw, np.uint8).reshape(-1, _ID))
    if not column.null_count:
        made: pa.Array[Any] = texts
        return made
    places = np.cumsum(column.is_valid().to_numpy(zero_copy_only=False)) - 1
    taken: pa.Array[Any] = texts.take(pa.array(places, mask=column.is_null().to_numpy(zero_copy_only=False)))
    return taken


def _constant(value: str, rows: int) -> pa.Array[Any]:
    anything: Any = pa
    made: pa.Array[Any] = anything.repeat(value, rows)
    return made


def _personal(
    sections: Sequence[bytes], salts: Sequence[bytes], headers: pa.Table, contracts: Contracts
) -> tuple[pa.Table, list[bytes]]:
    """Personal rows in the order of the headers, and their entity keys; other contracts fill other columns."""
    digests: Any = headers.column("contract_digest").combine_chunks().dictionary_encode()
    codes = digests.indices.to_numpy(zero_copy_only=False)
    parts: list[pa.Table] = []
    keys: list[bytes] = [b""] * len(sections)
    order = np.argsort(codes, kind="stable")
    for code, digest in enumerate(digests.dictionary.to_pylist()):
        of = order[codes[order] == code].tolist()
        table, some = _sections([sections[one] for one in of], contracts(str(digest)))
        salt = binary_column([salts[one] for one in of], 32).cast(pa.binary())
        ids: Any = headers.column("prediction_id").take(pa.array(of)).combine_chunks()
        table = table.add_column(0, "prediction_id", ids).append_column("salt", salt)
        parts.append(table)
        for one, key in zip(of, some, strict=True):
            keys[one] = key
    joined_ = pa.concat_tables(parts, promote_options="default")
    return (joined_ if len(parts) == 1 else joined_.take(np.argsort(order))), keys


def _sections(raw: Sequence[bytes], contract: Contract) -> tuple[pa.Table, list[bytes]]:
    """Columns of sections of one contract, without id and salt, and the bytes of the entity keys."""
    columns = RowColumns(raw)
    _require_format(columns, SECTION_FORMAT)
    found: list[Any] = [columns.take("us")]
    before = columns.offsets()
    found += [columns.take(kind) for kind in key_types(contract)]
    after = columns.offsets()
    found += [columns.take("f32" if item.kind == "number" else "text") for item in contract.fields]
    found += [columns.take("i64") for _ in contract.stored]
    found.append(columns.take("texts"))
    found += [columns.take("f32") for _ in contract.outputs]
    found += [columns.take("text"), columns.take("texts")]
    columns.end()
    schema = pa.schema(
        [item for item in tables.personal_schema(contract) if item.name not in {"prediction_id", "salt"}]
    )
    cast = [one if one.type == item.type else one.cast(item.type) for one, item in zip(found, schema, strict=True)]
    keys = [row[start:end] for row, start, end in zip(raw, before, after, strict=True)]
    return pa.Table.from_arrays(cast, schema=schema), keys


def entity_rows(decoded: Decoded, subjects: Subjects, entity: EntityOf, month: str) -> pa.Table:
    """The entity index of decisions of one model and month; seeds are made where a subject is new."""
    model: Any = decoded.headers.column("model")[0].as_py()
    prefix = encode_row([("text", INDEX_TAG), ("text", model), ("text", month)])
    if entity.personal:
        index = RowKeys(subjects.seeds(entity.name, decoded.keys)).macs(prefix, [b""] * decoded.rows)
    else:
        index = OneKey(subjects.seeds(entity.name, [b""])[0]).macs(prefix, sized(decoded.keys))
    matrix = np.frombuffer(b"".join(index), np.uint8).reshape(-1, 32)
    ids: Any = decoded.headers.column("prediction_id").combine_chunks()
    return pa.Table.from_arrays(
        [hex_texts(matrix), pa.array(matrix[:, 0].astype(np.int64)), ids], schema=tables.ENTITY_SCHEMA
    )


def joined(blocks: Sequence[Decoded], entities: Sequence[pa.Table], segment_id: str) -> SegmentRows:
    """The rows of a whole segment, each header with its place in the segment's tree.

    Raises:
        DuplicateKeys: two records have the same leaf.
    """
    tree, rank = LeafTree.of(np.concatenate([block.leaves for block in blocks]))
    headers = pa.concat_tables([block.headers for block in blocks])
    names = headers.column_names
    headers = headers.set_column(names.index("segment_id"), "segment_id", _constant(segment_id, headers.num_rows))
    headers = headers.set_column(names.index("leaf_index"), "leaf_index", pa.array(rank))
    personal = pa.concat_tables([block.personal for block in blocks], promote_options="default")
    return SegmentRows(
        headers.sort_by("prediction_id").combine_chunks(),
        personal.sort_by("prediction_id").combine_chunks(),
        pa.concat_tables(entities).sort_by("entity_index").combine_chunks(),
        tree,
    )
