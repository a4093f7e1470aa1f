"""Periods: whatever grains are mixed in whatever order, each hour is written exactly once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core.errors import DeclarationError
from ml_platform.features.periods import (
    GRAINS,
    floor_of,
    missing_periods,
    period_bounds,
    periods_between,
    uncovered,
)

START = datetime(2011, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
MONTHS = 3


def hours(period: str) -> set[datetime]:
    """The slow, obvious way: every hour of a period."""
    start, end = period_bounds(period)
    return {start + number * HOUR for number in range(int((end - start) / HOUR))}


def all_hours(start: datetime, end: datetime) -> set[datetime]:
    return {start + number * HOUR for number in range(int((end - start) / HOUR))}


@st.composite
def asked(draw: st.DrawFn) -> tuple[datetime, datetime, str]:
    grain = draw(st.sampled_from(GRAINS))
    most = (31 + 28 + 31) * 24
    one, two = sorted((draw(st.integers(0, most)), draw(st.integers(0, most))))
    start, end = floor_of(START + one * HOUR, grain), floor_of(START + two * HOUR, grain)
    if start == end:
        start, end = floor_of(START, "month"), START.replace(month=2)
    if grain == "hour":  # not too many of them
        end = min(end, start + 50 * HOUR)
    return start, end, grain


@given(st.lists(asked(), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_each_hour_is_written_once_whatever_was_asked_before(orders: list[tuple[datetime, datetime, str]]) -> None:
    done: list[str] = []
    wanted: set[datetime] = set()
    for start, end, grain in orders:
        done += missing_periods(done, start, end, grain)  # type: ignore[arg-type]
        wanted |= all_hours(start, end)
        assert missing_periods(done, start, end, grain) == []  # type: ignore[arg-type]
    written = [hour for period in done for hour in hours(period)]
    assert len(written) == len(set(written))
    assert wanted <= set(written)


@given(st.lists(asked(), max_size=4), st.integers(0, 2000), st.integers(1, 900))
@settings(max_examples=60, deadline=None)
def test_requests_are_covered_exactly_if_every_hour_from_the_start_of_their_month_is(
    orders: list[tuple[datetime, datetime, str]], first: int, length: int
) -> None:
    done: list[str] = []
    for start, end, grain in orders:
        done += missing_periods(done, start, end, grain)  # type: ignore[arg-type]
    start, end = START + first * HOUR, START + (first + length) * HOUR
    needed = all_hours(floor_of(start, "month"), end)
    there = {hour for period in done for hour in hours(period)}
    missing = uncovered(done, start, end)
    assert (missing == []) == (needed <= there)
    assert needed - there <= {hour for period in missing for hour in hours(period)}
    assert not {hour for period in missing for hour in hours(period)} & there


def test_bounds_end_years_and_february() -> None:
    assert periods_between(datetime(2011, 12, 1, tzinfo=UTC), datetime(2012, 3, 1, tzinfo=UTC), "month") == [
        "2011-12",
        "2012-01",
        "2012-02",
    ]
    assert period_bounds("2012-02-29T23")[1] == datetime(2012, 3, 1, tzinfo=UTC)
    assert len(periods_between(datetime(2012, 1, 1, tzinfo=UTC), datetime(2013, 1, 1, tzinfo=UTC), "day")) == 366


@pytest.mark.parametrize("grain", GRAINS)
def test_bounds_that_are_no_first_instants_are_refused(grain: str) -> None:
    late = START + timedelta(minutes=1)
    for start, end in ((late, START.replace(month=2)), (START, late), (START, START)):
        with pytest.raises(DeclarationError, match="start, end"):
            periods_between(start, end, grain)  # type: ignore[arg-type]
