"""Keys that lead to other keys: a loan's borrower, the borrower's employer, what is known of the employer."""

from __future__ import annotations

from random import Random
from typing import Any

import pyarrow as pa
import pytest

from ml_platform.core.errors import SchemaMismatch
from ml_platform.core.fields import category
from ml_platform.features import Entity, FeatureView, Source, count, sum_
from ml_platform.features import spark as spark_engine
from ml_platform.features.asof import Join
from ml_platform.features.duckdb import point_in_time
from ml_platform.features.tables import history_of
from ml_platform.features.windows import all_changes
from ml_platform.testing import feature_values
from tests.features.support import same, times

SECOND = 1_000_000
JOBS = Source(
    "jobs",
    columns={"borrower_id": "int64", "started": "timestamp", "heard": "timestamp", "employer": "string"},
    keys=("borrower_id",),
    event_time="started",
    known_time="heard",
)
LAYOFFS = Source(
    "layoffs",
    columns={"notice": "int64", "employer": "string", "at": "timestamp", "people": "int64"},
    keys=("notice",),
    event_time="at",
    known_time=same(),
)
JOB = FeatureView(
    "job", entity=Entity("borrower", ("borrower_id",)), source=JOBS, columns=[category("employer", nullable=True)]
)
EMPLOYER = FeatureView(
    "employer_layoffs",
    entity=Entity("employer", ("employer",)),
    source=LAYOFFS,
    aggregations=[count(over="20s"), sum_("people", over="20s")],
    refresh="2s",
)


def world() -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    random = Random(9)
    firms = ["north", "south", None]
    jobs = {(n % 6, event): event for n, event in enumerate(random.randint(0, 60) for _ in range(30))}
    worked = [
        {
            "borrower_id": who,
            "started": at * SECOND,
            "heard": (at + random.randint(0, 9)) * SECOND,
            "employer": random.choice(firms),
        }
        for who, at in jobs
    ]
    notices = [
        {
            "notice": n,
            "employer": random.choice(firms),
            "at": random.randint(0, 70) * SECOND,
            "people": random.randint(1, 9),
        }
        for n in range(40)
    ]
    asked = [
        {"loan_id": n, "who": random.choice([0, 1, 2, 3, 7, None]), "t": random.randint(-2, 90) * SECOND}
        for n in range(200)
    ]
    return worked, notices, asked


def typed(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    plain = {
        f.name: pa.array([r[f.name] for r in rows], pa.int64() if pa.types.is_timestamp(f.type) else f.type)
        for f in schema
    }
    return pa.table({name: column.cast(schema.field(name).type) for name, column in plain.items()})


def by_hand(worked: Any, notices: Any, asked: Any) -> list[dict[str, Any]]:
    found = []
    for request in asked:
        employer = feature_values(JOB, worked, (request["who"],), request["t"])["employer"]
        found.append({"employer": employer, **feature_values(EMPLOYER, notices, (employer,), request["t"])})
    return found


def joins(jobs: Any, changes: Any) -> list[Join]:
    return [
        Join("job", history_of(JOB, jobs), on=("who",)),
        Join("employer_layoffs", history_of(EMPLOYER, changes), on=("employer",)),
    ]


ASKED = pa.schema([("loan_id", pa.int64()), ("who", pa.int64()), ("t", pa.timestamp("us", "UTC"))])


def test_a_key_found_by_one_join_leads_the_next() -> None:
    worked, notices, asked = world()
    jobs, changes = typed(worked, JOBS.arrow_schema()), all_changes(EMPLOYER, typed(notices, LAYOFFS.arrow_schema()))
    joined = point_in_time(typed(asked, ASKED), time="t", joins=joins(jobs, changes))
    wanted = by_hand(worked, notices, asked)
    assert joined.select(["employer", "count_20s", "people_sum_20s"]).to_pylist() == wanted
    assert len({row["employer"] for row in wanted}) == 3
    assert sum(row["count_20s"] is None for row in wanted) > 10
    assert len({row["people_sum_20s"] for row in wanted}) > 10


def test_spark_follows_the_same_keys(spark: Any) -> None:
    worked, notices, asked = world()
    jobs = spark.createDataFrame(typed(worked, JOBS.arrow_schema()))
    changes = spark_engine.all_changes(EMPLOYER, spark.createDataFrame(typed(notices, LAYOFFS.arrow_schema())))
    found = spark_engine.point_in_time(spark.createDataFrame(typed(asked, ASKED)), time="t", joins=joins(jobs, changes))
    got = found.toArrow().sort_by("loan_id").select(["employer", "count_20s", "people_sum_20s"]).to_pylist()
    assert got == by_hand(worked, notices, asked)


def test_a_key_that_no_earlier_join_finds_is_refused() -> None:
    worked, notices, asked = world()
    jobs, changes = typed(worked, JOBS.arrow_schema()), all_changes(EMPLOYER, typed(notices, LAYOFFS.arrow_schema()))
    with pytest.raises(SchemaMismatch) as caught:
        point_in_time(typed(asked, ASKED), time="t", joins=joins(jobs, changes)[::-1])
    assert caught.value.field == "employer"
    assert times([0]).type == ASKED.field("t").type
