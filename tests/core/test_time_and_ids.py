from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.core.clock import FixedClock, ReplayClock, WallClock, format_utc, parse_utc
from ml_platform.core.durations import Duration
from ml_platform.core.errors import DeclarationError, NotFound, SchemaMismatch, SettingsError
from ml_platform.core.ids import id_bytes, id_text, id_time, uuid_v7, uuid_v8
from ml_platform.core.rows import micros

times = st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(times, st.integers(0, 40))
def test_months_are_calendar_months_clamped_to_the_month_end(at: datetime, months: int) -> None:
    total = at.year * 12 + at.month - 1 + months
    year, month = total // 12, total % 12 + 1
    expected = at.replace(year=year, month=month, day=min(at.day, calendar.monthrange(year, month)[1]))
    duration = Duration.parse(f"{months}mo")
    assert duration.after(at) == expected
    assert duration.after_us(np.array([micros(at)])).tolist() == [micros(expected)]


@given(times, st.integers(0, 400), st.sampled_from(["d", "h", "m", "s"]))
def test_other_durations_are_exact(at: datetime, number: int, unit: str) -> None:
    seconds = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}[unit]
    duration = Duration.parse(f"{number}{unit}")
    assert duration.after(at) == at + timedelta(seconds=number * seconds)
    assert duration.before(duration.after(at)) == at
    assert duration.after_us(np.array([micros(at)])).tolist() == [micros(duration.after(at))]


def test_duckdb_clamps_months_as_we_do() -> None:
    import duckdb

    at = datetime(2012, 1, 31, 7, 30, tzinfo=UTC)
    interval = Duration.parse("1mo").interval_sql()
    (said,) = duckdb.connect().execute(f"select timestamp '2012-01-31 07:30:00' + {interval}").fetchone()
    assert said.replace(tzinfo=UTC) == Duration.parse("1mo").after(at)


@pytest.mark.parametrize("text", ["", "12", "mo", "1y", "-1d", "1.5d", "1 d", "12mo "])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(DeclarationError, match="whole number and a unit"):
        Duration.parse(text, field="horizon")


@given(times, st.binary(min_size=10, max_size=10))
def test_ids_sort_by_time_and_tell_it(at: datetime, tail: bytes) -> None:
    for make, version in ((uuid_v7, "7"), (uuid_v8, "8")):
        text = id_text(make(at, tail))
        assert text[14] == version
        assert text[19] in "89ab"
        assert id_bytes(text) == make(at, tail)
        later = id_text(make(at + timedelta(milliseconds=1), b"\0" * 10))
        assert text < later
        assert abs(id_time(id_bytes(text)) - at) < timedelta(milliseconds=1)


@pytest.mark.parametrize("text", ["", "x", "123", "g" * 36])
def test_what_is_no_id_is_not_found(text: str) -> None:
    with pytest.raises(NotFound):
        id_bytes(text)


def test_a_replay_clock_stands_and_only_moves_forward(tmp_path: Path) -> None:
    clock = ReplayClock(tmp_path / "clock")
    with pytest.raises(SettingsError):
        clock.now()
    at = datetime(2010, 1, 1, tzinfo=UTC)
    clock.move(at)
    assert clock.now() == at == ReplayClock(tmp_path / "clock").now()
    clock.move(at)
    with pytest.raises(SettingsError, match="only moves forward"):
        clock.move(at - timedelta(microseconds=1))
    (tmp_path / "clock").write_text("yesterday")
    with pytest.raises(SettingsError):
        clock.now()


def test_clocks_tell_aware_utc_times() -> None:
    assert WallClock().now().tzinfo is UTC
    with pytest.raises(SchemaMismatch):
        FixedClock(datetime(2010, 1, 1)).now()  # noqa: DTZ001


@given(times)
def test_the_text_of_a_time_comes_back(at: datetime) -> None:
    assert parse_utc(format_utc(at)) == at


def test_a_bare_date_is_midnight_utc_and_a_naive_time_is_refused() -> None:
    assert parse_utc("2010-01-01") == datetime(2010, 1, 1, tzinfo=UTC)
    with pytest.raises(SchemaMismatch):
        parse_utc("2010-01-01T00:00:00")
