"""What an event is: the Avro schema that a contract gives, and events read as the rows of its requests.

The schema's digest travels in a header (``SCHEMA_HEADER``), so that events of an older version are read as what they
are. Every field but the keys may be null in the bytes: whether null is refused, flagged or replaced is the contract's
policy. The contract itself is the router's (``serving.online_contract``); only the reading of a row differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ml_platform.core.contract import Contract, Refusal
from ml_platform.core.digests import document_digest
from ml_platform.core.errors import DeclarationError
from ml_platform.core.rows import encode_value
from ml_platform.serving.online_contract import OnlineContract
from ml_platform.serving.online_fields import NULL, text_fault
from ml_platform.serving.online_request import Gathered, Refused, Request, RequestReader

__all__ = ["DECIDED_AT", "SCHEMA_HEADER", "Event", "EventContract", "event_schema", "schema_digest"]

SCHEMA_HEADER: Final = "ml-schema"
DECIDED_AT: Final = "(decided at)"
"""Under this name an event read as a row carries its ``decided_at``; no Avro name has such characters."""

_TYPES: Final = {"int64": "long", "string": "string", "float64": "double", "bool": "boolean"}
_LONGEST_TEXT: Final = 1024


@dataclass(frozen=True, slots=True)
class Event:
    """One message of the topic, as it came.

    Args:
        partition, offset: its place.
        at_us: when the broker appended it, microseconds UTC.
        headers: names and bytes, in order.
    """

    partition: int
    offset: int
    at_us: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    def header(self, name: str) -> bytes | None:
        """The last header of a name."""
        for found, value in reversed(self.headers):
            if found == name:
                return value
        return None


def event_schema(model: str, contract: Contract) -> dict[str, Any]:
    """The Avro schema of the events that a version takes: its keys, T, and the fields that come with a request.

    Args:
        model: its name, in the record's name.
        contract: of a version.

    Raises:
        DeclarationError: a field has a type that no event can carry.
    """
    fields: list[dict[str, Any]] = [{"name": name, "type": _type(name, kind)} for name, kind in contract.entity_keys]
    stamp = {"type": "long", "logicalType": "timestamp-micros"}
    fields.append({"name": contract.time, "type": ["null", stamp], "default": None})
    fields += [
        {"name": item.name, "type": ["null", _type(item.name, item.type)], "default": None} for item in contract.inputs
    ]
    return {"type": "record", "name": f"{model}_event", "namespace": "ml_platform", "fields": fields}


def schema_digest(schema: dict[str, Any]) -> str:
    """``sha256:…``: what the header of each event of this schema holds."""
    return document_digest("event-schema", schema)


def _type(name: str, kind: str) -> str:
    if kind not in _TYPES:
        raise DeclarationError(
            f"A field of type {kind} cannot come in an event.",
            field=name,
            next_step=f"Use one of {', '.join(_TYPES)}.",
        )
    return _TYPES[kind]


class EventReader(RequestReader):
    """Reads decoded events as rows: one event, one row. What Avro promises about types is not checked again."""

    def __init__(self, contract: Contract, *, longest_text: int) -> None:
        super().__init__(contract, also=frozenset(), longest_text=longest_text)
        self._text_limit = longest_text
        self._time_name = contract.time
        self._key_names = [(name, kind == "string") for name, kind in contract.entity_keys]
        self._input_names = [item.name for item in contract.inputs]
        self._null_of = [None if item.kind == "category" else NULL for item in contract.inputs]

    def read(self, request: Request, decided_at_us: int | None) -> Gathered | Refused:  # noqa: ARG002 - each event's own
        event: Any = request
        decided: int = event[DECIDED_AT]
        found = event.get(self._time_name)
        time: int = decided if found is None else found
        refusals: list[Refusal] = []
        pieces = tuple(self._piece(event, name, refusals, is_text=is_text) for name, is_text in self._key_names)
        if time > decided:
            refusals.append(Refusal(0, self._time_name, "future", "a time after the platform's clock"))
        values = self._values(event, refusals)
        if refusals:
            return [(b"".join(pieces) + encode_value("us", time), tuple(refusals))]
        return Gathered([tuple(event[name] for name, _ in self._key_names)], [pieces], [time], [values])

    def _values(self, event: dict[str, Any], refusals: list[Refusal]) -> Sequence[Any]:
        try:
            values = [event[name] for name in self._input_names]
        except KeyError:
            missing = [name for name in self._input_names if name not in event]
            refusals += [Refusal(0, name, "missing", "a field that the event's schema lacks") for name in missing]
            return []
        if None in values:
            return [null if value is None else value for value, null in zip(values, self._null_of, strict=True)]
        return values

    def _piece(self, event: dict[str, Any], name: str, refusals: list[Refusal], *, is_text: bool) -> bytes:
        value = event.get(name)
        fault = text_fault(value, self._text_limit) if is_text else None
        if name not in event:
            fault = "missing", "a field that the event's schema lacks"
        if fault is not None:
            refusals.append(Refusal(0, name, *fault))
            return b"\x00"
        return encode_value("text" if is_text else "i64", value)


class EventContract(OnlineContract):
    """The router's contract of a version, over events."""

    def __init__(self, contract: Contract, *, longest_text: int = _LONGEST_TEXT) -> None:
        super().__init__(contract, longest_text=longest_text)
        self._reader = EventReader(contract, longest_text=longest_text)
