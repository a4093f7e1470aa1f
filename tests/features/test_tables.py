from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml_platform.core.delta import Lake
from ml_platform.core.errors import DeclarationError, NotEnoughData, NotFound
from ml_platform.core.fields import number
from ml_platform.features import Entity, FeatureView, Source, count, mean
from ml_platform.features.duckdb import Join, point_in_time
from ml_platform.features.tables import LakeSources, history_of, materialize, months_between, read_rows, stored_history
from ml_platform.features.windows import aggregate_changes
from tests.features import oracle
from tests.features.support import same, times

DAY = 86_400_000_000
PURPOSE = Entity("purpose", keys=("purpose",))
MARCH, APRIL, MAY, JUNE = (datetime(2011, month, 1, tzinfo=UTC) for month in (3, 4, 5, 6))

PAYMENTS = Source(
    "payments",
    columns={"id": "int64", "purpose": "string", "paid_at": "timestamp", "known_at": "timestamp", "late": "int64"},
    keys=("id",),
    event_time="paid_at",
    known_time="known_at",
)
VIEW = FeatureView(
    "late_history",
    entity=PURPOSE,
    source=PAYMENTS,
    aggregations=[mean("late", over="20d"), count(over="20d")],
    refresh="1d",
)


def payments(number_of: int = 90) -> pa.Table:
    first = int(datetime(2011, 2, 20, tzinfo=UTC).timestamp()) * 1_000_000
    paid = [first + number * DAY for number in range(number_of)]
    return pa.table(
        {
            "id": list(range(number_of)),
            "purpose": [("car", "boat", "house")[number % 3] for number in range(number_of)],
            "paid_at": times(paid),
            "known_at": times([at + (number % 4) * DAY for number, at in enumerate(paid)]),
            "late": [number % 2 for number in range(number_of)],
        }
    )


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path)
    lake.append("sources/payments", payments())
    return lake


def sources(lake: Lake, **versions: int) -> LakeSources:
    return LakeSources(lake, {"payments": "sources/payments"}, versions)


def test_months_are_written_once_and_a_rerun_changes_nothing(lake: Lake) -> None:
    first = materialize(VIEW, lake=lake, sources=sources(lake), start=MARCH, end=MAY)
    again = materialize(VIEW, lake=lake, sources=sources(lake), start=MARCH, end=MAY)
    assert first.name == VIEW.table
    assert first.added == ("2011-03", "2011-04")
    assert again.added == ()
    assert (again.version, again.rows, again.digest) == (first.version, first.rows, first.digest)
    more = materialize(VIEW, lake=lake, sources=sources(lake), start=APRIL, end=JUNE)
    assert more.added == ("2011-05",)
    assert more.version == first.version + 1
    assert more.digest != first.digest


def test_each_month_says_from_what_it_was_made(lake: Lake) -> None:
    materialize(VIEW, lake=lake, sources=sources(lake, payments=0), start=MARCH, end=APRIL)
    said = lake.history(VIEW.table)[0]["ml_platform"]
    assert said["definition"] == VIEW.digest
    assert said["month"] == "2011-03"
    assert said["sources"] == {"payments": lake.version("sources/payments") and 0}


@pytest.mark.parametrize("order", [[MARCH, APRIL, MAY], [MAY, MARCH, APRIL]])
def test_stored_values_are_those_of_the_oracle_in_whatever_order_months_are_made(lake: Lake, order: Any) -> None:
    ends = {MARCH: APRIL, APRIL: MAY, MAY: JUNE}
    for start in order:
        materialize(VIEW, lake=lake, sources=sources(lake), start=start, end=ends[start])
    rows = [
        {
            "fact": row["id"],
            "key": row["purpose"],
            "event": int(row["paid_at"].timestamp()) * 1_000_000,
            "known": int(row["known_at"].timestamp()) * 1_000_000,
            "tie": 0,
            "deleted": False,
            "value": row["late"],
        }
        for row in payments().to_pylist()
    ]
    begin = int(MARCH.timestamp()) * 1_000_000
    asked = [(key, begin + hours * DAY // 24) for key in ("car", "boat", "nothing") for hours in range(0, 92 * 24, 19)]
    requests = pa.table({"purpose": [key for key, _ in asked], "t": times([t for _, t in asked])})
    history = stored_history(VIEW, lake, start=MARCH, end=JUNE)
    joined = point_in_time(requests, time="t", joins=[Join("late_history", history)])
    windows = [oracle.window_at(rows, key, t, refresh=DAY, leaves=lambda event: event + 20 * DAY) for key, t in asked]
    values = [[row["value"] for row in window] for window in windows]
    assert joined["late_mean_20d"].to_pylist() == [oracle.aggregate("mean", window) for window in values]
    assert joined["count_20d"].to_pylist() == [oracle.aggregate("rows", window) for window in values]


def test_a_month_that_was_not_made_is_an_error_and_not_an_old_value(lake: Lake) -> None:
    materialize(VIEW, lake=lake, sources=sources(lake), start=MARCH, end=APRIL)
    materialize(VIEW, lake=lake, sources=sources(lake), start=MAY, end=JUNE)
    with pytest.raises(NotEnoughData, match="2011-04"):
        stored_history(VIEW, lake, start=MARCH.replace(day=9), end=MAY.replace(day=2))
    assert stored_history(VIEW, lake, start=MARCH.replace(day=9), end=APRIL).keys == ("purpose",)


def test_rows_known_after_the_end_are_not_read(lake: Lake) -> None:
    until = MARCH.replace(day=2)
    table, versions = read_rows(PAYMENTS, sources(lake), until=until)
    assert max(table["known_at"].to_pylist()) == until
    assert versions == {"payments": lake.version("sources/payments")}
    assert table.num_rows < 90


def test_months_are_whole_and_in_order() -> None:
    assert months_between(datetime(2010, 11, 1, tzinfo=UTC), datetime(2011, 2, 1, tzinfo=UTC)) == [
        "2010-11",
        "2010-12",
        "2011-01",
    ]
    for start, end in ((MARCH, MARCH), (APRIL, MARCH), (MARCH.replace(day=2), APRIL), (MARCH, APRIL.replace(hour=1))):
        with pytest.raises(DeclarationError):
            months_between(start, end)


def test_an_unbound_source_is_named(lake: Lake) -> None:
    with pytest.raises(NotFound) as caught:
        materialize(VIEW, lake=lake, sources=LakeSources(lake, {}), start=MARCH, end=APRIL)
    assert caught.value.field == "payments"


def test_a_month_without_rows_is_remembered_too(lake: Lake) -> None:
    early = datetime(2010, 1, 1, tzinfo=UTC)
    first = materialize(VIEW, lake=lake, sources=sources(lake), start=early, end=early.replace(month=2))
    assert first.rows == 0
    again = materialize(VIEW, lake=lake, sources=sources(lake), start=early, end=early.replace(month=2))
    assert again.added == ()


def test_a_view_of_sql_stores_its_rows_by_known_month(lake: Lake) -> None:
    view = FeatureView(
        "payment",
        entity=Entity("payment", ("id",)),
        sql="select id, paid_at, known_at, cast(late as double) * 2 as twice from payments",
        inputs=(PAYMENTS,),
        columns=[number("twice")],
        event_time="paid_at",
        known_time="known_at",
        ttl="60d",
    )
    made = materialize(view, lake=lake, sources=sources(lake), start=MARCH, end=JUNE)
    rows = payments().filter((pa.compute.field("known_at") >= MARCH) & (pa.compute.field("known_at") < JUNE))
    assert made.rows == rows.num_rows
    history = stored_history(view, lake, start=MARCH, end=JUNE)
    asked = pa.table(
        {"id": [20, 21, 20, 9_999], "t": pa.array([APRIL, APRIL, MARCH, APRIL], pa.timestamp("us", "UTC"))}
    )
    assert point_in_time(asked, time="t", joins=[Join("payment", history)])["twice"].to_pylist() == [
        0.0,
        2.0,
        None,
        None,
    ]


@pytest.mark.real_data
def test_matured_outcomes_of_real_loans_are_what_was_known_then(lending_club: Path) -> None:
    """The default rate of a purpose over 720 days, from matured outcomes only, by hand and by the window."""
    loans = pq.read_table(lending_club / "applications.parquet", columns=["loan_id", "applied_at", "purpose"])
    ends = pq.read_table(lending_club / "outcomes.parquet", columns=["loan_id", "known_at", "defaulted"])
    applications = Source(
        "applications",
        {"loan_id": "int64", "applied_at": "timestamp", "purpose": "string"},
        ("loan_id",),
        "applied_at",
        same(),
    )
    outcomes = Source(
        "outcomes",
        {"loan_id": "int64", "known_at": "timestamp", "defaulted": "int64"},
        ("loan_id",),
        "known_at",
        same(),
    )
    matured = Source(
        "matured",
        {"loan_id": "int64", "purpose": "string", "defaulted": "float64", "matured_at": "timestamp"},
        ("loan_id",),
        "matured_at",
        same(),
        sql="""select a.loan_id, a.purpose, a.applied_at + interval 12 month as matured_at,
            cast(o.defaulted = 1 and o.known_at <= a.applied_at + interval 12 month as double) as defaulted
            from applications a join outcomes o on a.loan_id = o.loan_id""",
        inputs=(applications, outcomes),
    )
    view = FeatureView(
        "h",
        entity=PURPOSE,
        source=matured,
        aggregations=[mean("defaulted", over="720d"), count(over="720d")],
        refresh="1d",
    )

    class Files:
        def read(self, source: Source, *, until: datetime) -> Any:
            from ml_platform.features.tables import SourceRows

            return SourceRows({"applications": loans, "outcomes": ends}[source.name])

    rows, _ = read_rows(matured, Files(), until=JUNE)
    changes = aggregate_changes(view, rows, None, datetime(2012, 1, 1, tzinfo=UTC))
    asked = pa.table({"purpose": ["car", "small_business"], "t": pa.array([JUNE, JUNE], pa.timestamp("us", "UTC"))})
    got = point_in_time(asked, time="t", joins=[Join("h", history_of(view, changes))])
    table = rows.to_pylist()
    for purpose, rate, number_of in zip(
        asked["purpose"].to_pylist(), got["defaulted_mean_720d"].to_pylist(), got["count_720d"].to_pylist(), strict=True
    ):
        inside = [
            row["defaulted"]
            for row in table
            if row["purpose"] == purpose and row["matured_at"] <= JUNE and (JUNE - row["matured_at"]).days < 720
        ]
        assert number_of == len(inside) > 100
        assert rate == sum(inside) / len(inside)
