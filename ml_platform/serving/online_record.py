"""What a router writes to its log: decisions with the very bytes that will be proven, and refusals without a value.

A payload is one byte for its kind and a ``row/1``. A decision is (bytes header, bytes personal section, bytes salt):
the sealer derives commitment, leaf and index from these bytes, and the router hashes nothing. A refusal holds field,
rule and kind of value. ``docs/formats.md`` has golden vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ml_platform.core.columns import arrow_type
from ml_platform.core.contract import Contract, Refusal
from ml_platform.core.errors import IntegrityError
from ml_platform.core.row_reader import RowReader
from ml_platform.core.rows import FieldType, arrow_row_type, encode_row
from ml_platform.serving.record import HEADER_FORMAT, SECTION_FORMAT, Header, Section

__all__ = [
    "DECISION",
    "HEADER_FIELDS",
    "REFUSAL",
    "LoggedDecision",
    "LoggedRefusal",
    "decision_parts",
    "decode",
    "decode_header",
    "decode_section",
    "encode_decision",
    "encode_refusal",
    "key_types",
]

DECISION: Final = 1
REFUSAL: Final = 2
HEADER_FIELDS: Final[tuple[tuple[str, FieldType], ...]] = (
    ("root_id", "text"),
    ("model", "text"),
    ("version", "i64"),
    ("mode", "text"),
    ("role", "text"),
    ("decision_of_record", "bool"),
    ("contract_digest", "text"),
    ("artifact_digest", "text"),
    ("route_digest", "text"),
    ("epoch", "i64"),
    ("flip_digest", "text"),
    ("clock", "text"),
    ("decided_at_us", "us"),
    ("recorded_at_us", "us"),
    ("latency_us", "i64"),
    ("supersedes", "bytes"),
    ("pair_of", "bytes"),
    ("writer", "text"),
    ("prediction_id", "bytes"),
    ("seq", "i64"),
)
_REFUSAL_FIELDS: Final[tuple[tuple[str, FieldType], ...]] = (
    ("writer", "text"),
    ("model", "text"),
    ("version", "i64"),
    ("contract_digest", "text"),
    ("decided_at_us", "us"),
    ("recorded_at_us", "us"),
    ("row_index", "bytes"),
)


@dataclass(frozen=True)
class LoggedDecision:
    """A decision as logged; ``salt`` is 32 random bytes, the key of the section's commitment."""

    header: Header
    section: Section
    salt: bytes


@dataclass(frozen=True)
class LoggedRefusal:
    """A request that got no decision, and every rule that it broke. Times are microseconds UTC.

    Args:
        version, contract_digest: of the version that would have decided; None where none was chosen.
        row_index: as ``scoring.quarantine_index`` of the request's row key, in which what was no value is null.
        refusals: their ``row`` is 0.
    """

    writer: str
    model: str
    version: int | None
    contract_digest: str | None
    decided_at_us: int
    recorded_at_us: int
    row_index: bytes
    refusals: tuple[Refusal, ...]


def encode_decision(decision: LoggedDecision) -> bytes:
    """The payload of a decision; the router's own faster way gives the same bytes."""
    parts = (decision.header.to_bytes(), decision.section.to_bytes(), decision.salt)
    return bytes([DECISION]) + encode_row([("bytes", part) for part in parts])


def encode_refusal(refusal: LoggedRefusal) -> bytes:
    """The payload of a refusal."""
    return bytes([REFUSAL]) + encode_row(
        [
            ("text", refusal.writer),
            ("text", refusal.model),
            ("i64", refusal.version),
            ("text", refusal.contract_digest),
            ("us", refusal.decided_at_us),
            ("us", refusal.recorded_at_us),
            ("bytes", refusal.row_index),
            ("texts", [one.field for one in refusal.refusals]),
            ("texts", [one.rule for one in refusal.refusals]),
            ("texts", [one.kind for one in refusal.refusals]),
        ]
    )


def decode(payload: bytes, contracts: Callable[[str], Contract]) -> LoggedDecision | LoggedRefusal:
    """What a payload says; ``contracts`` gives the contract of a digest, which knows a section's fields.

    Raises:
        IntegrityError: the payload is none of ours, or its section is not of its contract.
    """
    if payload[:1] == bytes([REFUSAL]):
        return _decode_refusal(payload)
    raw_header, raw_section, salt = decision_parts(payload)
    header = decode_header(raw_header)
    return LoggedDecision(header, decode_section(raw_section, contracts(header.contract_digest)), salt)


def decision_parts(payload: bytes) -> tuple[bytes, bytes, bytes]:
    """Header, section and salt of a decision as they stand in the log.

    Raises:
        IntegrityError: this is no decision.
    """
    if payload[:1] != bytes([DECISION]):
        raise _broken("kind")
    reader = RowReader(payload[1:])
    parts = (reader.take("bytes"), reader.take("bytes"), reader.take("bytes"))
    reader.end()
    if None in parts:
        raise _broken("decision")
    return parts


def decode_header(raw: bytes) -> Header:
    """The header of its bytes.

    Raises:
        IntegrityError: they are no header of a known format.
    """
    reader = RowReader(raw)
    if reader.take("text") != HEADER_FORMAT:
        raise _broken("header")
    header = Header(**{name: reader.take(kind) for name, kind in HEADER_FIELDS})
    reader.end()
    return header


def decode_section(raw: bytes, contract: Contract) -> Section:
    """The personal section of its bytes, whose fields are those of the contract.

    Raises:
        IntegrityError: they are not.
    """
    reader = RowReader(raw)
    take = reader.take
    if take("text") != SECTION_FORMAT:
        raise _broken("section")
    kinds: list[FieldType] = ["f32" if item.kind == "number" else "text" for item in contract.fields]
    section = Section(
        request_time_us=take("us"),
        keys=tuple((kind, take(kind)) for kind in key_types(contract)),
        features=tuple((kind, take(kind)) for kind in kinds),
        ages_us=tuple(take("i64") for _ in contract.stored),
        flags=take("texts"),
        outputs=tuple(take("f32") for _ in contract.outputs),
        decision=take("text"),
        reasons=take("texts"),
    )
    reader.end()
    return section


def key_types(contract: Contract) -> tuple[FieldType, ...]:
    """How the entity keys of a contract are stored."""
    return tuple(arrow_row_type(arrow_type(kind, field=name), field=name) for name, kind in contract.entity_keys)


def _decode_refusal(payload: bytes) -> LoggedRefusal:
    reader = RowReader(payload[1:])
    take = reader.take
    head: dict[str, Any] = {name: take(kind) for name, kind in _REFUSAL_FIELDS}
    names, rules, kinds = (take("texts") for _ in range(3))
    reader.end()
    if None in (names, rules, kinds) or not len(names) == len(rules) == len(kinds):
        raise _broken("refusals")
    found = tuple(Refusal(0, *why) for why in zip(names, rules, kinds, strict=True))
    return LoggedRefusal(**head, refusals=found)


def _broken(field: str) -> IntegrityError:
    return IntegrityError(
        "A logged record is none of ours.",
        field=field,
        next_step="Keep the file and find out which process wrote it; it is not sealed before.",
    )
