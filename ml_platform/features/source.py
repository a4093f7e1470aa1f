"""Sources: tables as others deliver them, with the time of the event and the time it was known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Final

import pyarrow as pa

from ml_platform.core.columns import arrow_type
from ml_platform.core.errors import DeclarationError
from ml_platform.core.rows import micros
from ml_platform.features import sql as sqltext
from ml_platform.features.conform import Rules, conform
from ml_platform.features.declaration import Declaration, check_known, check_path_name, check_unique, name_tuple

__all__ = ["INGESTED", "INGESTED_COLUMN", "Ingested", "KnownTime", "SameAsEvent", "Source"]

INGESTED_COLUMN: Final = "ingested_at"


@dataclass(frozen=True)
class Ingested:
    """Rows are known when we append them: the platform stamps ``ingested_at``."""


INGESTED: Final = Ingested()


@dataclass(frozen=True)
class SameAsEvent:
    """A claim that a row is known the moment it happens; the reason lands in the record.

    Raises:
        DeclarationError: the reason is empty.
    """

    reason: str

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise DeclarationError(
                "SameAsEvent needs a reason.",
                field="known_time",
                next_step="Say why nobody could have seen these rows later than they happened.",
            )


KnownTime = str | Ingested | SameAsEvent


@dataclass(frozen=True, eq=False)
class Source(Declaration):
    """Append-only rows under a logical name: typed columns, keys, event time and known time.

    Two rows with the same keys and event time are one fact and its correction: the later (known time, tie-break)
    counts; where ``deleted`` is true, the fact is withdrawn. Where the rows lie is a binding, never a part of this.
    With ``sql``, the rows are those of a query over ``inputs``, which it names by their logical names (a dotted name
    in double quotes).

    Args:
        name: logical name; dotted parts are allowed.
        columns: every column and its type: int64, float64, string, bool, timestamp, date.
        keys: the columns that say what a row is about.
        event_time: the timestamp column of when it happened.
        known_time: a timestamp column, ``INGESTED``, or ``SameAsEvent(reason=…)``. Mandatory.
        tie_break: columns that order corrections with the same known time; larger is later.
        deleted: a bool column; true withdraws the fact.
        sql: one SELECT in DuckDB's dialect.
        inputs: the sources that the SQL reads.

    Raises:
        DeclarationError: names the field and the choices.
    """

    name: str
    columns: Mapping[str, str] = field(hash=False)
    keys: tuple[str, ...]
    event_time: str
    known_time: KnownTime | None = None
    tie_break: tuple[str, ...] = ()
    deleted: str | None = None
    sql: str | None = None
    inputs: tuple[Source, ...] = ()

    kind: ClassVar[str] = "source"

    def __post_init__(self) -> None:
        check_path_name(self.name, field="name")
        object.__setattr__(self, "columns", dict(self.columns))
        for attribute in ("keys", "tie_break"):
            object.__setattr__(self, attribute, name_tuple(getattr(self, attribute), field=attribute))
        object.__setattr__(self, "inputs", tuple(self.inputs))
        for column, kind in self.columns.items():
            arrow_type(kind, field=column)
        self._check_roles()
        self._check_sql()

    def _check_roles(self) -> None:
        if not self.keys:
            raise DeclarationError("A source needs keys.", field="keys", next_step="Name the key columns.")
        for key in self.keys:
            check_known(key, self.columns, field="keys")
            if self.columns[key] == "float64":
                raise DeclarationError(
                    "A float64 column cannot be a key.",
                    field=key,
                    next_step="Use int64, string, bool, date or timestamp.",
                )
        self._check_time(self.event_time, "event_time")
        if self.known_time is None:
            raise DeclarationError(
                "The source does not say when its rows were known.",
                field="known_time",
                next_step=(
                    "Name the column; or use INGESTED (stamped when we append), or SameAsEvent(reason=…) if nobody "
                    "could have seen a row later than it happened. Without it, training would use the future."
                ),
            )
        if isinstance(self.known_time, str):
            self._check_time(self.known_time, "known_time")
        if isinstance(self.known_time, Ingested) and INGESTED_COLUMN in self.columns:
            raise DeclarationError(
                "The column that we stamp is declared.", field=INGESTED_COLUMN, next_step="Leave it out of columns."
            )
        for column in self.tie_break:
            check_known(column, self.columns, field="tie_break")
        if self.deleted is not None:
            check_known(
                self.deleted,
                [name for name, kind in self.columns.items() if kind == "bool"],
                field="deleted",
                what="bool column",
            )

    def _check_time(self, column: str, role: str) -> None:
        times = [name for name, kind in self.columns.items() if kind == "timestamp"]
        check_known(column, times, field=role, what="timestamp column")

    def _check_sql(self) -> None:
        if self.sql is None:
            if self.inputs:
                raise DeclarationError("Inputs without SQL.", field="inputs", next_step="Give sql=…, or no inputs.")
            return
        if isinstance(self.known_time, Ingested):
            raise DeclarationError(
                "The rows of a query are not ingested.",
                field="known_time",
                next_step="Select a known time column from the inputs, or say SameAsEvent(reason=…).",
            )
        check_unique((source.name for source in self.inputs), field="inputs")
        object.__setattr__(self, "sql", sqltext.normalise(self.sql))
        sqltext.check_query(self.sql, [source.name for source in self.inputs])
        self.lineage()

    @property
    def known_column(self) -> str:
        """The column that holds the known time; the event time itself under ``SameAsEvent``."""
        if isinstance(self.known_time, str):
            return self.known_time
        return INGESTED_COLUMN if isinstance(self.known_time, Ingested) else self.event_time

    @property
    def stored_columns(self) -> dict[str, str]:
        """The declared columns, and ``ingested_at`` where we stamp it."""
        stamped = {INGESTED_COLUMN: "timestamp"} if isinstance(self.known_time, Ingested) else {}
        return {**self.columns, **stamped}

    def arrow_schema(self) -> pa.Schema:
        """The schema of stored rows, in declared order; keys and times are not null."""
        required = {*self.keys, *self.tie_break, self.event_time, self.known_column}
        return pa.schema(
            [
                pa.field(name, arrow_type(kind, field=name), nullable=name not in required)
                for name, kind in self.stored_columns.items()
            ]
        )

    def conform(self, table: pa.Table) -> pa.Table:
        """The rows in the declared types and order, each exactly once; row order is kept.

        Columns are matched by name, never by position. Numbers are cast only where nothing is lost; times of any unit
        and zone become UTC microseconds; identical rows, delivered twice, are one row.

        Raises:
            SchemaMismatch: a column is missing, not declared, mistyped, or a time has no zone.
            DataError: a null key or time, NaN or infinity.
            DuplicateKeys: rows with the same keys, times and tie-break that differ elsewhere.
        """
        rules = Rules(
            columns=self.stored_columns,
            identity=tuple(dict.fromkeys((*self.keys, self.event_time, self.known_column, *self.tie_break))),
            schema=self.arrow_schema(),
        )
        return conform(table, rules)

    def stamp(self, table: pa.Table, at: datetime) -> pa.Table:
        """Rows as they are appended: with ``ingested_at`` under ``INGESTED``, else as they came. ``at`` is aware."""
        if not isinstance(self.known_time, Ingested):
            return table
        stamps = pa.repeat(pa.scalar(micros(at), pa.timestamp("us", "UTC")), table.num_rows)
        return table.append_column(INGESTED_COLUMN, stamps)

    def lineage(self) -> dict[str, list[tuple[str, str]]]:
        """Of each column, the columns of plain sources that it is computed from."""
        if self.sql is None:
            return {column: [(self.name, column)] for column in self.columns}
        schemas = {source.name: source.stored_columns for source in self.inputs}
        upstream = {source.name: source.lineage() for source in self.inputs}
        traced = sqltext.lineage(self.sql, schemas)
        for column in self.columns:
            check_known(column, traced, field="sql")
        return {
            column: sorted(
                {
                    origin
                    for name, source_column in pairs
                    for origin in upstream[name].get(source_column, [(name, source_column)])
                }
            )
            for column, pairs in traced.items()
            if column in self.columns
        }

    def document(self) -> dict[str, Any]:
        known: dict[str, Any]
        if isinstance(self.known_time, SameAsEvent):
            known = {"same_as_event": self.known_time.reason}
        elif isinstance(self.known_time, Ingested):
            known = {"ingested": INGESTED_COLUMN}
        else:
            known = {"column": self.known_time}
        return {
            "columns": dict(self.columns),
            "keys": sorted(self.keys),
            "event_time": self.event_time,
            "known_time": known,
            "tie_break": list(self.tie_break),
            "deleted": self.deleted,
            "sql": self.sql,
            "inputs": {source.name: source.spec() for source in self.inputs},
        }
