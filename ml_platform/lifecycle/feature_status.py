"""How far behind stored features are: the table, the online store, and what is missing or was rejected."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ml_platform.core.clock import format_utc
from ml_platform.core.durations import Duration
from ml_platform.features import FeatureView
from ml_platform.features.periods import floor_of, missing_periods, period_bounds
from ml_platform.features.tables import done_periods
from ml_platform.lifecycle.online_features import online_store
from ml_platform.lifecycle.rejected import rejected_periods
from ml_platform.platform import Platform

__all__ = ["Freshness", "view_freshness"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Freshness:
    """The state of a view on the platform's clock.

    Attributes:
        view: its reference.
        complete_until: up to when every period since the first one is stored; None: nothing is.
        lag_seconds: from then to the clock; None as above.
        missing: periods between the first and the newest stored one that are not there.
        rejected: periods that failed a quality check and are still missing.
        published_until: until when the online store is complete; None: never published.
        published_lag_seconds: from then to the clock.
        fresh: no lag is beyond the declared one (``about.freshness``, counted from the end of a period), where there is
            one.
    """

    view: str
    complete_until: datetime | None
    lag_seconds: float | None
    missing: tuple[str, ...]
    rejected: tuple[str, ...]
    published_until: datetime | None
    published_lag_seconds: float | None
    fresh: bool

    def to_json(self) -> dict[str, Any]:
        times = {"complete_until": self.complete_until, "published_until": self.published_until}
        return {
            "view": self.view,
            "lag_seconds": self.lag_seconds,
            "missing": list(self.missing),
            "rejected": list(self.rejected),
            "published_lag_seconds": self.published_lag_seconds,
            "fresh": self.fresh,
            **{name: None if at is None else format_utc(at) for name, at in times.items()},
        }

    def words(self) -> str:
        """In one sentence."""
        stored = (
            "nothing is stored" if self.complete_until is None else f"stored until {format_utc(self.complete_until)}"
        )
        online = (
            "never published" if self.published_until is None else f"published until {format_utc(self.published_until)}"
        )
        gaps = f"; {len(self.missing)} periods are missing, from {self.missing[0]} on" if self.missing else ""
        rejected = f"; {len(self.rejected)} were rejected" if self.rejected else ""
        return f"{stored}, {online}{gaps}{rejected}."


def _until(at: datetime | None, never: str, done: str) -> str:
    return never if at is None else f"{done} until {format_utc(at)}"


def view_freshness(platform: Platform, view: FeatureView) -> Freshness:
    """Where a view stands now.

    Raises:
        StorageFailed: the online store is away.
    """
    now, grain = platform.clock.now(), view.about.partition
    done = done_periods(view, platform.lake)
    missing, until = [], None
    if done:
        first = min(period_bounds(period)[0] for period in done)
        newest = max(period_bounds(period)[1] for period in done)
        missing = missing_periods(done, floor_of(first, grain), max(newest, floor_of(now, grain)), grain)
        missing = [period for period in missing if period_bounds(period)[1] <= now]
        until = min([newest, *(period_bounds(period)[0] for period in missing)])
    published_us = online_store(platform).published_until_us(view)
    published = None if published_us is None else _EPOCH + timedelta(microseconds=published_us)
    lag = None if until is None else max(0.0, (now - until).total_seconds())
    return Freshness(
        view=view.reference,
        complete_until=until,
        lag_seconds=lag,
        missing=tuple(period for period in missing if until is not None and period_bounds(period)[1] <= newest),
        rejected=tuple(rejected_periods(platform, view)),
        published_until=published,
        published_lag_seconds=None if published is None else max(0.0, (now - published).total_seconds()),
        fresh=_fresh(view, now, until),
    )


def _fresh(view: FeatureView, now: datetime, until: datetime | None) -> bool:
    """The period after ``until`` is due ``freshness`` after its own end."""
    if view.about.freshness is None:
        return True
    if until is None:
        return False
    allowed = timedelta(microseconds=Duration.parse(view.about.freshness).microseconds)
    return floor_of(now - allowed, view.about.partition) <= until
