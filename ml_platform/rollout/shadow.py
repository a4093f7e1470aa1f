"""What a shadow version sees of a recorded decision, and its own record of it. Pure.

A record holds its features as the deciding version used them: a number rounded to float32, a category as received. A
version that needs something else cannot be compared with it, and is not guessed at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml_platform.core.contract import Contract, ResolvedField
from ml_platform.core.rows import FieldType
from ml_platform.serving.building import Decided
from ml_platform.serving.record import SHADOW_ROLE, Header, Section

__all__ = ["Seen", "not_held", "see", "shadow_header", "shadow_section"]

_ALL: Final = ("input", "derived", "stored")


def not_held(recorded: Contract, shadow: Contract) -> tuple[str, ...]:
    """The fields of a version that the records of another do not hold; empty where the two can be compared.

    An input is the same by its name and kind, a derived one by its expression, a stored one by its view's definition.
    """
    known = {item.name: item for item in recorded.fields}
    missing = [item.name for item in shadow.fields if not _holds(known.get(item.name), item)]
    if (recorded.entity_keys, recorded.time) != (shadow.entity_keys, shadow.time):
        missing += [name for name, _ in shadow.entity_keys]
    return tuple(missing)


def _holds(recorded: ResolvedField | None, wanted: ResolvedField) -> bool:
    if recorded is None or (recorded.kind, recorded.origin) != (wanted.kind, wanted.origin):
        return False
    if wanted.origin == "derived":
        return recorded.expression == wanted.expression
    return wanted.origin == "input" or recorded.reference == wanted.reference


@dataclass(frozen=True, eq=False)
class Seen:
    """Recorded rows through the contract of a shadow version.

    Attributes:
        accepted: places of the rows that it accepts, in order; ``matrix`` is float32 [accepted, fields].
        refused: how many its contract refuses; ``lost`` how many were decided on a default in place of a value that the
            record does not hold.
        flags: of each accepted row, ``field:rule:policy`` in contract order.
    """

    accepted: npt.NDArray[np.int64]
    matrix: npt.NDArray[np.float32]
    refused: int
    lost: int
    flags: tuple[tuple[str, ...], ...]


def see(sections: Sequence[Section], recorded: Contract, shadow: Contract) -> Seen:
    """Rows recorded under one contract, as another contract sees them; its policies hold, not those of the first."""
    values = [_received(section, recorded) for section in sections]
    known = np.array([row is not None for row in values], np.bool_)
    rows = [row if row is not None else {} for row in values]
    table = pa.table(
        {
            item.name: pa.array(
                [row.get(item.name) for row in rows], pa.float64() if item.kind == "number" else pa.string()
            )
            for item in shadow.fields
        }
    )
    found = shadow.admit(table, _ALL)
    accepted = np.flatnonzero(found.accepted & known)
    matrix = shadow.encode({name: column[accepted] for name, column in found.columns.items()})
    place = {name: number for number, name in enumerate(shadow.names)}
    by_row: dict[int, list[tuple[int, str]]] = {}
    for flag in found.flags:
        by_row.setdefault(flag.row, []).append((place[flag.field], f"{flag.field}:{flag.rule}"))
    flags = tuple(tuple(text for _, text in sorted(by_row.get(int(row), ()))) for row in accepted)
    return Seen(accepted, matrix, int((~found.accepted & known).sum()), int((~known).sum()), flags)


def _received(section: Section, recorded: Contract) -> dict[str, Any] | None:
    """The values as they were received, to float32; None where a default has taken the place of one that is gone."""
    row = {item.name: value for item, (_, value) in zip(recorded.fields, section.features, strict=True)}
    for flag in section.flags:
        name, rule, policy = flag.rsplit(":", 2)
        if policy == "default" and recorded.field(name).kind == "number":
            if rule != "null":
                return None
            row[name] = None
    return row


def shadow_section(
    section: Section, recorded: Contract, shadow: Contract, seen: Seen, row: int, decided: Decided
) -> Section:
    """The personal section of a shadow's decision about a recorded row.

    Args:
        section: of the record.
        recorded: the contract under which it was recorded.
        shadow: the contract of the shadow version.
        seen: what it saw.
        row: place among the rows that it accepted.
        decided: what it said of these.
    """
    received = {item.name: value for item, (_, value) in zip(recorded.fields, section.features, strict=True)}
    ages = dict(zip((item.name for item in recorded.stored), section.ages_us, strict=True))
    return Section(
        request_time_us=section.request_time_us,
        keys=section.keys,
        features=tuple(
            _used(item, received[item.name], float(seen.matrix[row, at])) for at, item in enumerate(shadow.fields)
        ),
        ages_us=tuple(ages[item.name] for item in shadow.stored),
        flags=seen.flags[row],
        outputs=tuple(float(decided.outputs[output.name][row]) for output in shadow.outputs),
        decision=decided.decision_texts[int(decided.decisions[row])],
        reasons=(),  # nobody is told what a shadow says
    )


def _used(item: ResolvedField, received: object, used: float) -> tuple[FieldType, object]:
    if item.kind == "category":
        return "text", received
    return "f32", None if np.isnan(used) else used


def shadow_header(template: Mapping[str, Any], primary: Header, *, prediction_id: bytes, seq: int) -> Header:
    """The header of a shadow's record: of no route, of no record, beside the decision that it accompanies."""
    return Header(
        mode="online",
        role=SHADOW_ROLE,
        decision_of_record=False,
        route_digest=None,
        epoch=None,
        flip_digest=None,
        latency_us=None,
        supersedes=None,
        pair_of=primary.prediction_id,
        prediction_id=prediction_id,
        seq=seq,
        **template,
    )
