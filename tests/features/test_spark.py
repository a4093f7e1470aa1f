from __future__ import annotations

from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_platform.core.errors import DeclarationError, SchemaMismatch, SettingsError
from ml_platform.features import Source, spark_sources
from ml_platform.features import spark as spark_engine
from ml_platform.features.asof import History, Join
from ml_platform.features.duckdb import evaluate_source
from ml_platform.features.tables import history_of, join_of
from ml_platform.features.windows import all_changes
from ml_platform.testing import SparkFeatures, check_feature_engine, histories
from ml_platform.testing.histories import VIEWS
from tests.features.support import same, times


@pytest.mark.parametrize("view", VIEWS)
def test_spark_answers_thousands_of_histories_as_brute_force_does(spark: Any, view: str) -> None:
    @settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 2**32))
    def check(seed: int) -> None:
        check_feature_engine(SparkFeatures(spark), Random(seed), view=view, histories=200, requests=5)

    check()


def frame(spark: Any, table: pa.Table) -> Any:
    return spark.createDataFrame(table)


def rows_of(found: Any) -> list[tuple[Any, ...]]:
    return sorted((tuple(row.values()) for row in found.toArrow().to_pylist()), key=repr)


def events(rows: list[dict[str, Any]]) -> pa.Table:
    return histories.table(rows)


def event(number: int, **changes: Any) -> dict[str, Any]:
    plain = {
        "id": number,
        "customer": "a",
        "shop": 1,
        "event": 0,
        "known": 0,
        "tie": 0,
        "withdrawn": False,
        "amount": 1.0,
        "units": 1,
        "channel": "web",
        "express": None,
    }
    return plain | changes


def test_change_points_do_not_depend_on_partitions(spark: Any) -> None:
    view = VIEWS["exact"]
    random = Random(3)
    table = events([row for place in range(30) for row in histories.history(random, view, place)])
    wanted = sorted((tuple(row.values()) for row in all_changes(view, table).to_pylist()), key=repr)
    assert len(wanted) > 100
    for partitions in ("1", "7"):
        spark.conf.set("spark.sql.shuffle.partitions", partitions)
        try:
            shared = frame(spark, table).repartition(int(partitions))
            assert rows_of(spark_engine.all_changes(view, shared)) == wanted
        finally:
            spark.conf.set("spark.sql.shuffle.partitions", "2")


def test_one_key_with_many_rows_and_none_at_all(spark: Any) -> None:
    view = VIEWS["refreshed"]
    table = events([event(n, event=n % 50 * 1_000_000, known=0, amount=float(n % 7)) for n in range(3_000)])
    found = spark_engine.all_changes(view, frame(spark, table))
    assert rows_of(found) == sorted((tuple(row.values()) for row in all_changes(view, table).to_pylist()), key=repr)
    assert spark_engine.all_changes(view, frame(spark, table).limit(0)).count() == 0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([event(1), event(1, amount=2.0)], "differ elsewhere"),
        ([event(1, amount=float("nan"))], "amount: NaN or infinity"),
        ([event(1, amount=float("-inf"))], "amount: NaN or infinity"),
    ],
)
def test_rows_that_break_a_promise_fail_the_job(spark: Any, rows: Any, message: str) -> None:
    from pyspark.errors import PySparkException

    schema = histories.EVENTS.arrow_schema()
    columns = {field.name: [row[field.name] for row in rows] for field in schema}
    table = pa.table({name: pa.array(values, schema.field(name).type) for name, values in columns.items()})
    conformed = spark_sources.conform(histories.EVENTS, frame(spark, table))
    with pytest.raises(PySparkException, match=message):
        spark_engine.all_changes(VIEWS["refreshed"], conformed).count()


def test_a_row_delivered_twice_is_one(spark: Any) -> None:
    table = events([event(1), event(2, event=1_000_000)])
    twice = frame(spark, pa.concat_tables([table, table]))
    assert spark_sources.conform(histories.EVENTS, twice).count() == 2


def test_frames_that_are_not_the_declared_ones_are_refused_by_name(spark: Any) -> None:
    table = events([event(1)])
    for wrong, field in (
        (table.drop_columns(["units"]), "units"),
        (table.append_column("more", pa.array([1])), "more"),
        (table.set_column(8, "units", pa.array(["1"])), "units"),
    ):
        with pytest.raises(SchemaMismatch) as caught:
            spark_sources.conform(histories.EVENTS, frame(spark, wrong))
        assert caught.value.field == field
    view = VIEWS["held_exactly"]
    join = join_of(view, history_of(view, frame(spark, table)))
    for asked, error, field in (
        ({"id": ["1"], "t": times([0])}, SchemaMismatch, "id"),
        ({"id": [1], "t": [0]}, SchemaMismatch, "t"),
        ({"id": [1]}, SchemaMismatch, "t"),
        ({"id": [1], "t": times([0]), "units": [1]}, DeclarationError, "units"),
    ):
        with pytest.raises(error) as caught:
            spark_engine.point_in_time(frame(spark, pa.table(asked)), time="t", joins=[join])
        assert caught.value.field == field


def test_a_session_in_local_time_is_refused(spark: Any) -> None:
    spark.conf.set("spark.sql.session.timeZone", "Europe/Berlin")
    try:
        with pytest.raises(SettingsError) as caught:
            spark_engine.all_changes(VIEWS["exact"], frame(spark, events([event(1)])))
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")
    assert caught.value.field == "spark.sql.session.timeZone"


def test_columns_and_views_of_any_name_are_joined_one_after_the_other(spark: Any) -> None:
    data = frame(spark, pa.table({"a.b`c": ["x"], "when it is": times([5]), "v.1": [1.5]}))
    history = History(data, ("a.b`c",), "when it is", "when it is", ("v.1",))
    joins = [
        Join("p", history, on=("who is",), names={"v.1": "x"}),
        Join("q", history, on=("who is",), names={"v.1": "y"}),
    ]
    asked = frame(spark, pa.table({"who is": ["x", "x", None], "at.t": times([5, 4, 6]), "n": [1, 2, 3]}))
    got = spark_engine.point_in_time(asked, time="at.t", joins=joins)
    assert got.columns[3:] == ["x", "p__event_time", "p__known_time", "y", "q__event_time", "q__known_time"]
    assert [(row["n"], row["x"], row["y"]) for row in got.toArrow().sort_by("n").to_pylist()] == [
        (1, 1.5, 1.5),
        (2, None, None),
        (3, None, None),
    ]


LOANS = Source(
    "loans",
    columns={
        "loan_id": "int64",
        "purpose": "string",
        "at": "timestamp",
        "day": "date",
        "amount": "int64",
        "rate": "float64",
    },
    keys=("loan_id",),
    event_time="at",
    known_time=same(),
)
COLUMNS = {"purpose": "string", "at": "timestamp", "n": "int64"}


def loans() -> pa.Table:
    random = Random(5)
    number = 60
    instants = [random.randint(0, 3 * 10**12) for _ in range(number)]
    return LOANS.conform(
        pa.table(
            {
                "loan_id": list(range(number)),
                "purpose": [random.choice([None, "car", "home", "Büro"]) for _ in range(number)],
                "at": times(instants),
                "day": pa.array([at // 86_400_000_000 for at in instants], pa.int32()).cast(pa.date32()),
                "amount": pa.array([random.choice([None, -7, 0, 3, 1_000]) for _ in range(number)], pa.int64()),
                "rate": pa.array([random.choice([None, 0.1, 2.5, -1.5]) for _ in range(number)], pa.float64()),
            }
        )
    )


QUERIES = [
    'select purpose, max("at") as "at", count(*) as n from loans where purpose is not null group by purpose',
    'select purpose, max("at") as "at", sum(amount)::bigint as n from loans where purpose is not null group by 1 having sum(amount) is not null',
    'select purpose, "at", amount as n from loans where purpose is not null qualify row_number() over (partition by purpose order by "at" desc, loan_id) = 1',
    "select coalesce(purpose, 'none') as purpose, \"at\", cast(coalesce(case when rate > 0 then amount // 2 else length(purpose) end, -9) as bigint) as n from loans where loan_id % 7 = 3",
    "with big as (select * from loans where amount > 1) select l.purpose || '/' || b.purpose as purpose, greatest(l.\"at\", b.\"at\") as \"at\", l.loan_id * 100 + b.loan_id as n from loans l join big b on l.day = b.day and l.loan_id < b.loan_id where l.purpose is not null and b.purpose is not null",
    "select lower(purpose) as purpose, date_trunc('day', \"at\") + interval 1 day as \"at\", max(year(\"at\") * 100 + month(\"at\"))::bigint as n from loans where purpose is not null group by 1, 2",
]  # fmt: skip


@pytest.mark.parametrize("query", range(len(QUERIES)))
def test_sql_written_for_duckdb_gives_the_same_rows_on_spark(spark: Any, query: int) -> None:
    source = Source(
        "made",
        columns=COLUMNS,
        keys=("purpose", "n"),
        event_time="at",
        known_time=same(),
        sql=QUERIES[query],
        inputs=(LOANS,),
    )
    wanted = evaluate_source(source, {"loans": loans()})
    got = spark_sources.evaluate_source(source, {"loans": frame(spark, loans())})
    assert wanted.num_rows > 0
    assert rows_of(got) == sorted((tuple(row.values()) for row in wanted.to_pylist()), key=repr)
    assert spark.catalog.listTables() == []


@pytest.mark.parametrize(
    "call", ["sum(rate)", "avg(rate)", "stddev(amount)", "any_value(amount)", "string_agg(purpose, ',')"]
)
def test_sql_whose_result_depends_on_the_order_of_rows_is_refused(spark: Any, call: str) -> None:
    source = Source(
        "made",
        columns={"purpose": "string", "at": "timestamp", "n": "float64"},
        keys=("purpose",),
        event_time="at",
        known_time=same(),
        sql=f'select purpose, max("at") as "at", {call} as n from loans group by purpose',
        inputs=(LOANS,),
    )
    with pytest.raises(DeclarationError, match="order of rows"):
        spark_sources.evaluate_source(source, {"loans": frame(spark, loans())})


def test_a_missing_input_is_named(spark: Any) -> None:
    source = Source(
        "made",
        columns=COLUMNS,
        keys=("purpose", "n"),
        event_time="at",
        known_time=same(),
        sql=QUERIES[0],
        inputs=(LOANS,),
    )
    with pytest.raises(DeclarationError) as caught:
        spark_sources.evaluate_source(source, {})
    assert caught.value.field == "loans"
