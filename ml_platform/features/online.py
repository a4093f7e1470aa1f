"""What an online store holds of a view, and what it answers: the values that held at a request's time.

The store holds change points: from when on a key has which values, and the event time that they come from. They are
found by the point-in-time join itself, at every instant at which its answer can change, so that online and offline
cannot differ by construction. Pure: tables in, tables out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.core.durations import Duration
from ml_platform.core.errors import SchemaMismatch
from ml_platform.core.rows import arrow_row_type, encode_row, encode_table, micros, utc
from ml_platform.features.duckdb import point_in_time
from ml_platform.features.tables import history_of, join_of
from ml_platform.features.views import FeatureView
from ml_platform.features.windows import REFRESHED_AT, all_changes, changes_between

__all__ = [
    "AT",
    "EVENT",
    "KEY",
    "ChangePoint",
    "HeldView",
    "OnlineStore",
    "OnlineValue",
    "answer",
    "change_points",
    "key_bytes",
]

KEY: Final = "__key"
AT: Final = "__at_us"
EVENT: Final = "__event_us"
_UTC: Final = pa.timestamp("us", "UTC")
_ONE: Final = Duration.parse("1mo")


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """From ``at_us`` on (microseconds UTC) a key has these values, in the order of the view's features.

    ``event_us`` is the event time that they come from; None where nothing holds (never known, or withdrawn).
    """

    at_us: int
    event_us: int | None
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class OnlineValue:
    """What holds for a key at a time: values in the order of the view's features, and their event time."""

    values: tuple[Any, ...]
    event_us: int | None


@dataclass(frozen=True, slots=True)
class HeldView:
    """A view that a store holds, by table name: until when it is complete, and its change points."""

    table: str
    until_us: int
    points: int


class OnlineStore(Protocol):
    """Where routers find stored features. Every implementation answers what the point-in-time join would."""

    def publish(self, view: FeatureView, points: pa.Table, *, until_us: int) -> int:
        """Replaces what is held of a view by these change points, all at once; returns how many there are.

        Raises:
            Conflict: what is held is complete until a later time; nothing was changed.
        """
        ...

    def held(self) -> list[HeldView]:
        """Every view that was published here, sorted by table name."""
        ...

    def forget(self, table: str) -> bool:
        """Removes what is held of a view's table; False where there was nothing."""
        ...

    def close(self) -> None:
        """Lets go of files and connections."""
        ...

    def published_until_us(self, view: FeatureView) -> int | None:
        """Until when the view's change points are complete, microseconds UTC; None: it was never published."""
        ...

    def get(self, view: FeatureView, keys: Sequence[bytes | None], times_us: Sequence[int]) -> list[OnlineValue]:
        """What held for each key (``key_bytes``) at its request time; one look-up for all of them."""
        ...


def key_bytes(view: FeatureView, values: Sequence[Any]) -> bytes | None:
    """The ``row/1`` bytes of an entity key in the order of the entity's keys; None where one of them is null."""
    if any(value is None for value in values):
        return None
    schema = view.history.arrow_schema()
    kinds = [arrow_row_type(schema.field(key).type, field=key) for key in view.entity.keys]
    return encode_row(list(zip(kinds, values, strict=True)))


def answer(view: FeatureView, point: ChangePoint | None, t_us: int, *, has_key: bool = True) -> OnlineValue:
    """What a request at T finds, given the last change point not after floor(T, refresh).

    Applies the ttl, which counts from the event time to T itself, and what an empty window is.
    """
    held = point
    if held is not None and view.ttl_us is not None and held.event_us is not None:
        held = held if t_us - held.event_us < view.ttl_us else None
    if held is None:
        values: tuple[Any, ...] = (None,) * len(view.features)
        event_us = None
    else:
        values, event_us = held.values, held.event_us
    if has_key and view.aggregations:
        empty = (item.when_empty for item in view.aggregations)
        values = tuple(other if value is None else value for value, other in zip(values, empty, strict=True))
    return OnlineValue(values, event_us)


def change_points(view: FeatureView, rows: pa.Table, *, until: datetime) -> pa.Table:
    """Every change point up to ``until``: ``KEY`` (bytes), ``AT``, ``EVENT`` (int64 µs), and the view's features.

    Args:
        view: a feature view.
        rows: conformed rows of ``view.history``, in any order; what was known after ``until`` is not used.
        until: aware.

    Raises:
        SchemaMismatch: the rows are not those of the view's source.
    """
    missing = sorted(set(view.history.stored_columns) - set(rows.column_names))
    if missing:
        raise SchemaMismatch(
            "The rows lack columns of the source.", field=", ".join(missing), next_step="Read them from the source."
        )
    found = _windowed(view, rows, until) if view.aggregations else _held(view, rows, until)
    keys = pa.array(encode_table(found, list(view.entity.keys)), pa.binary())
    names = [item.name for item in view.features]
    return pa.table(
        {KEY: keys, AT: found.column(AT), EVENT: found.column(EVENT), **{n: found.column(n) for n in names}}
    )


def _windowed(view: FeatureView, rows: pa.Table, until: datetime) -> pa.Table:
    """Month by month, as the stored table has them: ages count from where a month says a value again."""
    changes = all_changes(view, rows)
    first: Any = pc.min(changes.column(REFRESHED_AT)).as_py()
    parts = [changes.slice(0, 0)]
    start = utc(first or until).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    after = micros(until) + 1
    while micros(start) < after:
        end = _ONE.after(start)
        parts.append(_until(changes_between(view, changes, start, end), after))
        start = end
    found = pa.concat_tables(parts)
    at = found.column(REFRESHED_AT).cast(pa.int64())
    return found.append_column(AT, at).append_column(EVENT, at)


def _until(part: pa.Table, after_us: int) -> pa.Table:
    return part.filter(pc.less(part.column(REFRESHED_AT).cast(pa.int64()), pa.scalar(after_us)))


def _held(view: FeatureView, rows: pa.Table, until: datetime) -> pa.Table:
    """The join's own answers at every instant at which a row of the key becomes known or happens."""
    source, keys = view.history, list(view.entity.keys)
    known, event = (rows.column(name).cast(pa.int64()).to_numpy() for name in (source.known_column, source.event_time))
    e = np.maximum(known, event)
    rows = rows.filter(pa.array(known <= micros(until)))
    e = e[known <= micros(until)]
    asked = rows.select(keys).append_column("__t", pa.array(e).cast(_UTC)).filter(pa.array(e <= micros(until)))
    for key in keys:
        asked = asked.filter(pc.is_valid(asked.column(key)))
    asked = asked.group_by([*keys, "__t"], use_threads=False).aggregate([])
    # At T itself: refresh and ttl are applied when the store is asked.
    history = replace(history_of(view, rows), ttl_us=None, refresh_us=None)
    found = point_in_time(asked, time="__t", joins=[join_of(view, history)])
    found = found.append_column(AT, found.column("__t").cast(pa.int64()))
    return found.append_column(EVENT, found.column(f"{view.name}__event_time").cast(_UTC).cast(pa.int64()))
