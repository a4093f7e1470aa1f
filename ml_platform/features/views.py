"""Views: what arrives with the request, and what is stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Final

from ml_platform.core.durations import Duration
from ml_platform.core.errors import DeclarationError
from ml_platform.core.fields import Field, check_name
from ml_platform.features.about import About
from ml_platform.features.aggregations import Aggregation
from ml_platform.features.declaration import Declaration, check_known, check_unique
from ml_platform.features.entity import Entity
from ml_platform.features.request_view import Lineage, RequestView, check_fields
from ml_platform.features.source import KnownTime, Source

__all__ = ["EXACT", "FeatureView", "RequestView"]

EXACT: Final = "exact"
REFRESHED_AT: Final = "refreshed_at"  # from when on the windows of a stored row have its values
_HISTORY_TYPE: Final = {"number": "float64", "category": "string"}


@dataclass(frozen=True, eq=False)
class FeatureView(Declaration):
    """Stored features of an entity, as of the last ``refresh`` before T.

    Either ``aggregations`` over a ``source``: at T the value is that of the windows at r = floor(T, refresh) (whole
    multiples of ``refresh`` since 1970 UTC), or at T itself. Or ``columns``, of a ``source`` or of the rows of ``sql``
    over ``inputs``: at T the value is that of the last row by (event, known, tie-break) known at r, as long as
    T < event time + ttl.

    Args:
        name: the view's name.
        entity: whose features these are.
        source: a source with the entity's keys.
        aggregations: windowed features; each has one window.
        columns: the features that are columns.
        sql: one SELECT over ``inputs``, in place of ``source``.
        inputs: the sources that the SQL reads.
        event_time: with ``sql``: the event time column of its rows.
        known_time: with ``sql``: their known time column, or ``SameAsEvent(reason=…)``.
        tie_break: with ``sql``: number columns that order rows with equal times.
        deleted: with ``sql``: a bool column; true withdraws the fact.
        refresh: an exact duration, or ``"exact"``: at T itself; so is ``None``, which only columns may leave out.
        ttl: an exact duration, columns only; a window is an aggregation's own ttl.
        about: description, owners, partition, quality checks, deprecation; in no digest.

    Raises:
        DeclarationError: names the field and the choices; also a window that can never contain a row.
    """

    name: str
    entity: Entity
    source: Source | None = None
    aggregations: tuple[Aggregation, ...] = ()
    columns: tuple[Field, ...] = ()
    sql: str | None = None
    inputs: tuple[Source, ...] = ()
    event_time: str | None = None
    known_time: KnownTime | None = None
    tie_break: tuple[str, ...] = ()
    deleted: str | None = None
    refresh: str | None = None
    ttl: str | None = None
    about: About = field(default_factory=About)

    kind: ClassVar[str] = "feature_view"

    def __post_init__(self) -> None:
        check_name(self.name, field="name")
        for attribute in ("aggregations", "columns", "inputs", "tie_break"):
            object.__setattr__(self, attribute, tuple(getattr(self, attribute)))
        # In the order of names: equal digest means equal matrix.
        object.__setattr__(self, "aggregations", tuple(sorted(self.aggregations, key=lambda item: item.feature)))
        object.__setattr__(self, "columns", tuple(sorted(self.columns, key=lambda item: item.name)))
        self._check_form()
        history = self.history
        for key in self.entity.keys:
            check_known(key, history.columns, field="entity")
        for aggregation in self.aggregations:
            aggregation.check(history.columns)
        object.__setattr__(self, "aggregations", tuple(item.bound(history.columns) for item in self.aggregations))
        check_fields(self.columns, history.columns)
        if self.columns and set(history.keys) != set(self.entity.keys):
            raise DeclarationError(
                "The columns of a source are features of its own key only; here several rows could be the last one.",
                field="entity",
                next_step=f"Use an entity with the keys {', '.join(history.keys)}, or the aggregation last(…).",
            )
        check_unique([field.name for field in self.features], field="aggregations" if self.aggregations else "columns")
        if self.sql is not None:
            object.__setattr__(self, "sql", history.sql)
        self._check_durations()
        self.about.check(
            numbers=[item.name for item in self.features if item.kind == "number"],
            columns={*(item.name for item in self.features), *self.entity.keys, *self._time_columns()},
        )

    def _time_columns(self) -> tuple[str, ...]:
        return (REFRESHED_AT,) if self.aggregations else (self.history.event_time, self.history.known_column)

    def _check_form(self) -> None:
        if (self.source is None) == (self.sql is None):
            raise DeclarationError(
                "A feature view reads a source or the rows of SQL.",
                field="source",
                next_step="Give one of source=, sql=.",
            )
        if bool(self.aggregations) == bool(self.columns):
            raise DeclarationError(
                "A feature view has aggregations or columns.", field="aggregations", next_step="Give one of the two."
            )
        if self.sql is not None and self.aggregations:
            raise DeclarationError(
                "Aggregations read a source.",
                field="sql",
                next_step="Make a Source(sql=…, inputs=…) and aggregate that.",
            )
        about_sql = (self.inputs, self.event_time, self.known_time, self.tie_break, self.deleted)
        if self.sql is None and any(about_sql):
            raise DeclarationError(
                "inputs, times, tie_break and deleted describe the rows of SQL.",
                field="source",
                next_step="Declare them on the source.",
            )

    def _check_durations(self) -> None:
        if self.refresh is None:
            if self.aggregations:
                raise DeclarationError(
                    "A windowed view says how often it is computed.",
                    field="refresh",
                    next_step='Write refresh="1d", or refresh="exact" for the moment of the request.',
                )
        elif self.refresh != EXACT and not self.refresh_us:
            raise DeclarationError(
                "refresh is an exact, positive duration.", field="refresh", next_step='Write it as "1d", "6h" or "15m".'
            )
        for aggregation in self.aggregations:
            self._check_window(aggregation.window, aggregation.feature)
        if self.ttl is None:
            return
        ttl = Duration.parse(self.ttl, field="ttl")
        if self.aggregations or ttl.months:
            raise DeclarationError(
                "ttl is an exact duration, of columns only.",
                field="ttl",
                next_step='Write it as "30d"; a window is an aggregation\'s own ttl.',
            )
        self._check_window(ttl, "ttl")

    def _check_window(self, window: Duration, where: str) -> None:
        shortest = window.months * 28 * 86_400_000_000 + window.microseconds
        if shortest == 0 or shortest < (self.refresh_us or 0):
            raise DeclarationError(
                "The window is shorter than the refresh: some rows could never be in it, or none.",
                field=where,
                next_step="Lengthen the window or refresh more often.",
            )

    @property
    def refresh_us(self) -> int | None:
        """The refresh in microseconds; None means at T itself."""
        if self.refresh is None or self.refresh == EXACT:
            return None
        duration = Duration.parse(self.refresh, field="refresh")
        return 0 if duration.months else duration.microseconds

    @property
    def ttl_us(self) -> int | None:
        return None if self.ttl is None else Duration.parse(self.ttl, field="ttl").microseconds

    @cached_property
    def history(self) -> Source:
        """The source whose rows the view reads: the declared one, or that of its SQL."""
        if self.source is not None:
            return self.source
        if self.event_time is None:
            raise DeclarationError(
                "The SQL's rows have no event time.", field="event_time", next_step="Name its column."
            )
        return Source(
            f"{self.name}.rows",
            columns=self._sql_columns(),
            keys=self.entity.keys,
            event_time=self.event_time,
            known_time=self.known_time,
            tie_break=self.tie_break,
            deleted=self.deleted,
            sql=self.sql,
            inputs=self.inputs,
        )

    def _sql_columns(self) -> dict[str, str]:
        types = {key: self._key_type(key) for key in self.entity.keys}
        types |= dict.fromkeys(self.tie_break, "float64")
        types |= {self.deleted: "bool"} if self.deleted else {}
        types |= {column.name: _HISTORY_TYPE[column.kind] for column in self.columns}
        times = [self.event_time, self.known_time if isinstance(self.known_time, str) else None]
        return types | {time: "timestamp" for time in times if time is not None}

    def _key_type(self, key: str) -> str:
        found = {source.columns[key] for source in self.inputs if key in source.columns}
        if len(found) != 1:
            raise DeclarationError(
                "The type of a key is that of the input column of its name; there is none, or several.",
                field=key,
                next_step="Name the key as in the inputs, or use a Source(sql=…) with typed columns.",
            )
        return found.pop()

    @property
    def features(self) -> tuple[Field, ...]:
        """The features in the order of their names; an aggregation is a number."""
        return self.columns or tuple(aggregation.field() for aggregation in self.aggregations)

    @property
    def table(self) -> str:
        """Where its rows are stored: a changed definition is a new table beside the old one."""
        return f"features/{self.name}/{self.short_digest}"

    def lineage(self) -> Lineage:
        """Of each feature, the (source, column) pairs that it is computed from; counted rows name their keys."""
        origin = self.history.lineage()
        if self.columns:
            return {column.name: origin[column.name] for column in self.columns}
        result: Lineage = {}
        for aggregation in self.aggregations:
            read = aggregation.reads() or self.entity.keys
            result[aggregation.feature] = sorted({pair for column in read for pair in origin[column]})
        return result

    def document(self) -> dict[str, Any]:
        return {
            "entity": self.entity.spec(),
            "rows": self.history.spec(),
            "aggregations": {item.feature: item.document() for item in self.aggregations},
            "columns": {column.name: column.spec() for column in self.columns},
            "refresh_us": self.refresh_us,
            "ttl_us": self.ttl_us,
        }
