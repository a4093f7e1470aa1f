"""From a person's or a thing's keys to the decisions about it, and to the reasons why a row of it was refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from ml_platform.core.clock import parse_utc
from ml_platform.core.errors import SchemaMismatch
from ml_platform.core.ids import id_bytes, id_time
from ml_platform.core.rows import FieldType, encode_row, utc
from ml_platform.governance.contracts import KnownContracts, request_view
from ml_platform.governance.parts import Parts
from ml_platform.serving import RecordReader
from ml_platform.serving.lookup import Key
from ml_platform.serving.online_tables import ONLINE_PARTITION
from ml_platform.serving.scoring import quarantine_index
from ml_platform.serving.unsealed import UnsealedRecords
from ml_platform.serving.wal import WAL_FOLDER

__all__ = ["Subject", "decided_until", "find_decisions", "find_refusals", "subject_of"]


@dataclass(frozen=True)
class Subject:
    """What a model decides about: the entity's name, whether each has a seed of its own, and one key, typed."""

    entity: str
    personal: bool
    key: Key


def _integer(value: object) -> int:
    return int(str(value))


def _boolean(value: object) -> bool:
    return {"true": True, "false": False}[str(value).lower()]


def _instant(value: object) -> datetime:
    return utc(value) if isinstance(value, datetime) else parse_utc(str(value))


_TYPED: Final[dict[str, tuple[FieldType, Callable[[object], object]]]] = {
    "int64": ("i64", _integer),
    "string": ("text", str),
    "bool": ("bool", _boolean),
    "timestamp": ("us", _instant),
}


def subject_of(parts: Parts, model: str, keys: Mapping[str, object]) -> Subject:
    """The subject that key values name; values may be texts, as a command line gives them.

    Raises:
        NotFound: no such model, or nothing of it is declared here.
        SchemaMismatch: other keys than the entity's, or a value of another type.
    """
    view = request_view(parts, model)
    names = view.entity.keys
    if set(keys) != set(names):
        raise SchemaMismatch(
            f"The model's entity {view.entity.name} has other keys.",
            field=", ".join(sorted(set(keys) ^ set(names))),
            next_step=f"Give {', '.join(names)}.",
        )
    return Subject(
        view.entity.name,
        view.entity.personal,
        tuple(_typed(name, view.source.columns[name], keys[name]) for name in names),
    )


def _typed(name: str, kind: str, value: object) -> tuple[FieldType, object]:
    try:
        row_type, convert = _TYPED[kind]
        return row_type, convert(value)
    except (KeyError, ValueError):
        raise SchemaMismatch(
            f"The value is no {kind}.", field=name, next_step="Give the key as the source declares it."
        ) from None


def find_decisions(parts: Parts, model: str, keys: Mapping[str, object]) -> tuple[str, ...]:
    """Ids of all decisions of a model about an entity, sealed or not, oldest first; none is an empty tuple.

    Raises:
        NotFound, SchemaMismatch: see ``subject_of``.
    """
    subject = subject_of(parts, model, keys)
    # The logs first: what is sealed meanwhile is in the tables before it leaves them.
    unsealed = _unsealed(parts).find_by_entity(model, subject.key)
    found = RecordReader(parts.lake, parts.objects).find_by_entity(
        parts.subjects, model=model, entity=subject.entity, personal=subject.personal, key=subject.key
    )
    return tuple(sorted({*found, *(one.prediction_id for one in unsealed)}))


def _unsealed(parts: Parts) -> UnsealedRecords:
    return UnsealedRecords(parts.root / WAL_FOLDER, KnownContracts(parts))


def decided_until(found: Sequence[str], at: datetime | None) -> list[str]:
    """Of ids, oldest first, those that were decided by a time (all without one), the newest first."""
    until = datetime.max.replace(tzinfo=UTC) if at is None else utc(at)
    return [one for one in reversed(found) if id_time(id_bytes(one)) <= until]


def find_refusals(parts: Parts, model: str, keys: Mapping[str, object], at: datetime) -> list[dict[str, Any]]:
    """Why the row of an entity with request time ``at`` was refused: partition, version, field, rule, kind of value.

    The refused row's values are kept nowhere.
    """
    subject = subject_of(parts, model, keys)
    seed = parts.subjects.find(subject.entity, b"")
    if seed is None:
        return []
    index = quarantine_index(seed, model, encode_row([*subject.key, ("us", utc(at))]))
    logged = [
        {"partition": ONLINE_PARTITION, "version": one.version, "field": why.field, "rule": why.rule, "kind": why.kind}
        for one in _unsealed(parts).find_refusals(model, index)
        for why in one.refusals
    ]
    return logged or RecordReader(parts.lake, parts.objects).find_refusals(
        parts.subjects, model=model, entity=subject.entity, key=subject.key, at=utc(at)
    )
