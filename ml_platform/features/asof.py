"""The SQL of a point-in-time join: which row of a bitemporal history holds at a time.

With e = max(event, known), the value at r is the last row by (event, known, tie-break) among those with e ≤ r. A row
that is known when it happens (event = known) is found by a plain ASOF join on its event time, since a later such row
has a later event. Rows known at another time are thinned to the running maximum of (event, known, tie-break) in the
order of e, and found by a second ASOF join on e; the later one of the two finds holds. Keys with a retraction take a
range join over the intervals in which each version of a fact holds.
"""

# ruff: noqa: S608 - the only names put into this SQL are declared columns, quoted, and numbers of ours
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.dataset as ds

from ml_platform.core.errors import DeclarationError
from ml_platform.features.sql import quoted

__all__ = ["History", "Join", "check_names", "join_sql", "retracted_sql"]


@dataclass(frozen=True)
class History:
    """Rows of a view, each fact and correction once (``Source.conform``), in any order.

    ``known_time`` is ``event_time`` itself where rows are known when they happen. ``refresh_us`` floors the request
    time; ``ttl_us`` ends a value at event time + ttl, compared with the request time itself. ``when_empty`` is the
    value of a feature for an entity without rows, where that is not null.
    """

    data: pa.Table | ds.Dataset
    keys: tuple[str, ...]
    event_time: str
    known_time: str
    values: tuple[str, ...]
    tie_break: tuple[str, ...] = ()
    deleted: str | None = None
    ttl_us: int | None = None
    refresh_us: int | None = None
    when_empty: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Join:
    """One view joined to the rows: ``on`` are the rows' key columns, by default those of the history.

    ``names`` renames values to features; the view's name prefixes the two time columns.
    """

    view: str
    history: History
    on: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def key_columns(self) -> tuple[str, ...]:
        return self.on or self.history.keys

    def output_names(self) -> list[str]:
        """The columns that the join adds, in order."""
        features = [self.names.get(value, value) for value in self.history.values]
        return [*features, f"{self.view}__event_time", f"{self.view}__known_time"]


def check_names(columns: Sequence[str], joins: Sequence[Join]) -> None:
    """Refuses joins after which two columns would have the same name.

    Raises:
        DeclarationError: names them.
    """
    names = [*columns, *(name for join in joins for name in join.output_names())]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise DeclarationError(
            "Two columns of the join have the same name.",
            field=", ".join(doubled),
            next_step="Rename a feature, or a column of the rows.",
        )


def retracted_sql(history: History) -> str:
    """The keys that have a retraction, as columns k0, k1, and so on."""
    keys = ", ".join(f"{quoted(key)} AS k{i}" for i, key in enumerate(history.keys))
    return f"SELECT DISTINCT {keys} FROM history WHERE {quoted(history.deleted or '')}"


def join_sql(history: History, *, retracted: bool) -> str:
    """One row for each row of ``requests`` (n, k0 …, r, t), in any order: n, v0 …, ev, and kn where it is not ev.

    Reads ``history``, and ``retracted`` where some keys have retractions.
    """
    on = " AND ".join(f"r.k{i} = x.k{i}" for i in range(len(history.keys)))
    if not retracted:
        found = _found(history, "requests")
    else:
        anti = f"(SELECT * FROM requests r ANTI JOIN retracted x ON {on})"
        semi = f"(SELECT * FROM requests r SEMI JOIN retracted x ON {on})"
        found = f"{_found(history, anti)} UNION ALL BY NAME {_range_join(history, semi)}"
    return f"SELECT n, {_final(history)} FROM ({found})"


def _final(history: History) -> str:
    alive = "true" if history.ttl_us is None else f"epoch_us(t) - epoch_us(ev) < {history.ttl_us}"
    has_key = " AND ".join(f"k{i} IS NOT NULL" for i in range(len(history.keys)))
    selected = []
    for i, value in enumerate(history.values):
        held = f"v{i}" if history.ttl_us is None else f"CASE WHEN {alive} THEN v{i} END"
        if value in history.when_empty:
            held = f"CASE WHEN {has_key} THEN coalesce({held}, {history.when_empty[value]!r}) END"
        selected.append(f"{held} AS v{i}")
    names = ("ev",) if history.known_time == history.event_time else ("ev", "kn")
    times = [name if history.ttl_us is None else f"CASE WHEN {alive} THEN {name} END AS {name}" for name in names]
    return ", ".join([*selected, *times])


def _columns(history: History) -> str:
    keys = [f"{quoted(key)} AS k{i}" for i, key in enumerate(history.keys)]
    values = [f"{quoted(value)} AS v{i}" for i, value in enumerate(history.values)]
    times = [f"{quoted(history.event_time)} AS ev", f"{quoted(history.known_time)} AS kn"]
    return ", ".join([*keys, *values, *times])


def _known_at(history: History) -> str:
    return f"greatest({quoted(history.event_time)}, {quoted(history.known_time)})"


def _on_time(history: History) -> str:
    same = history.known_time == history.event_time
    where = "" if same else f" WHERE {quoted(history.event_time)} = {quoted(history.known_time)}"
    return f"SELECT {_columns(history)} FROM history{where}"


def _running_maximum(history: History, *, everything: bool) -> str:
    event, known, e = quoted(history.event_time), quoted(history.known_time), _known_at(history)
    keys = ", ".join(quoted(key) for key in history.keys)
    order = ", ".join([e, event, known, *(quoted(column) for column in history.tie_break)])
    where = "" if everything else f"WHERE {event} <> {known}"
    return (
        f"SELECT {_columns(history)}, {e} AS e FROM history {where} "
        f"WINDOW w AS (PARTITION BY {keys} ORDER BY {order} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) "
        f"QUALIFY {event} = max({event}) OVER w AND lead({e}) OVER w IS DISTINCT FROM {e}"
    )


def _asof(history: History, requests: str, side: str, time: str) -> str:
    on = " AND ".join(f"r.k{i} = x.k{i}" for i in range(len(history.keys)))
    return f"FROM {requests} r ASOF LEFT JOIN ({side}) x ON {on} AND r.r >= x.{time}"


def _found(history: History, requests: str) -> str:
    names = [*(f"v{i}" for i in range(len(history.values))), "ev", "kn"]
    held = ", ".join(f"x.{name}" for name in names)
    if history.tie_break:
        return f"SELECT r.*, {held} {_asof(history, requests, _running_maximum(history, everything=True), 'e')}"
    if history.known_time == history.event_time:
        return f"SELECT r.*, {held} {_asof(history, requests, _on_time(history), 'ev')}"
    on = " AND ".join(f"r.k{i} = y.k{i}" for i in range(len(history.keys)))
    later = "(y.ev IS NOT NULL AND (x.ev IS NULL OR y.ev > x.ev OR (y.ev = x.ev AND y.kn > x.kn)))"
    chosen = ", ".join(f"CASE WHEN {later} THEN y.{name} ELSE x.{name} END AS {name}" for name in names)
    return (
        f"SELECT r.*, {chosen} {_asof(history, requests, _on_time(history), 'ev')} "
        f"ASOF LEFT JOIN ({_running_maximum(history, everything=False)}) y ON {on} AND r.r >= y.e"
    )


def _range_join(history: History, requests: str) -> str:
    event, known, e = quoted(history.event_time), quoted(history.known_time), _known_at(history)
    fact = ", ".join([*(quoted(key) for key in history.keys), event])
    order = ", ".join([known, *(quoted(column) for column in history.tie_break)])
    versions = (
        f"SELECT {_columns(history)}, {e} AS e, lead({e}) OVER (PARTITION BY {fact} ORDER BY {order}) AS until_e, "
        f"coalesce({quoted(history.deleted or '')}, false) AS gone FROM history"
    )
    names = [*(f"v{i}" for i in range(len(history.values))), "ev", "kn"]
    held = ", ".join(f"x.{name}" for name in names)
    on = " AND ".join(f"r.k{i} = x.k{i}" for i in range(len(history.keys)))
    return (
        f"SELECT r.*, {held} FROM {requests} r LEFT JOIN ({versions}) x "
        f"ON {on} AND NOT x.gone AND r.r >= x.e AND (x.until_e IS NULL OR r.r < x.until_e) "
        "QUALIFY row_number() OVER (PARTITION BY r.n ORDER BY x.ev DESC) = 1"
    )
