"""The payloads of a batch of decisions: the bytes of ``serving.record``, with all that repeats encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from struct import Struct
from typing import Final

import numpy as np
import numpy.typing as npt

from ml_platform.core.rows import encode_row, encode_value
from ml_platform.serving.building import Decided
from ml_platform.serving.online_record import DECISION
from ml_platform.serving.record import Header

__all__ = ["DecisionEncoder", "Moment", "id_texts_of", "new_ids", "number_pieces", "section_ends"]

_F32: Final = Struct("<Bf").pack
_TIMES: Final = Struct("<BqBqBq").pack
_I64: Final = Struct("<Bq").pack
_SIZED: Final = Struct("<BI").pack
_ID: Final = b"\x01\x10\x00\x00\x00"
_SALT: Final = b"\x01\x20\x00\x00\x00"
_NULL: Final = b"\x00"
_CELL: Final = np.dtype([("present", "u1"), ("value", "<f4")])
ID_RANDOM: Final = 10


@dataclass(frozen=True, slots=True)
class Moment:
    """When the decisions of a batch were made and recorded (microseconds UTC), and how long that took."""

    decided_at_us: int
    recorded_at_us: int
    latency_us: int


def new_ids(decided_at_us: int, random: bytes) -> list[bytes]:
    """UUIDs of version 7, as ``core.ids.uuid_v7`` of each ten bytes of ``random``."""
    stamp = (decided_at_us // 1000).to_bytes(6, "big")
    found = []
    for at in range(0, len(random), ID_RANDOM):
        first, second, third = random[at], random[at + 1], random[at + 2]
        mark = bytes((0x70 | first & 0x0F, second, 0x80 | third & 0x3F))
        found.append(stamp + mark + random[at + 3 : at + ID_RANDOM])
    return found


def id_texts_of(ids: Sequence[bytes]) -> list[str]:
    """The 36 characters of each id."""
    found = []
    for raw in ids:
        text = raw.hex()
        found.append(f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}")
    return found


def number_pieces(block: npt.NDArray[np.float32]) -> list[bytes]:
    """Of each row of a float32 block [n, k] its numbers as ``f32`` fields, NaN as null and -0.0 as +0.0."""
    rows, width = block.shape
    cells = np.empty((rows, width), _CELL)
    cells["present"] = 1
    np.add(block, np.float32(0), out=cells["value"])
    raw, size = cells.tobytes(), _CELL.itemsize
    pieces = [raw[at : at + width * size] for at in range(0, len(raw), width * size)]
    missing = np.isnan(block)
    if missing.any():
        for row in np.flatnonzero(missing.any(axis=1)).tolist():
            whole = pieces[row]
            pieces[row] = b"".join(
                _NULL if absent else whole[size * place : size * place + size]
                for place, absent in enumerate(missing[row].tolist())
            )
    return pieces


class DecisionEncoder:
    """Encodes the decisions of one version under one route.

    Args:
        header: of any of its decisions; times, latency, id and seq are those of each batch.
    """

    def __init__(self, header: Header) -> None:
        self._start = encode_row(header.constant_fields()[:-3])
        self._middle = encode_row(header.varying_fields()[:-2]) + _ID
        size = len(self._payload_header(Moment(0, 0, 0), bytes(16), 0))
        self._head = bytes([DECISION]) + _SIZED(1, size)
        self.header = header

    def _times(self, moment: Moment) -> bytes:
        return self._start + _TIMES(1, moment.decided_at_us, 1, moment.recorded_at_us, 1, moment.latency_us)

    def _payload_header(self, moment: Moment, prediction_id: bytes, seq: int) -> bytes:
        return self._times(moment) + self._middle + prediction_id + _I64(1, seq)

    def headers(self, moment: Moment, ids: Sequence[bytes], first_seq: int) -> list[Header]:
        """The same headers as values, for those who read them."""
        return [
            replace(
                self.header,
                decided_at_us=moment.decided_at_us,
                recorded_at_us=moment.recorded_at_us,
                latency_us=moment.latency_us,
                prediction_id=raw,
                seq=first_seq + place,
            )
            for place, raw in enumerate(ids)
        ]

    def payloads(
        self,
        moment: Moment,
        bodies: Sequence[bytes],
        decided: Decided,
        ids: Sequence[bytes],
        salts: bytes,
        first_seq: int,
    ) -> list[bytes]:
        """The payload of each decision.

        Args:
            moment: of the batch.
            bodies: of each row the section's bytes up to its flags.
            decided: what the version said of the rows.
            ids: 16 bytes each.
            salts: 32 random bytes a row.
            first_seq: of the first row; the others follow.
        """
        head = self._head + self._times(moment) + self._middle
        found = []
        for row, (body, end, raw) in enumerate(zip(bodies, section_ends(decided), ids, strict=True)):
            section = _SIZED(1, len(body) + len(end))
            salt = salts[32 * row : 32 * row + 32]
            found.append(b"".join((head, raw, _I64(1, first_seq + row), section, body, end, _SALT, salt)))
        return found

    def payloads_at(
        self,
        moments: Sequence[Moment],
        bodies: Sequence[bytes],
        ends: Sequence[bytes],
        ids: Sequence[bytes],
        salts: bytes,
        seqs: Sequence[int],
    ) -> list[bytes]:
        """The payloads of decisions that each have a moment and a number of their own.

        Args:
            moments: of each; neighbours often share one.
            bodies: of each row the section's bytes up to its flags.
            ends: as ``section_ends`` gives them.
            ids: 16 bytes each.
            salts: 32 random bytes a row.
            seqs: of each row.
        """
        heads: dict[Moment, bytes] = {}
        found = []
        for row, (moment, body, end, raw, seq) in enumerate(zip(moments, bodies, ends, ids, seqs, strict=True)):
            head = heads.get(moment)
            if head is None:
                head = heads[moment] = self._head + self._times(moment) + self._middle
            section = _SIZED(1, len(body) + len(end))
            salt = salts[32 * row : 32 * row + 32]
            found.append(b"".join((head, raw, _I64(1, seq), section, body, end, _SALT, salt)))
        return found


def section_ends(decided: Decided) -> list[bytes]:
    """Of each row the section's bytes after its flags: outputs, decision, reasons."""
    decisions = [encode_value("text", text) for text in decided.decision_texts]
    reasons = [encode_value("texts", texts) for texts in decided.reasons.lists]
    codes = zip(decided.decisions.tolist(), decided.reasons.codes.tolist(), strict=True)
    ends = [decisions[decision] + reasons[reason] for decision, reason in codes]
    # A score is a finite number; + 0.0 turns -0.0 into +0.0.
    for values in reversed(list(decided.outputs.values())):
        ends = [_F32(1, value + 0.0) + end for value, end in zip(values.tolist(), ends, strict=True)]
    return ends
