"""Logged decisions as rows of the tables: leaves, commitments and entity index for a block of records at once.

The router logs header, section and salt and hashes nothing; what proves a record is made here, from exactly the bytes
that it logged. The rows are those bytes read as columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ml_platform.core.contract import Contract
from ml_platform.core.ids import id_text
from ml_platform.core.rows import encode_row, encode_value
from ml_platform.core.subjects import Subjects
from ml_platform.serving import tables
from ml_platform.serving.building import hex_texts, id_texts
from ml_platform.serving.hashing import Keys, OneKey, RowKeys, hash_tails, sized
from ml_platform.serving.online_record import decision_parts, decode_header, decode_section
from ml_platform.serving.record import (
    INDEX_TAG,
    LEAF_TAG,
    PERSONAL_TAG,
    SUBJECT_ROLE,
    Header,
    Section,
    commitment,
    record_leaf,
)
from ml_platform.serving.segment import LeafTree

__all__ = ["Block", "Contracts", "EntityOf", "RawDecision", "SegmentRows", "decision_rows", "joined", "make_block"]

Contracts = Callable[[str], Contract]
"""The contract of a digest."""


@dataclass(frozen=True)
class EntityOf:
    """What a model decides about: the entity's name, and whether each has a seed of its own."""

    name: str
    personal: bool


@dataclass(frozen=True, slots=True)
class RawDecision:
    """A logged decision, and the bytes of header and section as they stand in the log."""

    header: Header
    section: Section
    salt: bytes
    raw_header: bytes
    raw_section: bytes

    @classmethod
    def of(cls, payload: bytes, contracts: Contracts) -> RawDecision:
        """The decision of a frame.

        Raises:
            IntegrityError: it is none.
            NotFound: nobody knows its contract.
        """
        raw_header, raw_section, salt = decision_parts(payload)
        header = decode_header(raw_header)
        section = decode_section(raw_section, contracts(header.contract_digest))
        return cls(header, section, salt, raw_header, raw_section)

    @property
    def entity_key(self) -> bytes:
        """``row/1`` bytes of the entity key."""
        return encode_row(self.section.keys)

    def commitment(self) -> bytes:
        """Of the subject's section."""
        return commitment(self.salt, self.raw_section)

    def leaf(self) -> bytes:
        """Of the whole record."""
        return record_leaf(self.raw_header, [(SUBJECT_ROLE, self.commitment())])


@dataclass(frozen=True)
class Block:
    """Some records of a segment: rows of the tables, without their place in it, and their leaves [n, 32]."""

    headers: pa.Table
    personal: pa.Table
    entities: pa.Table
    leaves: np.ndarray[tuple[int, int], np.dtype[np.uint8]]


@dataclass(frozen=True)
class SegmentRows:
    """All rows of a segment, sorted as their files are (entities by index, the others by id), and its tree."""

    headers: pa.Table
    personal: pa.Table
    entities: pa.Table
    tree: LeafTree


_ID_FIELDS: Final = ("supersedes", "pair_of")
_TIMES: Final = {"decided_at": "decided_at_us", "recorded_at": "recorded_at_us"}
_LEAF_PREFIX: Final = b"\x00" + encode_value("text", LEAF_TAG)
_ROLE: Final = encode_value("text", SUBJECT_ROLE)
_COMMITTED: Final = b"\x01\x20\x00\x00\x00"


def decision_rows(decision: RawDecision, contract: Contract) -> tuple[dict[str, Any], dict[str, Any]]:
    """The rows of ``predictions`` (segment and place are null) and ``predictions_personal`` of one decision."""
    header = _header_rows([decision], [decision.commitment()])
    personal = _personal_rows([decision], contract)
    return header.to_pylist()[0], personal.to_pylist()[0]


def make_block(
    decisions: Sequence[RawDecision], contracts: Contracts, subjects: Subjects, entity: EntityOf, month: str
) -> Block:
    """Rows and leaves of a block of records of one model and month; seeds are made where a subject is new."""
    tag = encode_value("text", PERSONAL_TAG)
    commitments = RowKeys([one.salt for one in decisions]).macs(tag, sized([one.raw_section for one in decisions]))
    heads = sized([one.raw_header for one in decisions], _ROLE + _COMMITTED)
    leaves = hash_tails(_LEAF_PREFIX, [head + end for head, end in zip(heads, commitments, strict=True)])
    return Block(
        _header_rows(decisions, commitments),
        _by_contract(decisions, contracts),
        _entity_rows(decisions, subjects, entity, month),
        np.frombuffer(b"".join(leaves), np.uint8).reshape(-1, 32),
    )


def joined(blocks: Sequence[Block], segment_id: str) -> SegmentRows:
    """The rows of a whole segment, each header with its place in the segment's tree.

    Raises:
        DuplicateKeys: two records have the same leaf.
    """
    tree, rank = LeafTree.of(np.concatenate([block.leaves for block in blocks]))
    headers = pa.concat_tables([block.headers for block in blocks])
    names = headers.column_names
    segments = pa.DictionaryArray.from_arrays(np.zeros(headers.num_rows, np.int32), pa.array([segment_id]))
    headers = headers.set_column(names.index("segment_id"), "segment_id", segments.dictionary_decode())
    headers = headers.set_column(names.index("leaf_index"), "leaf_index", pa.array(rank))
    personal = pa.concat_tables([block.personal for block in blocks], promote_options="default")
    entities = pa.concat_tables([block.entities for block in blocks])
    return SegmentRows(
        headers.sort_by("prediction_id").combine_chunks(),
        personal.sort_by("prediction_id").combine_chunks(),
        entities.sort_by("entity_index").combine_chunks(),
        tree,
    )


def _header_rows(decisions: Sequence[RawDecision], commitments: Sequence[bytes]) -> pa.Table:
    headers = [decision.header for decision in decisions]
    rows = len(headers)
    made: dict[str, Any] = {
        "prediction_id": id_texts(_matrix([header.prediction_id for header in headers])),
        "section_role": [SUBJECT_ROLE] * rows,
        "commitment": list(commitments),
        "segment_id": [None] * rows,
        "leaf_index": [None] * rows,
    }
    for name in _ID_FIELDS:
        raw = [getattr(header, name) for header in headers]
        made[name] = [None if one is None else id_text(one) for one in raw]
    arrays = []
    for item in tables.HEADER_SCHEMA:
        values = made.get(item.name)
        if values is None:
            source = _TIMES.get(item.name, item.name)
            values = [getattr(header, source) for header in headers]
        arrays.append(values if isinstance(values, pa.Array) else pa.array(values, item.type))
    return pa.Table.from_arrays(arrays, schema=tables.HEADER_SCHEMA)


def _matrix(ids: Sequence[bytes]) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.frombuffer(b"".join(ids), np.uint8).reshape(-1, 16)


def _by_contract(decisions: Sequence[RawDecision], contracts: Contracts) -> pa.Table:
    """Versions with other contracts fill other columns of the same table."""
    groups: dict[str, list[RawDecision]] = {}
    for decision in decisions:
        groups.setdefault(decision.header.contract_digest, []).append(decision)
    parts = [_personal_rows(some, contracts(digest)) for digest, some in groups.items()]
    return pa.concat_tables(parts, promote_options="default")


def _personal_rows(decisions: Sequence[RawDecision], contract: Contract) -> pa.Table:
    sections = [decision.section for decision in decisions]
    columns: list[Sequence[object]] = [[one.request_time_us for one in sections]]
    columns += zip(*([value for _, value in one.keys] for one in sections), strict=True)
    columns += zip(*([value for _, value in one.features] for one in sections), strict=True)
    columns += zip(*(one.ages_us for one in sections), strict=True)
    columns += [[one.flags for one in sections]]
    columns += zip(*(one.outputs for one in sections), strict=True)
    columns += [[one.decision for one in sections], [one.reasons for one in sections]]
    columns += [[decision.salt for decision in decisions]]
    schema = tables.personal_schema(contract)
    ids = id_texts(_matrix([decision.header.prediction_id for decision in decisions]))
    typed = [pa.array(values, item.type) for values, item in zip(columns, list(schema)[1:], strict=True)]
    return pa.Table.from_arrays([ids, *typed], schema=schema)


def _entity_rows(decisions: Sequence[RawDecision], subjects: Subjects, entity: EntityOf, month: str) -> pa.Table:
    keys = [decision.entity_key for decision in decisions]
    prefix = encode_row([("text", INDEX_TAG), ("text", decisions[0].header.model), ("text", month)])
    if entity.personal:
        seeds: Keys = RowKeys(subjects.seeds(entity.name, keys))
        index = seeds.macs(prefix, [b""] * len(keys))
    else:
        seeds = OneKey(subjects.seeds(entity.name, [b""])[0])
        index = seeds.macs(prefix, sized(keys))
    matrix = np.frombuffer(b"".join(index), np.uint8).reshape(-1, 32)
    ids = _matrix([decision.header.prediction_id for decision in decisions])
    return pa.Table.from_arrays(
        [hex_texts(matrix), pa.array(matrix[:, 0].astype(np.int64)), id_texts(ids)], schema=tables.ENTITY_SCHEMA
    )
