"""Stored feature views: one Delta table for each definition, known month by known month, each written at most once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.core.delta import Lake
from ml_platform.core.digests import document_digest
from ml_platform.core.errors import NotEnoughData
from ml_platform.core.rows import utc
from ml_platform.features.asof import History, Join
from ml_platform.features.periods import (
    Grain,
    missing_periods,
    month_of,
    period_bounds,
    periods_between,
    uncovered,
)
from ml_platform.features.quality import Judged, judge
from ml_platform.features.source_rows import LakeSources, SourceReader, SourceRows, read_rows
from ml_platform.features.views import FeatureView
from ml_platform.features.windows import REFRESHED_AT, all_changes, changes_between

__all__ = [
    "KNOWN_MONTH",
    "LakeSources",
    "MaterializedTable",
    "RejectedPart",
    "SourceReader",
    "SourceRows",
    "done_periods",
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
class RejectedPart:
    """A period whose rows failed a check: what was measured, and the rows themselves. Nobody sees them in the table."""

    period: str
    rows: pa.Table
    judged: tuple[Judged, ...]

    @property
    def failed(self) -> tuple[Judged, ...]:
        return tuple(one for one in self.judged if not one.passed)


@dataclass(frozen=True)
class MaterializedTable:
    """What a materialization left.

    Attributes:
        name: the table in the lake.
        version: its newest version.
        rows: rows of the requested months.
        digest: of (definition digest, table version).
        added: the periods that this call wrote; empty for a rerun.
        judged: period → its checks, for the periods that were written or rejected now.
        rejected: periods that failed a check; they are as missing as before.
    """

    name: str
    version: int
    rows: int
    digest: str
    added: tuple[str, ...]
    judged: Mapping[str, tuple[Judged, ...]] = field(default_factory=dict)
    rejected: tuple[RejectedPart, ...] = ()


def months_between(start: datetime, end: datetime) -> list[str]:
    """The months of [start, end) as ``YYYY-MM``; both are the first instant of a month in UTC.

    Raises:
        DeclarationError: a bound is no first instant of a month, or the range is empty.
    """
    return periods_between(start, end, "month")


def _app_id(view: FeatureView, period: str) -> str:
    return f"{view.table}/{period}"


def done_periods(view: FeatureView, lake: Lake) -> dict[str, int]:
    """Every period that was written, and its rows, in the order in which they were written."""
    if not lake.exists(view.table):
        return {}
    said = [commit["ml_platform"] for commit in reversed(lake.history(view.table))]
    return {str(one.get("period", one["month"])): int(one["rows"]) for one in said if "month" in one}


def materialize(
    view: FeatureView,
    *,
    lake: Lake,
    sources: SourceReader,
    start: datetime,
    end: datetime,
    grain: Grain = "month",
    accept: str | None = None,
) -> MaterializedTable:
    """Writes the view's periods in [start, end), each in one atomic commit and at most once.

    A windowed view is stored as change points, and each month stands on its own: it begins with the state of every key
    at its first refresh. Other views are stored as their rows, by the month of their known time. Days and hours are
    parts of a month, cut by time: whatever the grain, the rows are the same. Source rows known after ``end`` are not
    read; each commit says the source table versions that it was made from.

    Before a period is written, its rows are held against ``view.about.quality``. Where a check fails, nothing of the
    period is written, the others are, and the result has the rows.

    Args:
        view: a feature view.
        lake: where ``view.table`` lies.
        sources: where its plain sources lie.
        start: first instant of a period of the grain, aware.
        end: likewise.
        grain: of the periods.
        accept: why rows that fail a check are written all the same; the commit says so.

    Raises:
        DeclarationError: the bounds are no periods.
        StorageFailed: the store refused; the periods already added stay, and a rerun adds the others.
    """
    periods = periods_between(start, end, grain)
    done = done_periods(view, lake)
    missing = missing_periods(done, start, end, grain)
    judged: dict[str, tuple[Judged, ...]] = {}
    rejected = []
    if missing:
        rows, versions = read_rows(view.history, sources, until=end)
        parts = _Parts(view, all_changes(view, rows) if view.aggregations else rows, end)
        for period in missing:
            part = parts.of(period)
            judged[period] = tuple(judge(view.about.quality, part, rows_before=_rows_before(done, period)))
            failed = [one.to_json() for one in judged[period] if not one.passed]
            if failed and accept is None:
                rejected.append(RejectedPart(period, part, judged[period]))
                continue
            said = {"definition": view.digest, "month": month_of(period), "period": period, "sources": versions}
            lake.append(
                view.table,
                part,
                partition_by=(KNOWN_MONTH,),
                app_id=_app_id(view, period),
                txn_version=1,
                metadata={
                    **said,
                    "rows": part.num_rows,
                    **({"accepted": {"why": accept, "failed": failed}} if failed else {}),
                },
            )
            done[period] = part.num_rows
    names = {one.period for one in rejected}
    return _left(view, lake, periods, tuple(one for one in missing if one not in names), judged, tuple(rejected))


def _left(
    view: FeatureView,
    lake: Lake,
    periods: Sequence[str],
    added: tuple[str, ...],
    judged: Mapping[str, tuple[Judged, ...]],
    rejected: tuple[RejectedPart, ...],
) -> MaterializedTable:
    version = lake.version(view.table)
    wanted = pc.field(KNOWN_MONTH).isin(sorted({month_of(period) for period in periods}))
    return MaterializedTable(
        name=view.table,
        version=version or 0,
        rows=0 if version is None else lake.dataset(view.table, version).count_rows(filter=wanted),
        digest=document_digest("materialization", {"definition": view.digest, "version": version or 0}),
        added=added,
        judged=judged,
        rejected=rejected,
    )


def _rows_before(done: Mapping[str, int], period: str) -> int | None:
    """Rows of the newest period of the same grain before this one."""
    before = [one for one in done if one < period and len(one) == len(period)]
    return done[max(before)] if before else None


class _Parts:
    """Cuts periods out of the rows of a view; a month is prepared once for all its days and hours."""

    def __init__(self, view: FeatureView, prepared: pa.Table, end: datetime) -> None:
        self._view, self._prepared, self._end = view, prepared, utc(end)
        self._month: tuple[str, pa.Table] | None = None

    def of(self, period: str) -> pa.Table:
        start, end = period_bounds(period)
        name = REFRESHED_AT if self._view.aggregations else self._view.history.known_column
        at = pc.field(name)
        part = self._rows(month_of(period)).filter((at >= pa.scalar(start, _UTC)) & (at < pa.scalar(end, _UTC)))
        month = pa.repeat(month_of(period), part.num_rows)
        return part.append_column(pa.field(KNOWN_MONTH, pa.string(), nullable=False), month)

    def _rows(self, month: str) -> pa.Table:
        if not self._view.aggregations:
            return self._prepared
        if self._month is None or self._month[0] != month:
            start, end = period_bounds(month)
            self._month = month, changes_between(self._view, self._prepared, start, min(end, self._end))
        return self._month[1]


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
        NotEnoughData: a period of that range was not materialized: its values would silently be older ones.
    """
    months = months_between(*_whole_months(start, end))
    lacking = [month for month in months if lake.txn(view.table, _app_id(view, month)) is None]
    missing = uncovered({*months} - {*lacking} | {*done_periods(view, lake)}, start, end) if lacking else []
    if missing:
        raise NotEnoughData(
            f"{len(missing)} periods of the view are not materialized, from {missing[0]} on.",
            field=view.name,
            next_step="Materialize the view for them.",
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
