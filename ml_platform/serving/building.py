"""Records of a chunk, whole columns at a time: ids, salts, personal bytes, commitments, and later the leaves.

Gives the bytes of ``serving.record`` and ``core.ids`` (a test compares row by row).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml_platform.core.contract import Contract
from ml_platform.core.ids import uuid_v8
from ml_platform.core.rows import encode_row, encode_value
from ml_platform.core.subjects import Seeds
from ml_platform.serving.encoding import Coded, Constant, Fixed, Messages, Part, arrow_part, fixed, row_messages
from ml_platform.serving.hashing import Keys, OneKey, RowKeys, hash_rows, mac_rows, sized_messages
from ml_platform.serving.intent import Intent
from ml_platform.serving.preparing import Prepared, TextLists
from ml_platform.serving.record import INDEX_TAG, LEAF_TAG, PERSONAL_TAG, SECTION_FORMAT, SUBJECT_ROLE, Header
from ml_platform.serving.spool import binary_matrix
from ml_platform.serving.tables import output_column, personal_schema

__all__ = [
    "Decided",
    "RecordBuilder",
    "binary_column",
    "hex_texts",
    "id_texts",
    "leaf_hashes",
    "leaf_rows",
    "spool_schema",
]

ID_BYTES: Final = 16
_HEX: Final = np.frombuffer(b"0123456789abcdef", np.uint8)
_HYPHENS: Final = (8, 13, 18, 23)


@dataclass(frozen=True)
class Decided:
    """What the model said of the rows of a chunk: outputs [n] by name, decision texts by code, reasons."""

    outputs: dict[str, npt.NDArray[np.float32]]
    decisions: npt.NDArray[np.int64]
    decision_texts: tuple[str | None, ...]
    reasons: TextLists

    def taken(self, rows: npt.NDArray[np.int64]) -> Decided:
        """What was said of some of the rows."""
        outputs = {name: values[rows] for name, values in self.outputs.items()}
        reasons = TextLists(self.reasons.codes[rows], self.reasons.lists)
        return Decided(outputs, self.decisions[rows], self.decision_texts, reasons)


def binary_column(values: Sequence[bytes] | npt.NDArray[np.uint8], width: int) -> pa.Array[Any]:
    """``binary(width)`` from equally long bytes."""
    raw = values.tobytes() if isinstance(values, np.ndarray) else b"".join(values)
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(values), [None, pa.py_buffer(raw)])


def _texts(matrix: npt.NDArray[np.uint8]) -> pa.Array[Any]:
    rows, width = matrix.shape
    offsets = np.arange(rows + 1, dtype=np.int32) * width
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets.tobytes()), pa.py_buffer(matrix.tobytes()))


def hex_texts(raw: npt.NDArray[np.uint8]) -> pa.Array[Any]:
    """Bytes [n, w] as hexadecimal texts."""
    digits = np.empty((len(raw), raw.shape[1] * 2), np.uint8)
    digits[:, 0::2] = _HEX[raw >> 4]
    digits[:, 1::2] = _HEX[raw & 15]
    return _texts(digits)


def id_texts(raw: npt.NDArray[np.uint8]) -> pa.Array[Any]:
    """Ids [n, 16] as their 36 characters."""
    matrix = np.full((len(raw), 36), ord("-"), np.uint8)
    places = [place for place in range(36) if place not in _HYPHENS]
    digits = np.empty((len(raw), 32), np.uint8)
    digits[:, 0::2] = _HEX[raw >> 4]
    digits[:, 1::2] = _HEX[raw & 15]
    matrix[:, places] = digits
    return _texts(matrix)


def spool_schema(contract: Contract) -> pa.Schema:
    """Personal columns and what the header needs; ids and hashes in binary."""
    columns = [item for item in personal_schema(contract) if item.name not in {"prediction_id", "salt"}]
    columns += [pa.field(name, pa.binary(32)) for name in ("salt", "commitment", "entity_index")]
    return pa.schema([pa.field("id", pa.binary(ID_BYTES)), pa.field("supersedes", pa.binary(ID_BYTES)), *columns])


def _field_list(*fields: tuple[Any, object]) -> bytes:
    return encode_row(list(fields))


class RecordBuilder:
    """Builds the records of one partition.

    Args:
        entity: the name of the model's entity, and whether it is ``personal``: then each subject has its own seed.
        earlier: of the superseded revision, its intent and ids [n, 16].
    """

    def __init__(
        self,
        intent: Intent,
        contract: Contract,
        subjects: Seeds,
        *,
        entity: str,
        personal: bool,
        earlier: tuple[Intent, npt.NDArray[np.uint8]] | None = None,
    ) -> None:
        self._intent = intent
        self._contract = contract
        self._subjects = subjects
        self._entity = entity
        self._personal = personal
        self._earlier = None if earlier is None else (earlier[0], {row.tobytes() for row in earlier[1]})
        self.model = intent.model
        self.schema = spool_schema(contract)

    def shared_seed(self) -> bytes:
        """The seed of the empty key: of all entities that are not personal, and of refused rows."""
        return self._subjects.seeds(self._entity, [b""])[0]

    def keys(self, prepared: Prepared) -> Keys:
        """The seeds of the rows' subjects; made where they are new."""
        if not self._personal:
            return OneKey(self.shared_seed())
        return RowKeys(self._subjects.seeds(self._entity, prepared.entity_keys))

    def ids(self, intent: Intent, keys: Keys, row_keys: Sequence[bytes]) -> npt.NDArray[np.uint8]:
        """[n, 16], as ``core.ids.uuid_v8`` of ``core.ids.batch_id_tail``."""
        prefix = _field_list(
            ("text", "ml-platform/id/1"),
            ("text", intent.root_id),
            ("text", intent.model),
            ("i64", intent.version),
            ("text", "batch"),
            ("text", intent.role),
            ("text", intent.partition),
        )
        macs = keys.mac_rows(prefix, sized_messages(row_keys, encode_value("i64", intent.revision)))
        ids = np.empty((len(macs), ID_BYTES), np.uint8)
        stamped = uuid_v8(intent.decided_time, bytes(10))
        ids[:, :6] = np.frombuffer(stamped[:6], np.uint8)
        ids[:, 6:] = macs[:, :10]
        ids[:, 6] = ids[:, 6] & 0x0F | stamped[6]
        ids[:, 8] = ids[:, 8] & 0x3F | stamped[8]
        return ids

    def build(self, prepared: Prepared, keys: Keys, decided: Decided) -> pa.Table:
        """The spool rows of a chunk: everything but ``seq`` and the leaf."""
        ids = self.ids(self._intent, keys, prepared.row_keys)
        salt_prefix = _field_list(("text", "ml-platform/salt/1"), ("text", "prediction")) + b"\x01\x10\x00\x00\x00"
        salts = keys.mac_rows(salt_prefix, Messages.of_matrix(ids))
        personal = row_messages(self._parts(prepared, decided), prepared.rows, sized=True)
        committed = mac_rows(salts, encode_value("text", PERSONAL_TAG), personal)
        rows: dict[str, Any] = {
            **prepared.columns,
            "id": binary_column(ids, ID_BYTES),
            "supersedes": self._superseded(prepared, keys),
            "request_time": prepared.times,
            "flags": prepared.flags.arrow(),
            **{output_column(name): pa.array(values) for name, values in decided.outputs.items()},
            "decision": pa.array(decided.decision_texts, pa.string()).take(decided.decisions),
            "reasons": decided.reasons.arrow(),
            "salt": binary_column(salts, 32),
            "commitment": binary_column(committed, 32),
            "entity_index": binary_column(self._index(prepared, keys), 32),
        }
        return pa.table([_cast(rows[item.name], item.type) for item in self.schema], schema=self.schema)

    def _parts(self, prepared: Prepared, decided: Decided) -> list[Part]:
        parts: list[Part] = [Constant(encode_value("text", SECTION_FORMAT), prepared.rows)]
        parts.append(arrow_part(prepared.times, field=self._contract.time))
        parts += [arrow_part(column, field=name) for name, column in prepared.columns.items()]
        parts.append(prepared.flags.part())
        parts += [fixed("f32", decided.outputs[output.name]) for output in self._contract.outputs]
        parts.append(Coded(decided.decisions, [encode_value("text", text) for text in decided.decision_texts]))
        parts.append(decided.reasons.part())
        return parts

    def _index(self, prepared: Prepared, keys: Keys) -> npt.NDArray[np.uint8]:
        prefix = _field_list(("text", INDEX_TAG), ("text", self._intent.model), ("text", self._intent.month))
        if self._personal:
            return keys.mac_rows(prefix, Messages.of([b""] * prepared.rows))
        return keys.mac_rows(prefix, sized_messages(prepared.entity_keys))

    def _superseded(self, prepared: Prepared, keys: Keys) -> pa.Array[Any]:
        """The ids that the same rows had in the superseded revision, where they were in it."""
        if self._earlier is None:
            return pa.nulls(prepared.rows, pa.binary(ID_BYTES))
        intent, present = self._earlier
        ids = self.ids(intent, keys, prepared.row_keys)
        return pa.array(
            [raw if raw in present else None for raw in (row.tobytes() for row in ids)], pa.binary(ID_BYTES)
        )


def _cast(column: Any, kind: pa.DataType) -> Any:
    return column if column.type == kind else column.cast(kind)


def leaf_hashes(header: Header, rows: pa.Table, first_seq: int) -> list[bytes]:
    """The leaves of spooled rows in their order; ``header`` gives the fields that are equal in all of them."""
    return Messages.of_matrix(leaf_rows(header, rows, first_seq)).split()


def leaf_rows(header: Header, rows: pa.Table, first_seq: int) -> npt.NDArray[np.uint8]:
    """The same, [n, 32]."""
    start = encode_row(header.constant_fields())
    supersedes = _supersedes_part(rows) if _any(rows) else None
    ids = fixed_bytes(binary_matrix(rows.column("id"), ID_BYTES))
    after = Constant(encode_row([("bytes", header.pair_of), ("text", header.writer)]), rows.num_rows)
    seq = fixed("i64", np.arange(first_seq, first_seq + rows.num_rows, dtype=np.int64))
    section: list[Part] = [
        Constant(encode_value("text", SUBJECT_ROLE), rows.num_rows),
        fixed_bytes(binary_matrix(rows.column("commitment"), 32)),
    ]
    if supersedes is not None:
        tails = row_messages([supersedes, after, ids, seq], rows.num_rows).split()
        ends = row_messages(section, rows.num_rows).split()
        tag = b"\x00" + encode_value("text", LEAF_TAG)
        whole = [encode_value("bytes", start + tail) + end for tail, end in zip(tails, ends, strict=True)]
        return hash_rows(tag, Messages.of(whole))
    none = Constant(b"\x00", rows.num_rows)
    header_bytes = len(start) + none.width + after.width + ids.width + seq.width
    prefix = b"\x00" + encode_value("text", LEAF_TAG) + b"\x01" + header_bytes.to_bytes(4, "little") + start
    return hash_rows(prefix, row_messages([none, after, ids, seq, *section], rows.num_rows))


def _supersedes_part(rows: pa.Table) -> Part:
    return arrow_part(rows.column("supersedes").cast(pa.binary()), field="supersedes")


def _any(rows: pa.Table) -> bool:
    column = rows.column("supersedes")
    return column.null_count < len(column)


def fixed_bytes(matrix: npt.NDArray[np.uint8]) -> Fixed:
    """A column of equally long bytes as a ``bytes`` field: presence, length, value."""
    rows, width = matrix.shape
    encoded = np.empty((rows, 5 + width), np.uint8)
    encoded[:, :5] = np.frombuffer(b"\x01" + width.to_bytes(4, "little"), np.uint8)
    encoded[:, 5:] = matrix
    return Fixed(encoded)
