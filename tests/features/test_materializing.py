"""Days and hours are the same rows as months; what fails a check is not visible; what was killed goes on."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ml_platform.core.delta import Lake
from ml_platform.core.errors import NotEnoughData
from ml_platform.core.fields import number
from ml_platform.features import Entity, FeatureView
from ml_platform.features.about import About
from ml_platform.features.quality import in_range, null_rate, unique, volume
from ml_platform.features.tables import done_periods, materialize, stored_history
from tests.conftest import REPOSITORY
from tests.features.test_tables import APRIL, JUNE, MARCH, MAY, PAYMENTS, VIEW, payments, sources

ROWS = FeatureView(
    "payment",
    entity=Entity("payment", ("id",)),
    sql="select id, paid_at, known_at, cast(late as double) as late from payments",
    inputs=(PAYMENTS,),
    columns=(number("late"),),
    event_time="paid_at",
    known_time="known_at",
)
SLOW = replace(VIEW, name="slow", refresh="3d")
HOURLY = replace(VIEW, name="hourly", refresh="1h")


def made_lake(folder: Path) -> Lake:
    lake = Lake(folder)
    lake.append("sources/payments", payments())
    return lake


def stored(lake: Lake, view: FeatureView) -> pa.Table:
    table = lake.read(view.table)
    return table.sort_by([(name, "ascending") for name in table.column_names])


def write(lake: Lake, view: FeatureView, start: datetime, end: datetime, grain: str = "month", **how: Any) -> Any:
    return materialize(view, lake=lake, sources=sources(lake), start=start, end=end, grain=grain, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("view", [VIEW, ROWS, SLOW, HOURLY], ids=lambda view: view.name)
def test_whatever_the_grain_the_same_rows_are_stored(view: FeatureView, tmp_path: Path) -> None:
    months, days, mixed = (made_lake(tmp_path / name) for name in ("months", "days", "mixed"))
    write(months, view, MARCH, MAY)
    write(days, view, MARCH, MAY, "day")
    write(mixed, view, MARCH.replace(day=4), MARCH.replace(day=9), "day")  # the middle first, and hours in it
    write(mixed, view, MARCH.replace(day=9), MARCH.replace(day=9, hour=7), "hour")
    write(mixed, view, MARCH, MAY)
    want = stored(months, view)
    assert want.num_rows > 20
    assert stored(days, view).equals(want)
    assert stored(mixed, view).equals(want)
    assert write(mixed, view, MARCH, MAY, "day").added == ()
    assert len(done_periods(view, days)) == 61


def test_a_day_by_day_table_answers_up_to_its_last_day(tmp_path: Path) -> None:
    lake = made_lake(tmp_path)
    write(lake, VIEW, MARCH, APRIL.replace(day=11), "day")
    assert stored_history(VIEW, lake, start=MARCH.replace(day=5), end=APRIL.replace(day=11))
    with pytest.raises(NotEnoughData, match="2011-04-11"):
        stored_history(VIEW, lake, start=MARCH.replace(day=5), end=APRIL.replace(day=11, hour=1))
    with pytest.raises(NotEnoughData, match="2011-04-11"):
        stored_history(VIEW, lake, start=APRIL, end=JUNE)


def test_a_hole_in_a_month_is_an_error_and_not_an_old_value(tmp_path: Path) -> None:
    lake = made_lake(tmp_path)
    write(lake, VIEW, MARCH, MARCH.replace(day=5), "day")
    write(lake, VIEW, MARCH.replace(day=6), MARCH.replace(day=9), "day")
    with pytest.raises(NotEnoughData, match="2011-03-05"):
        stored_history(VIEW, lake, start=MARCH.replace(day=7), end=MARCH.replace(day=8))


def test_a_period_that_fails_is_not_visible_the_others_are_and_a_rerun_tries_again(tmp_path: Path) -> None:
    lake = made_lake(tmp_path)
    table = payments(300)
    late = pa.array([None if 45 <= number_ < 60 else 1 for number_ in range(300)], pa.int64())
    lake.append("sources/more", table.set_column(4, "late", late))
    view = replace(ROWS, about=About(quality=(null_rate("late", most=0.2), unique("id"), volume(least=1))))
    from ml_platform.features.tables import LakeSources

    broken = LakeSources(lake, {"payments": "sources/more"}, {})
    made = materialize(view, lake=lake, sources=broken, start=MARCH, end=JUNE)
    (rejected,) = made.rejected
    assert rejected.period == "2011-04"
    assert [one.check.name for one in rejected.failed] == ["null_rate_late"]
    nulls = rejected.rows["late"].null_count
    assert rejected.failed[0].measured["null_rate"] == nulls / rejected.rows.num_rows > 0.2
    assert made.added == ("2011-03", "2011-05")
    assert {row["known_month"] for row in lake.read(view.table).to_pylist()} == {"2011-03", "2011-05"}
    assert all(one.passed for one in made.judged["2011-03"])
    with pytest.raises(NotEnoughData, match="2011-04"):
        stored_history(view, lake, start=MARCH, end=JUNE)
    again = materialize(view, lake=lake, sources=broken, start=MARCH, end=JUNE)
    assert [one.period for one in again.rejected] == ["2011-04"]
    mended = materialize(view, lake=lake, sources=sources(lake), start=MARCH, end=JUNE)
    assert (mended.added, mended.rejected) == (("2011-04",), ())
    assert stored_history(view, lake, start=MARCH, end=JUNE)


def test_what_somebody_accepts_is_written_and_says_why(tmp_path: Path) -> None:
    lake = made_lake(tmp_path)
    view = replace(ROWS, about=About(quality=(in_range("late", most=0.5),)))
    assert len(write(lake, view, MARCH, MAY).rejected) == 2
    assert not lake.exists(view.table)
    made = write(lake, view, MARCH, APRIL, accept="the late ones are real")
    assert made.added == ("2011-03",)
    (said,) = [one["ml_platform"] for one in lake.history(view.table) if "month" in one["ml_platform"]]
    assert said["accepted"]["why"] == "the late ones are real"
    assert said["accepted"]["failed"][0]["name"] == "range_late"


def test_a_jump_in_rows_is_seen_against_the_period_before(tmp_path: Path) -> None:
    lake = made_lake(tmp_path)
    few = payments().slice(0, 41)  # March is whole, April nearly empty
    lake.append("sources/few", few)
    from ml_platform.features.tables import LakeSources

    view = replace(ROWS, about=About(quality=(volume(change=0.5),)))
    made = materialize(
        view, lake=lake, sources=LakeSources(lake, {"payments": "sources/few"}, {}), start=MARCH, end=MAY
    )
    (rejected,) = made.rejected
    assert rejected.period == "2011-04"
    assert rejected.failed[0].measured["rows"] * 2 < rejected.failed[0].measured["rows_before"]


@pytest.mark.parametrize("after", [1, 5])
def test_a_killed_backfill_of_days_goes_on_where_it_was(after: int, tmp_path: Path) -> None:
    lake = made_lake(tmp_path / "lake")
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from ml_platform.core.delta import Lake\n"
        "from tests.features.test_materializing import APRIL, MARCH, VIEW, write\n"
        "append, calls = Lake.append, []\n"
        "def killing(self, *args, **named):\n"
        "    calls.append(1)\n"
        f"    if len(calls) > {after}: os.kill(os.getpid(), 9)\n"
        "    return append(self, *args, **named)\n"
        "Lake.append = killing\n"
        "write(Lake(Path(sys.argv[1])), VIEW, MARCH, APRIL, 'day')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "lake")], check=False, cwd=REPOSITORY)
    assert done.returncode == -9
    assert len(done_periods(VIEW, lake)) == after
    made = write(lake, VIEW, MARCH, APRIL, "day")
    assert len(made.added) == 31 - after
    whole = made_lake(tmp_path / "whole")
    write(whole, VIEW, MARCH, APRIL)
    assert stored(lake, VIEW).equals(stored(whole, VIEW))


@pytest.mark.slow
def test_a_year_of_days_is_one_call(tmp_path: Path) -> None:
    lake = made_lake(tmp_path)
    start = datetime(2011, 1, 1, tzinfo=UTC)
    made = write(lake, VIEW, start, start + timedelta(days=365), "day")
    assert len(made.added) == 365
    assert write(lake, VIEW, start, start + timedelta(days=365), "day").added == ()
