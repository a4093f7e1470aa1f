"""The embedded online store answers what the point-in-time join would: the brute-force oracle is the judge of both."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core.delta import Lake
from ml_platform.core.errors import NotFound, SchemaMismatch, StorageFailed
from ml_platform.core.fields import category, number
from ml_platform.core.rows import micros
from ml_platform.features import Entity, FeatureView, Source, count, mean
from ml_platform.features.duckdb import point_in_time
from ml_platform.features.online import ChangePoint, answer, change_points, key_bytes
from ml_platform.features.sqlite import SqliteOnlineStore
from ml_platform.features.tables import join_of, materialize, stored_history
from tests.features import oracle
from tests.features.support import at, same, times
from tests.features.test_tables import JUNE, MARCH, VIEW, payments, sources

SECOND = 1_000_000
GROUP = Entity("group", ("key",))
ROWS = Source(
    "facts",
    columns={
        "key": "string",
        "event": "timestamp",
        "known": "timestamp",
        "tie": "int64",
        "deleted": "bool",
        "value": "float64",
        "word": "string",
    },
    keys=("key",),
    event_time="event",
    known_time="known",
    tie_break=("tie",),
    deleted="deleted",
)


def view(**options: Any) -> FeatureView:
    columns = [number("value", nullable=True), category("word", nullable=True)]
    return FeatureView("held", entity=GROUP, source=ROWS, columns=columns, **options)


@st.composite
def histories(draw: Any) -> list[oracle.Row]:
    identity = st.tuples(st.sampled_from("ab"), st.integers(-6, 6), st.integers(-6, 6), st.integers(0, 1))
    return [
        {
            "key": key,
            "event": event,
            "known": known,
            "tie": tie,
            "deleted": draw(st.integers(0, 3)) == 0,
            "value": draw(st.none() | st.just(number_ + 0.1)),
        }
        for number_, (key, event, known, tie) in enumerate(draw(st.lists(identity, max_size=20, unique=True)))
    ]


def table(rows: list[oracle.Row]) -> pa.Table:
    return ROWS.conform(
        pa.table(
            {
                "key": pa.array([row["key"] for row in rows], pa.string()),
                "event": times([row["event"] * SECOND for row in rows]),
                "known": times([row["known"] * SECOND for row in rows]),
                "tie": pa.array([row["tie"] for row in rows], pa.int64()),
                "deleted": pa.array([row["deleted"] for row in rows], pa.bool_()),
                "value": pa.array([row["value"] for row in rows], pa.float64()),
                "word": pa.array([None if row["value"] is None else f"w{row['value']}" for row in rows], pa.string()),
            }
        )
    )


@given(histories(), st.sampled_from([None, 3]), st.sampled_from([None, 4]))
@settings(max_examples=60, deadline=None)
def test_the_store_gives_what_brute_force_gives(
    tmp_path_factory: pytest.TempPathFactory, rows: list[oracle.Row], refresh: int | None, ttl: int | None
) -> None:
    options = {name: f"{value}s" for name, value in (("refresh", refresh), ("ttl", ttl)) if value is not None}
    declared = view(**options)
    store = SqliteOnlineStore(tmp_path_factory.mktemp("online") / "features.sqlite")
    store.publish(declared, change_points(declared, table(rows), until=at(9 * SECOND)), until_us=9 * SECOND)
    asked = [(key, t) for key in ("a", "b", "unknown", None) for t in range(-8, 10)]
    keys = [key_bytes(declared, (key,)) for key, _ in asked]
    found = store.get(declared, keys, [t * SECOND for _, t in asked])
    store.close()
    for (key, t), got in zip(asked, found, strict=True):
        want = oracle.value_at(rows, key, t, refresh=refresh or 1, ttl=ttl)
        value = None if want is None else want["value"]
        assert got.values == (value, None if value is None else f"w{value}"), (key, t)
        assert got.event_us == (None if want is None else want["event"] * SECOND), (key, t)


def test_windows_answer_as_the_stored_table_does_ages_included(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    lake.append("sources/payments", payments())
    materialize(VIEW, lake=lake, sources=sources(lake), start=MARCH, end=JUNE)
    days = [
        (2011, month, day, hour)
        for month in (3, 4, 5)
        for day in (1, 2, 15, 31 if month != 4 else 30)
        for hour in (0, 13)
    ]
    asked = pa.table(
        {
            "purpose": ["car", "house", "nothing", None] * len(days),
            "t": times([micros(datetime(*day, tzinfo=UTC)) for day in days for _ in range(4)]),
        }
    )
    offline = point_in_time(asked, time="t", joins=[join_of(VIEW, stored_history(VIEW, lake, start=MARCH, end=JUNE))])
    store, until = SqliteOnlineStore(tmp_path / "features.sqlite"), datetime(2011, 5, 31, 23, tzinfo=UTC)
    store.publish(VIEW, change_points(VIEW, VIEW.history.conform(payments()), until=until), until_us=micros(until))
    t_us = asked.column("t").cast(pa.int64()).to_pylist()
    found = store.get(VIEW, [key_bytes(VIEW, (key,)) for key in asked.column("purpose").to_pylist()], t_us)
    names = [item.name for item in VIEW.features]
    assert [one.values for one in found] == list(zip(*(offline.column(n).to_pylist() for n in names), strict=True))
    event = offline.column(f"{VIEW.name}__event_time").cast(pa.int64()).to_pylist()
    assert [one.event_us for one in found] == event
    assert sum(one.event_us is not None for one in found) > 20


def test_nothing_known_after_the_end_is_published() -> None:
    rows = [{"key": "a", "event": 0, "known": 5, "tie": 0, "deleted": False, "value": 1.0}]
    assert change_points(view(), table(rows), until=at(4 * SECOND)).num_rows == 0
    assert change_points(view(), table(rows), until=at(5 * SECOND)).num_rows == 1


def test_an_empty_window_of_a_known_key_is_zero_and_of_no_key_nothing() -> None:
    source = Source(
        "x", columns={"id": "int64", "key": "string", "t": "timestamp"}, keys=("id",), event_time="t", known_time=same()
    )
    counted = FeatureView("c", entity=GROUP, source=source, aggregations=[count(over="1d")], refresh="1h")
    assert answer(counted, None, 0).values == (0.0,)
    assert answer(counted, None, 0, has_key=False).values == (None,)


def test_a_ttl_ends_at_the_microsecond() -> None:
    declared = view(ttl="4s")
    point = ChangePoint(0, 0, (1.0, "w"))
    assert answer(declared, point, 4 * SECOND - 1).values == (1.0, "w")
    assert answer(declared, point, 4 * SECOND) == answer(declared, None, 0)


def test_a_view_that_was_never_published_is_an_error_and_not_a_null(tmp_path: Path) -> None:
    store = SqliteOnlineStore(tmp_path / "features.sqlite")
    assert store.published_until_us(view()) is None
    with pytest.raises(NotFound, match="never published"):
        store.get(view(), [b"k"], [0])


def test_another_definition_of_the_view_stands_beside_it(tmp_path: Path) -> None:
    store = SqliteOnlineStore(tmp_path / "features.sqlite")
    rows = table([{"key": "a", "event": 0, "known": 0, "tie": 0, "deleted": False, "value": 1.0}])
    old, new = view(), view(ttl="4s")
    store.publish(old, change_points(old, rows, until=at(SECOND)), until_us=SECOND)
    with pytest.raises(NotFound):
        store.get(new, [key_bytes(new, ("a",))], [SECOND])
    assert store.get(old, [key_bytes(old, ("a",))], [SECOND])[0].values == (1.0, "w1.0")


def test_rows_without_a_column_of_the_source_are_refused() -> None:
    with pytest.raises(SchemaMismatch, match="value"):
        change_points(view(), table([]).drop_columns(["value"]), until=at(0))


def test_a_broken_file_is_said_and_the_next_publish_says_so_too(tmp_path: Path) -> None:
    path = tmp_path / "features.sqlite"
    path.write_bytes(b"no database at all" * 100)
    store = SqliteOnlineStore(path)
    with pytest.raises(StorageFailed, match="online"):
        store.published_until_us(view())
    with pytest.raises(StorageFailed):
        store.publish(view(), change_points(view(), table([]), until=at(0)), until_us=0)


def test_a_reader_sees_a_view_whole_while_it_is_replaced_and_a_killed_writer_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "features.sqlite"
    store, declared = SqliteOnlineStore(path), view()
    rows = table([{"key": "a", "event": 0, "known": 0, "tie": 0, "deleted": False, "value": 1.0}])
    store.publish(declared, change_points(declared, rows, until=at(SECOND)), until_us=SECOND)
    killed = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('begin immediate'); "
        "c.execute('delete from points'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", killed, str(path)], check=False).returncode == -9
    assert store.get(declared, [key_bytes(declared, ("a",))], [SECOND])[0].values == (1.0, "w1.0")
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("begin immediate")
        other.execute("delete from points")
        assert store.get(declared, [key_bytes(declared, ("a",))], [SECOND])[0].values == (1.0, "w1.0")
        other.execute("rollback")


def test_means_of_a_published_view_are_exact(tmp_path: Path) -> None:
    source = Source(
        "x",
        columns={"id": "int64", "key": "string", "t": "timestamp", "v": "float64"},
        keys=("id",),
        event_time="t",
        known_time=same(),
    )
    declared = FeatureView("m", entity=GROUP, source=source, aggregations=[mean("v", over="1d")], refresh="1s")
    rows = source.conform(pa.table({"id": [1, 2, 3], "key": ["a"] * 3, "t": times([0, 1, 2]), "v": [0.1, 0.2, 0.3]}))
    store = SqliteOnlineStore(tmp_path / "features.sqlite")
    store.publish(declared, change_points(declared, rows, until=at(SECOND)), until_us=SECOND)
    (found,) = store.get(declared, [key_bytes(declared, ("a",))], [SECOND])
    assert found.values == (0.20000000000000001,)
