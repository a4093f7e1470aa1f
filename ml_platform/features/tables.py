"""Stored feature views: one Delta table for each definition, one part for each known month, written at most once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.core.delta import Lake
from ml_platform.core.digests import document_digest
from ml_platform.core.errors import DeclarationError, NotEnoughData, NotFound
from ml_platform.core.rows import utc
from ml_platform.features.asof import History, Join
from ml_platform.features.duckdb import evaluate_source
from ml_platform.features.source import Source
from ml_platform.features.views import FeatureView
from ml_platform.features.windows import REFRESHED_AT, all_changes, changes_between

__all__ = [
    "KNOWN_MONTH",
    "LakeSources",
    "MaterializedTable",
    "SourceReader",
    "SourceRows",
    "history_of",
    "join_of",
    "materialize",
    "months_between",
    "read_rows",
    "stored_history",
]

KNOWN_MONTH: Final = "known_month"
_UTC: Final = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class SourceRows:
    """Rows of a plain source, and the version of the table that they were read from."""

    table: pa.Table
    version: int | None = None


class SourceReader(Protocol):
    """Knows where plain sources lie; called once for each plain source that a view needs."""

    def read(self, source: Source, *, until: datetime) -> SourceRows:
        """The source's stored rows with known time ≤ ``until``, in any order."""
        ...


@dataclass(frozen=True)
class LakeSources:
    """Plain sources in the lake: ``tables`` maps logical names to tables, ``versions`` pins some of them."""

    lake: Lake
    tables: Mapping[str, str]
    versions: Mapping[str, int] = field(default_factory=dict)

    def read(self, source: Source, *, until: datetime) -> SourceRows:
        """Raises NotFound: the source is bound to no table, or the table is not there."""
        if source.name not in self.tables:
            raise NotFound("The source is bound to no table.", field=source.name, next_step="Bind it in the settings.")
        table = self.tables[source.name]
        version = self.versions.get(source.name, self.lake.version(table))
        known = pc.field(source.known_column) <= pa.scalar(utc(until), _UTC)
        rows = self.lake.read(table, version=version, columns=list(source.stored_columns), where=known)
        return SourceRows(rows, version)


@dataclass(frozen=True)
class MaterializedTable:
    """What a materialization left.

    Attributes:
        name: the table in the lake.
        version: its newest version.
        rows: rows of the requested months.
        digest: of (definition digest, table version).
        added: the months that this call wrote; empty for a rerun.
    """

    name: str
    version: int
    rows: int
    digest: str
    added: tuple[str, ...]


def read_rows(source: Source, sources: SourceReader, *, until: datetime) -> tuple[pa.Table, dict[str, int | None]]:
    """The conformed rows of any source, and the table versions of the plain sources below it."""
    if source.sql is None:
        read = sources.read(source, until=until)
        return source.conform(read.table), {source.name: read.version}
    tables: dict[str, pa.Table] = {}
    versions: dict[str, int | None] = {}
    for item in source.inputs:
        tables[item.name], below = read_rows(item, sources, until=until)
        versions |= below
    return evaluate_source(source, tables), versions


def months_between(start: datetime, end: datetime) -> list[str]:
    """The months of [start, end) as ``YYYY-MM``; both are the first instant of a month in UTC.

    Raises:
        DeclarationError: a bound is no first instant of a month, or the range is empty.
    """
    first, after = utc(start), utc(end)
    for bound in (first, after):
        if bound != bound.replace(day=1, hour=0, minute=0, second=0, microsecond=0):
            raise DeclarationError(
                "Feature tables are written in whole months.",
                field="start, end",
                next_step="Give first days, midnight UTC.",
            )
    if first >= after:
        raise DeclarationError("The range is empty.", field="start, end", next_step="Give a start before the end.")
    numbers = range(first.year * 12 + first.month - 1, after.year * 12 + after.month - 1)
    return [f"{number // 12:04d}-{number % 12 + 1:02d}" for number in numbers]


def _bounds(month: str) -> tuple[datetime, datetime]:
    start = utc(datetime.fromisoformat(f"{month}-01T00:00:00+00:00"))
    return start, start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)


def _app_id(view: FeatureView, month: str) -> str:
    return f"{view.table}/{month}"


def materialize(
    view: FeatureView, *, lake: Lake, sources: SourceReader, start: datetime, end: datetime
) -> MaterializedTable:
    """Writes the view's months in [start, end), each in one atomic commit and at most once.

    A windowed view is stored as change points, and each month stands on its own: it begins with the state of every key
    at its first refresh. Other views are stored as their rows, by the month of their known time. Source rows known
    after ``end`` are not read; each commit says the source table versions that it was made from.

    Args:
        view: a feature view.
        lake: where ``view.table`` lies.
        sources: where its plain sources lie.
        start: first instant of a month, aware.
        end: first instant of a month, aware.

    Raises:
        DeclarationError: the bounds are not months.
        StorageFailed: the store refused; the months already added stay, and a rerun adds the others.
    """
    months = months_between(start, end)
    missing = [month for month in months if lake.txn(view.table, _app_id(view, month)) is None]
    if missing:
        rows, versions = read_rows(view.history, sources, until=end)
        prepared = all_changes(view, rows) if view.aggregations else rows
        for month in missing:
            part = _part(view, prepared, month)
            lake.append(
                view.table,
                part,
                partition_by=(KNOWN_MONTH,),
                app_id=_app_id(view, month),
                txn_version=1,
                metadata={"definition": view.digest, "month": month, "sources": versions, "rows": part.num_rows},
            )
    version = lake.version(view.table) or 0
    wanted = pc.field(KNOWN_MONTH).isin(months)
    return MaterializedTable(
        name=view.table,
        version=version,
        rows=lake.dataset(view.table, version).count_rows(filter=wanted),
        digest=document_digest("materialization", {"definition": view.digest, "version": version}),
        added=tuple(missing),
    )


def _part(view: FeatureView, prepared: pa.Table, month: str) -> pa.Table:
    start, end = _bounds(month)
    if view.aggregations:
        part = changes_between(view, prepared, start, end)
    else:
        known = pc.field(view.history.known_column)
        part = prepared.filter((known >= pa.scalar(start, _UTC)) & (known < pa.scalar(end, _UTC)))
    return part.append_column(pa.field(KNOWN_MONTH, pa.string(), nullable=False), pa.repeat(month, part.num_rows))


def history_of(view: FeatureView, data: object) -> History:
    """How the join reads a view's stored rows (a table or a dataset), or the change points or rows themselves."""
    stored: History
    if view.aggregations:
        empty = {item.feature: item.when_empty for item in view.aggregations if item.when_empty is not None}
        names = tuple(item.feature for item in view.aggregations)
        stored = History(data, view.entity.keys, REFRESHED_AT, REFRESHED_AT, names, when_empty=empty)  # type: ignore[arg-type]
        return stored
    source = view.history
    return History(
        data,  # type: ignore[arg-type]
        keys=view.entity.keys,
        event_time=source.event_time,
        known_time=source.known_column,
        values=tuple(item.name for item in view.columns),
        tie_break=source.tie_break,
        deleted=source.deleted,
        ttl_us=view.ttl_us,
        refresh_us=view.refresh_us,
    )


def stored_history(
    view: FeatureView, lake: Lake, *, start: datetime, end: datetime, version: int | None = None
) -> History:
    """The stored rows that answer requests with T in [start, end).

    Raises:
        NotEnoughData: a month of that range was not materialized: its values would silently be older ones.
    """
    months = months_between(*_whole_months(start, end))
    missing = [month for month in months if lake.txn(view.table, _app_id(view, month)) is None]
    if missing:
        raise NotEnoughData(
            f"{len(missing)} months of the view are not materialized, from {missing[0]} on.",
            field=view.name,
            next_step="Materialize the view for these months.",
        )
    return history_of(view, lake.dataset(view.table, version))


def _whole_months(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    first = utc(start).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    floor = utc(end).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    if floor < utc(end):
        floor = floor.replace(year=floor.year + floor.month // 12, month=floor.month % 12 + 1)
    return first, floor


def join_of(view: FeatureView, history: History) -> Join:
    """The join of a view by its own name and keys."""
    return Join(view.name, history)
