"""The SQL of ``Label.matured``: what ``maturity.label_rows`` computes, with every row as of its own maturity."""

# ruff: noqa: S608 - identifiers are validated or quoted; no value of a row is ever in the text

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ml_platform.core.durations import Duration
from ml_platform.features.source import Source
from ml_platform.features.sql import quoted

__all__ = ["MaturedQuery"]


def _list(names: Sequence[str], of: str = "") -> str:
    return ", ".join(of + quoted(name) for name in names)


def _later(at: str, horizon: Duration, lag: Duration) -> str:
    # Months are added to UTC wall time, so that the session's time zone means nothing.
    steps = "".join(f" + {step.interval_sql()}" for step in (horizon, lag) if not step.is_zero)
    return f"(({at} at time zone 'UTC'){steps}) at time zone 'UTC'"


@dataclass(frozen=True)
class MaturedQuery:
    """The parts of one label's query; ``kept`` are the request columns that come out."""

    rows: Source
    outcome: Source
    keys: tuple[str, ...]
    time: str
    column: str
    is_event: bool
    horizon: Duration
    lag: Duration
    kept: tuple[str, ...]

    def text(self) -> str:
        """One SELECT over the two sources, by their logical names."""
        return (
            f"with versions as ({self._versions()}), live as ({self._live()}), ranked as ({self._ranked()}),"
            f" requests as (select * from ranked where used_ = 1), pairs as ({self._pairs()}),"
            f" facts as ({self._facts()}) {self._result()}"
        )

    def _identity(self, of: str = "") -> str:
        return _list((*self.keys, self.time), of)

    def _versions(self) -> str:
        """Every delivery of a request that was known at its maturity."""
        deleted = f"coalesce(r.{quoted(self.rows.deleted)}, false)" if self.rows.deleted else "false"
        ties = [f"r.{quoted(name)} as tie_{position}_" for position, name in enumerate(self.rows.tie_break)]
        matured = _later(f"r.{quoted(self.time)}", self.horizon, self.lag)
        selected = [
            *(f"r.{quoted(name)}" for name in self.kept),
            *ties,
            f"r.{quoted(self.rows.known_column)} as known_",
            f"{deleted} as deleted_",
            f"{matured} as matured_at",
        ]
        known = f"r.{quoted(self.rows.known_column)} <= {matured}"
        return f"select {', '.join(selected)} from {self.rows.name} as r where {known}"

    def _newest_first(self) -> str:
        ties = "".join(f", tie_{position}_ desc" for position in range(len(self.rows.tie_break)))
        return f"known_ desc{ties}"

    def _live(self) -> str:
        """Without requests that were withdrawn, and without the deliveries that said so."""
        window = f"over (partition by {self._identity()} order by {self._newest_first()})"
        inner = f"select *, first_value(deleted_) {window} as withdrawn_ from versions"
        return (
            f"select *, min(known_) over (partition by {self._identity()}) as first_known_"
            f" from ({inner}) as v where not deleted_ and not withdrawn_"
        )

    def _ranked(self) -> str:
        """The delivery that counts: the last one known at the request's time, or else the first ones known at all."""
        time = quoted(self.time)
        order = f"known_ <= greatest({time}, first_known_) desc, {self._newest_first()}"
        return f"select *, row_number() over (partition by {self._identity()} order by {order}) as used_ from live"

    def _pairs(self) -> str:
        """Outcomes known from the start to maturity, corrections counted from the newest."""
        event, known = (f"o.{quoted(name)}" for name in (self.outcome.event_time, self.outcome.known_column))
        deleted = f"coalesce(o.{quoted(self.outcome.deleted)}, false)" if self.outcome.deleted else "false"
        newest = ", ".join([f"{known} desc", *(f"o.{quoted(tie)} desc" for tie in self.outcome.tie_break)])
        joined = " and ".join(f"o.{quoted(key)} = q.{quoted(key)}" for key in self.keys)
        return (
            f"select {self._identity('q.')}, o.{quoted(self.column)} as value_, {event} as event_,"
            f" {deleted} as deleted_, row_number() over"
            f" (partition by {self._identity('q.')}, {event} order by {newest}) as nth_"
            f" from requests as q join {self.outcome.name} as o on {joined}"
            f" where {known} >= q.{quoted(self.time)} and {known} <= q.matured_at"
        )

    def _facts(self) -> str:
        return (
            f"select *, row_number() over (partition by {self._identity()} order by event_ desc) as newest_"
            " from pairs where nth_ = 1 and not deleted_"
        )

    def _result(self) -> str:
        joined = " and ".join(f"f.{quoted(name)} = q.{quoted(name)}" for name in (*self.keys, self.time))
        as_double = "cast(f.value_ as double)"
        label = f"cast(case when {as_double} <> 0 then 1 else 0 end as bigint)" if self.is_event else as_double
        known = "" if self.is_event else " where f.value_ is not null"
        return (
            f"select {_list(self.kept, 'q.')}, {label} as {quoted(self.column)}, q.matured_at as matured_at"
            f" from requests as q left join facts as f on {joined} and f.newest_ = 1{known}"
        )
