"""Periods of known time in which stored features are written: months, days and hours of UTC, as text.

``2010-07`` is a month, ``2010-07-04`` a day of it, ``2010-07-04T13`` an hour of that. Which grain a row was written by
changes nothing that is stored: the same rows lie in the same table, in more or fewer commits. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Final, Literal

from ml_platform.core.errors import DeclarationError
from ml_platform.core.rows import utc

__all__ = [
    "GRAINS",
    "Grain",
    "floor_of",
    "missing_periods",
    "month_of",
    "period_bounds",
    "periods_between",
    "uncovered",
]

Grain = Literal["month", "day", "hour"]
GRAINS: Final[tuple[Grain, ...]] = ("month", "day", "hour")
_FORMATS: Final = {"month": "%Y-%m", "day": "%Y-%m-%d", "hour": "%Y-%m-%dT%H"}
_LENGTHS: Final[dict[int, Grain]] = {7: "month", 10: "day", 13: "hour"}
_FINER: Final[dict[Grain, Grain]] = {"month": "day", "day": "hour"}


def floor_of(at: datetime, grain: Grain) -> datetime:
    """The first instant of the month, day or hour of a time, UTC."""
    hour = utc(at).replace(minute=0, second=0, microsecond=0)
    if grain == "hour":
        return hour
    return hour.replace(hour=0) if grain == "day" else hour.replace(hour=0, day=1)


def _after(start: datetime, grain: Grain) -> datetime:
    if grain == "month":
        return start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    return start + (timedelta(days=1) if grain == "day" else timedelta(hours=1))


def periods_between(start: datetime, end: datetime, grain: Grain) -> list[str]:
    """The periods of [start, end); both are first instants of one.

    Raises:
        DeclarationError: a bound is none, or the range is empty.
    """
    at, after = utc(start), utc(end)
    if at != floor_of(at, grain) or after != floor_of(after, grain):
        raise DeclarationError(
            f"Features are written in whole {grain}s here.",
            field="start, end",
            next_step="Give first days, midnight UTC."
            if grain == "month"
            else f"Give first instants of a UTC {grain}.",
        )
    if at >= after:
        raise DeclarationError("The range is empty.", field="start, end", next_step="Give a start before the end.")
    found = []
    while at < after:
        found.append(at.strftime(_FORMATS[grain]))
        at = _after(at, grain)
    return found


def period_bounds(period: str) -> tuple[datetime, datetime]:
    """[start, end) of a period.

    >>> [at.isoformat() for at in period_bounds("2010-12")]
    ['2010-12-01T00:00:00+00:00', '2011-01-01T00:00:00+00:00']
    """
    grain = _LENGTHS[len(period)]
    text = {"month": f"{period}-01T00", "day": f"{period}T00", "hour": period}[grain]
    start = datetime.fromisoformat(f"{text}:00:00+00:00")
    return start, _after(start, grain)


def month_of(period: str) -> str:
    """The month that a period lies in."""
    return period[:7]


def _parents(period: str) -> Iterable[str]:
    return (period[:size] for size in _LENGTHS if size < len(period))


def _missing_in(period: str, done: Collection[str]) -> list[str]:
    if period in done or any(parent in done for parent in _parents(period)):
        return []
    if not any(one.startswith(period) for one in done):
        return [period]
    grain = _FINER[_LENGTHS[len(period)]]  # an hour has no parts, so something finer was done
    return [part for inner in periods_between(*period_bounds(period), grain) for part in _missing_in(inner, done)]


def missing_periods(done: Collection[str], start: datetime, end: datetime, grain: Grain) -> list[str]:
    """What is to be written so that each instant of [start, end) is written once, whatever grain was used before.

    Args:
        done: periods that were written.
        start: first instant of a period of ``grain``.
        end: likewise; it is outside.
        grain: of what is written now; a period of which parts were done is completed by its parts.
    """
    return [part for period in periods_between(start, end, grain) for part in _missing_in(period, done)]


def uncovered(done: Collection[str], start: datetime, end: datetime) -> list[str]:
    """The periods that answers for requests in [start, end) need and that were not written; see ``stored_history``.

    A month stands on its own, so all of it up to the end is needed, and nothing before it. Of the month in which the
    range ends it is enough that its days and hours up to the end are done.
    """
    first, last = floor_of(start, "month"), floor_of(end, "hour")
    last = last if last == utc(end) else _after(last, "hour")
    found: list[str] = []
    while first < last:
        month = first.strftime(_FORMATS["month"])
        after = _after(first, "month")
        if after <= last or not any(one.startswith(month) for one in done):
            found += _missing_in(month, done)
        else:
            found += missing_periods(done, first, last, "hour")
        first = after
    return found
