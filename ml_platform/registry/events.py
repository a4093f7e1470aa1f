"""Log entries: what is written, the exact bytes that are stored and hashed, and reading them back.

An entry is RFC 8785 JSON of at most 16 KiB; its stored bytes are the Merkle leaf. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NoReturn

from ml_platform.core.clock import format_utc, parse_utc
from ml_platform.core.digests import canonical_json
from ml_platform.core.errors import DeclarationError, Tampered
from ml_platform.registry.bodies import MODEL, TIME
from ml_platform.registry.kinds import KINDS

__all__ = ["ENTRY_FORMAT", "MAX_ENTRY_BYTES", "Entry", "Event", "encode_entry", "parse_entry"]

ENTRY_FORMAT: Final = "ml-platform/entry/1"
MAX_ENTRY_BYTES: Final = 16_384

_KEYS: Final = {"format", "kind", "effective_at", "recorded_at", "critical", "body"}
_KEYS_WITH_MODEL: Final = _KEYS | {"model"}
_ENCODE: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


class _DecimalError(ValueError):
    """The text holds a decimal number: only the full canonical form can judge it."""


def _decimal(_: str) -> NoReturn:
    raise _DecimalError


_DECODE: Final = json.JSONDecoder(parse_float=_decimal, parse_constant=_decimal).decode


@dataclass(frozen=True, slots=True)
class Event:
    """What somebody wants to have written.

    Args:
        kind: one of `KINDS`.
        body: the fields of that kind.
        model: the model, for kinds that name one.
        effective_at: when it took effect; None: when it is recorded.
    """

    kind: str
    body: Mapping[str, Any]
    model: str | None = None
    effective_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log. Times are RFC 3339 texts of one width, so text order is time order."""

    index: int
    kind: str
    effective_at: str
    recorded_at: str
    critical: bool
    model: str | None
    body: Mapping[str, Any]

    @property
    def effective(self) -> datetime:
        return parse_utc(self.effective_at)

    @property
    def recorded(self) -> datetime:
        return parse_utc(self.recorded_at)

    @property
    def known(self) -> bool:
        """Whether this version of the library knows the kind."""
        return self.kind in KINDS


def encode_entry(event: Event, *, index: int, recorded_at: datetime) -> tuple[Entry, bytes]:
    """The entry of an event and its stored bytes.

    Raises:
        DeclarationError: an unknown kind, a wrong field, or more than 16 KiB.
    """
    kind = KINDS.get(event.kind)
    if kind is None:
        raise DeclarationError(
            "There is no such kind of entry.", field="kind", next_step=f"Kinds: {', '.join(sorted(KINDS))}."
        )
    kind.shape.require(event.body, what=f"the entry {event.kind}")
    if kind.model is not MODEL.holds(event.model):
        raise DeclarationError(
            "The entry must name its model." if kind.model else "The entry names no model.",
            field="model",
            next_step="Model names are lower case letters, digits and underscores.",
        )
    recorded = format_utc(recorded_at)
    effective = recorded if event.effective_at is None else format_utc(event.effective_at)
    entry = Entry(index, event.kind, effective, recorded, kind.critical, event.model, event.body)
    document: dict[str, object] = {
        "format": ENTRY_FORMAT,
        "kind": entry.kind,
        "effective_at": effective,
        "recorded_at": recorded,
        "critical": entry.critical,
        "body": entry.body,
    }
    if entry.model is not None:
        document["model"] = entry.model
    # Without decimals and with ASCII keys, sorted compact JSON is RFC 8785, four times as fast.
    raw = canonical_json(document) if kind.decimals else _ENCODE(document).encode()
    if len(raw) > MAX_ENTRY_BYTES:
        raise DeclarationError(
            f"The entry has {len(raw)} bytes; {MAX_ENTRY_BYTES} are allowed.",
            field=event.kind,
            next_step="Put the larger part into the object store and name its digest.",
        )
    return entry, raw


def parse_entry(raw: bytes, index: int) -> Entry:
    """The entry of stored bytes.

    Raises:
        Tampered: the bytes are not the RFC 8785 form of an entry, or a field of a known kind is wrong.
    """
    document = _document(raw, index)
    if document.keys() - {"model"} != _KEYS or document["format"] != ENTRY_FORMAT:
        raise _bad(index, "is not an entry of this format")
    name, model, critical = document["kind"], document.get("model"), document["critical"]
    times = TIME.holds(document["effective_at"]) and TIME.holds(document["recorded_at"])
    model_fits = "model" not in document or MODEL.holds(model)
    if not (times and model_fits and isinstance(name, str) and isinstance(critical, bool)):
        raise _bad(index, "has a wrong time, kind, model or critical mark")
    kind = KINDS.get(name)
    if kind is not None:
        wrong = kind.shape.first_wrong(document["body"])
        if wrong is not None or critical != kind.critical or kind.model != (model is not None):
            raise _bad(index, f"is no {name}: field {str(wrong or 'model or critical')[:64]}")
    elif not isinstance(document["body"], dict):
        raise _bad(index, "has no body")
    return Entry(index, name, document["effective_at"], document["recorded_at"], critical, model, document["body"])


def _document(raw: bytes, index: int) -> dict[str, Any]:
    try:
        document = _fast_document(raw)
        if document is None:
            document = json.loads(raw)
            if not isinstance(document, dict) or canonical_json(document) != raw:
                raise _bad(index, "is not in canonical form")
    except (ValueError, RecursionError, DeclarationError):
        raise _bad(index, "is not canonical JSON") from None
    return document


def _fast_document(raw: bytes) -> dict[str, Any] | None:
    """The document if a quick look proves that the bytes are canonical; None: look closely."""
    try:
        document = _DECODE(raw.decode())
    except _DecimalError:
        return None
    name = document.get("kind") if isinstance(document, dict) else None
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None or kind.decimals or _ENCODE(document).encode() != raw:
        return None
    return document if document.keys() in (_KEYS, _KEYS_WITH_MODEL) else None


def _bad(index: int, why: str) -> Tampered:
    return Tampered(
        f"Entry {index} {why}.",
        field=f"entry {index}",
        next_step="Compare the log with a copy, or with an older checkpoint.",
    )
