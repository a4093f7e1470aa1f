"""The SQL of ``Label.matured``: what ``maturity.label_rows`` computes, with every row as of its own maturity."""

# ruff: noqa: S608 - identifiers are validated or quoted; no value of a row is ever in the text

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from ml_platform.core.durations import Duration
from ml_platform.features.source import Source
from ml_platform.features.sql import quoted

__all__ = ["MaturedQuery"]

_STEPS: Final = ("facts", "live", "pairs", "ranked", "requests", "versions")
_HELPERS: Final = (
    "deleted_", "event_", "first_known_", "known_", "newest_", "nth_", "used_", "value_", "withdrawn_",
)  # fmt: skip
# Words that cannot stand bare where a table's name stands.
_WORDS: Final = frozenset(
    {
        "alter", "and", "as", "between", "create", "cross", "describe", "distinct", "drop", "else", "except", "fetch",
        "for", "force", "from", "glob", "grant", "having", "ilike", "inner", "insert", "install", "intersect", "into",
        "join", "lateral", "like", "not", "notnull", "on", "only", "or", "outer", "positional", "qualify", "returning",
        "revoke", "rollback", "select", "summarize", "tablesample", "then", "union", "using", "values", "when",
        "where", "with",
    }
)  # fmt: skip


def _list(names: Sequence[str], of: str = "") -> str:
    return ", ".join(of + quoted(name) for name in names)


def _table(source: Source) -> str:
    return ".".join(quoted(part) if part in _WORDS else part for part in source.name.split("."))


def _later(at: str, horizon: Duration, lag: Duration) -> str:
    # Months are added to UTC wall time, so that the session's time zone means nothing.
    steps = "".join(f" + {step.interval_sql()}" for step in (horizon, lag) if not step.is_zero)
    return f"(({at} at time zone 'UTC'){steps}) at time zone 'UTC'"


@dataclass(frozen=True)
class MaturedQuery:
    """The parts of one label's query; ``kept`` are the request columns that come out.

    The query names its own steps and helper columns. Where a source or column of the declaration has such a name, all
    of them get as many underscores more as it takes; the text of every other label stays what it was.
    """

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
        step = self._own
        return (
            f"with {step('versions')} as ({self._versions()}), {step('live')} as ({self._live()}),"
            f" {step('ranked')} as ({self._ranked()}),"
            f" {step('requests')} as (select * from {step('ranked')} where {self._own('used_')} = 1),"
            f" {step('pairs')} as ({self._pairs()}), {step('facts')} as ({self._facts()}) {self._result()}"
        )

    def _own(self, name: str) -> str:
        """A step or helper column under a name that the declaration does not use."""
        return name + self._more

    @cached_property
    def _more(self) -> str:
        theirs = {self.rows.name, self.outcome.name, *self.kept, self.column}
        ties = (f"tie_{position}_" for position in range(len(self.rows.tie_break)))
        own = (*_STEPS, *_HELPERS, *ties)
        more = ""
        while any(name + more in theirs for name in own):
            more += "_"
        return more

    def _identity(self, of: str = "") -> str:
        return _list((*self.keys, self.time), of)

    def _versions(self) -> str:
        """Every delivery of a request that was known at its maturity."""
        deleted = f"coalesce(r.{quoted(self.rows.deleted)}, false)" if self.rows.deleted else "false"
        ties = [
            f"r.{quoted(name)} as {self._own(f'tie_{position}_')}" for position, name in enumerate(self.rows.tie_break)
        ]
        matured = _later(f"r.{quoted(self.time)}", self.horizon, self.lag)
        selected = [
            *(f"r.{quoted(name)}" for name in self.kept),
            *ties,
            f"r.{quoted(self.rows.known_column)} as {self._own('known_')}",
            f"{deleted} as {self._own('deleted_')}",
            f"{matured} as matured_at",
        ]
        known = f"r.{quoted(self.rows.known_column)} <= {matured}"
        return f"select {', '.join(selected)} from {_table(self.rows)} as r where {known}"

    def _newest_first(self) -> str:
        ties = "".join(f", {self._own(f'tie_{position}_')} desc" for position in range(len(self.rows.tie_break)))
        return f"{self._own('known_')} desc{ties}"

    def _live(self) -> str:
        """Without requests that were withdrawn, and without the deliveries that said so."""
        window = f"over (partition by {self._identity()} order by {self._newest_first()})"
        own = self._own
        deleted, withdrawn = own("deleted_"), own("withdrawn_")
        inner = f"select *, first_value({deleted}) {window} as {withdrawn} from {own('versions')}"
        return (
            f"select *, min({own('known_')}) over (partition by {self._identity()}) as {own('first_known_')}"
            f" from ({inner}) as v where not {deleted} and not {withdrawn}"
        )

    def _ranked(self) -> str:
        """The delivery that counts: the last one known at the request's time, or else the first ones known at all."""
        time = quoted(self.time)
        own = self._own
        order = f"{own('known_')} <= greatest({time}, {own('first_known_')}) desc, {self._newest_first()}"
        numbered = f"row_number() over (partition by {self._identity()} order by {order}) as {own('used_')}"
        return f"select *, {numbered} from {own('live')}"

    def _pairs(self) -> str:
        """Outcomes known from the start to maturity, corrections counted from the newest."""
        event, known = (f"o.{quoted(name)}" for name in (self.outcome.event_time, self.outcome.known_column))
        deleted = f"coalesce(o.{quoted(self.outcome.deleted)}, false)" if self.outcome.deleted else "false"
        newest = ", ".join([f"{known} desc", *(f"o.{quoted(tie)} desc" for tie in self.outcome.tie_break)])
        joined = " and ".join(f"o.{quoted(key)} = q.{quoted(key)}" for key in self.keys)
        own = self._own
        return (
            f"select {self._identity('q.')}, o.{quoted(self.column)} as {own('value_')}, {event} as {own('event_')},"
            f" {deleted} as {own('deleted_')}, row_number() over"
            f" (partition by {self._identity('q.')}, {event} order by {newest}) as {own('nth_')}"
            f" from {own('requests')} as q join {_table(self.outcome)} as o on {joined}"
            f" where {known} >= q.{quoted(self.time)} and {known} <= q.matured_at"
        )

    def _facts(self) -> str:
        own = self._own
        numbered = f"row_number() over (partition by {self._identity()} order by {own('event_')} desc)"
        return (
            f"select *, {numbered} as {own('newest_')}"
            f" from {own('pairs')} where {own('nth_')} = 1 and not {own('deleted_')}"
        )

    def _result(self) -> str:
        joined = " and ".join(f"f.{quoted(name)} = q.{quoted(name)}" for name in (*self.keys, self.time))
        own = self._own
        as_double = f"cast(f.{own('value_')} as double)"
        label = f"cast(case when {as_double} <> 0 then 1 else 0 end as bigint)" if self.is_event else as_double
        known = "" if self.is_event else f" where f.{own('value_')} is not null"
        return (
            f"select {_list(self.kept, 'q.')}, {label} as {quoted(self.column)}, q.matured_at as matured_at"
            f" from {own('requests')} as q left join {own('facts')} as f on {joined} and f.{own('newest_')} = 1{known}"
        )
