from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core.errors import DataError, DeclarationError, SchemaMismatch
from ml_platform.features import Source
from ml_platform.features.duckdb import History, Join, evaluate_source, point_in_time
from tests.features import oracle
from tests.features.support import applications, outcomes, same, times

KEYS = st.sampled_from(["a", "b", "c"])
TIMES = st.integers(-6, 6)  # few, so that times meet


@st.composite
def bitemporal(draw: Any, *, on_time: bool = False, ties: bool = False, deletions: bool = True) -> list[oracle.Row]:
    """Late facts, corrections, retractions; each (key, event, known, tie) once, some delivered twice."""
    identity = st.tuples(KEYS, TIMES, TIMES, st.integers(0, 2))
    rows = []
    for number, (key, event, known, tie) in enumerate(draw(st.lists(identity, max_size=25, unique=True))):
        rows.append(
            {
                "key": key,
                "event": event,
                "known": event if on_time else known,
                "tie": tie if ties else 0,
                "deleted": deletions and draw(st.integers(0, 3)) == 0,
                "value": draw(st.none() | st.just(float(number))),
            }
        )
    unique = {(row["key"], *oracle.rank(row)[:3]): row for row in rows}
    again = draw(st.lists(st.sampled_from(list(unique.values())), max_size=3)) if unique else []
    return [*unique.values(), *again]


def table(rows: list[oracle.Row]) -> pa.Table:
    return pa.table(
        {
            "key": pa.array([row["key"] for row in rows], pa.string()),
            "event": times([row["event"] for row in rows]),
            "known": times([row["known"] for row in rows]),
            "tie": pa.array([row["tie"] for row in rows], pa.int64()),
            "deleted": pa.array([row["deleted"] for row in rows], pa.bool_()),
            "value": pa.array([row["value"] for row in rows], pa.float64()),
        }
    )


REQUESTS = st.lists(st.tuples(st.none() | st.sampled_from(["a", "b", "c", "unknown"]), TIMES), max_size=20)


def check(rows: list[oracle.Row], requests: list[tuple[str | None, int]], *, threads: int = 1, **options: Any) -> None:
    history = History(table(rows), ("key",), "event", options.pop("known", "known"), ("value",), **options)
    asked = pa.table({"key": pa.array([key for key, _ in requests], pa.string()), "t": times([t for _, t in requests])})
    joined = point_in_time(asked, time="t", joins=[Join("view", history)], threads=threads)
    assert joined.select(["key", "t"]) == asked
    expected = [
        oracle.value_at(rows, key, t, refresh=options.get("refresh_us") or 1, ttl=options.get("ttl_us"))
        for key, t in requests
    ]
    assert joined["value"].to_pylist() == [row and row["value"] for row in expected]
    for column, name in (("view__event_time", "event"), ("view__known_time", "known")):
        got = joined[column].cast(pa.int64()).to_pylist()
        assert got == [row[name] if row else None for row in expected]


@given(bitemporal(), REQUESTS)
@settings(max_examples=120, deadline=None)
def test_a_bitemporal_join_gives_what_brute_force_gives(rows: Any, requests: Any) -> None:
    check(rows, requests, deleted="deleted")


@given(bitemporal(ties=True), REQUESTS)
@settings(max_examples=100, deadline=None)
def test_ties_are_broken_as_declared(rows: Any, requests: Any) -> None:
    check(rows, requests, deleted="deleted", tie_break=("tie",))


@given(bitemporal(deletions=False), REQUESTS)
@settings(max_examples=120, deadline=None)
def test_corrections_without_retractions_take_the_same_values(rows: Any, requests: Any) -> None:
    check(rows, requests)


@given(bitemporal(ties=True, deletions=False), REQUESTS)
@settings(max_examples=80, deadline=None)
def test_ties_without_retractions_are_broken_as_declared(rows: Any, requests: Any) -> None:
    check(rows, requests, tie_break=("tie",))


@given(bitemporal(on_time=True, deletions=False), REQUESTS)
@settings(max_examples=80, deadline=None)
def test_rows_known_when_they_happen_take_the_short_way_to_the_same_values(rows: Any, requests: Any) -> None:
    check(rows, requests, known="event")


@given(bitemporal(), REQUESTS, st.integers(1, 5), st.integers(1, 9))
@settings(max_examples=120, deadline=None)
def test_refresh_and_ttl_give_what_online_would_have_had(rows: Any, requests: Any, refresh: int, ttl: int) -> None:
    check(rows, requests, deleted="deleted", refresh_us=refresh, ttl_us=ttl)


ROW = {"key": "a", "tie": 0, "deleted": False}


@pytest.mark.parametrize(
    ("t", "value"),
    [(9, None), (10, 1.0), (11, 1.0), (19, 1.0), (20, 2.0), (29, 2.0), (30, None), (31, None), (40, 4.0)],
)
def test_a_value_is_used_from_the_moment_it_is_known_until_it_is_corrected_or_withdrawn(t: int, value: Any) -> None:
    rows = [
        {**ROW, "event": 5, "known": 10, "value": 1.0},
        {**ROW, "event": 5, "known": 20, "value": 2.0},
        {**ROW, "event": 5, "known": 30, "value": 3.0, "deleted": True},
        {**ROW, "event": 40, "known": 35, "value": 4.0},
    ]
    history = History(table(rows), ("key",), "event", "known", ("value",), deleted="deleted")
    got = point_in_time(pa.table({"key": ["a"], "t": times([t])}), time="t", joins=[Join("v", history)])
    assert got["value"].to_pylist() == [value]


def test_a_fact_announced_before_it_happens_is_corrected_when_it_happens_and_after() -> None:
    rows = [{**ROW, "event": 10, "known": known, "value": float(known)} for known in (5, 10, 12)]
    check(rows, [("a", t) for t in range(4, 14)])
    assert oracle.value_at(rows, "a", 11) == rows[1]
    check(rows[:2], [("a", 10), ("a", 12)])


def test_a_late_fact_that_is_older_changes_nothing() -> None:
    rows = [{**ROW, "event": 8, "known": 8, "value": 1.0}, {**ROW, "event": 5, "known": 10, "value": 2.0}]
    check(rows, [("a", t) for t in range(4, 14)])


def test_a_value_ends_exactly_at_its_ttl() -> None:
    rows = [{**ROW, "event": 5, "known": 5, "value": 1.0}]
    history = History(table(rows), ("key",), "event", "known", ("value",), ttl_us=10)
    asked = pa.table({"key": ["a", "a"], "t": times([14, 15])})
    got = point_in_time(asked, time="t", joins=[Join("v", history)])
    assert got["value"].to_pylist() == [1.0, None]
    assert got["v__event_time"].is_null().to_pylist() == [False, True]


def large(seed: int, size: int) -> pa.Table:
    generator = np.random.default_rng(seed)
    event = generator.integers(0, 10_000, size)
    rows = pa.table(
        {
            "key": generator.integers(0, 400, size),
            "event": times(event),
            "known": times(event + (generator.random(size) < 0.3) * generator.integers(0, 500, size)),
            "deleted": generator.random(size) < 0.02,
            "value": generator.normal(size=size),
        }
    )
    first = (
        rows.append_column("n", pa.array(np.arange(size))).group_by(["key", "event", "known"]).aggregate([("n", "min")])
    )
    return rows.take(first["n_min"])


@pytest.mark.parametrize("deleted", [None, "deleted"])
def test_twenty_runs_on_one_and_two_threads_are_equal(deleted: str | None) -> None:
    history = History(large(1, 20_000), ("key",), "event", "known", ("value",), deleted=deleted, ttl_us=4_000)
    generator = np.random.default_rng(2)
    asked = pa.table({"key": generator.integers(0, 420, 5_000), "t": times(generator.integers(0, 11_000, 5_000))})
    runs = [
        point_in_time(asked, time="t", joins=[Join("v", history)], threads=threads)
        for threads in (1, 2)
        for _ in range(10)
    ]
    assert all(run.equals(runs[0]) for run in runs[1:])
    assert runs[0]["value"].null_count < 5_000


def test_rows_keep_their_order_and_equal_rows_get_equal_values() -> None:
    rows = [{**ROW, "event": 5, "known": 5, "value": 1.0}]
    asked = pa.table({"t": times([9, 1, 9]), "who": ["a", "a", "a"], "n": [3, 1, 2]})
    join = Join("v", History(table(rows), ("key",), "event", "known", ("value",)), on=("who",), names={"value": "x"})
    got = point_in_time(asked, time="t", joins=[join], threads=2)
    assert got.column_names == ["t", "who", "n", "x", "v__event_time", "v__known_time"]
    assert got["n"].to_pylist() == [3, 1, 2]
    assert got["x"].to_pylist() == [1.0, None, 1.0]


def test_keys_of_several_columns_match_together_and_null_keys_never() -> None:
    data = pa.table(
        {"a": pa.array([1, 1, None], pa.int64()), "b": ["x", "y", "x"], "e": times([0, 0, 0]), "v": ["p", "q", "r"]}
    )
    asked = pa.table({"a": pa.array([1, 1, None, 1], pa.int64()), "b": ["x", "y", "x", None], "t": times([1] * 4)})
    history = History(data, ("a", "b"), "e", "e", ("v",), when_empty={})
    assert point_in_time(asked, time="t", joins=[Join("w", history)])["v"].to_pylist() == ["p", "q", None, None]


def test_an_empty_window_has_its_value_but_not_for_a_null_key() -> None:
    data = pa.table({"k": pa.array([1]), "e": times([5]), "n": [3.0]})
    asked = pa.table({"k": pa.array([1, 1, 2, None], pa.int64()), "t": times([5, 4, 9, 9])})
    history = History(data, ("k",), "e", "e", ("n",), when_empty={"n": 0.0})
    assert point_in_time(asked, time="t", joins=[Join("w", history)])["n"].to_pylist() == [3.0, 0.0, 0.0, None]


def test_a_dataset_on_disk_and_dictionaries_give_what_a_table_gives(tmp_path: Any) -> None:
    rows = large(3, 3_000)
    pq.write_table(rows, tmp_path / "rows.parquet")
    asked = pa.table({"key": np.arange(400), "t": times(list(range(5_000, 5_400)))})
    histories = [
        History(data, ("key",), "event", "known", ("value",)) for data in (rows, ds.dataset(tmp_path / "rows.parquet"))
    ]
    first, second = (point_in_time(asked, time="t", joins=[Join("v", history)]) for history in histories)
    assert first.equals(second)
    texts = table([{**ROW, "event": 5, "known": 5, "value": 1.0}])
    encoded = texts.set_column(0, "key", texts["key"].dictionary_encode())
    asked = pa.table({"key": pa.array(["a", "b"]).dictionary_encode(), "t": times([9, 9])})
    history = History(encoded, ("key",), "event", "known", ("value",))
    assert point_in_time(asked, time="t", joins=[Join("v", history)])["value"].to_pylist() == [1.0, None]


@pytest.mark.parametrize("deleted", [None, "deleted"])
def test_many_values_of_a_table_are_those_of_a_dataset(deleted: str | None, tmp_path: Any) -> None:
    rows, names = large(4, 3_000).slice(0, 2_990), [f"v{number}" for number in range(6)]
    for number, name in enumerate(names[:-1]):
        values = pa.array(np.arange(2_990) * 1.5 + number, mask=np.arange(2_990) % 7 == number)
        rows = rows.append_column(name, values)
    rows = rows.append_column("v5", pa.array([None if n % 5 == 0 else f"t{n}" for n in range(2_990)]))
    pq.write_table(rows, tmp_path / "rows.parquet")
    tables = (
        rows.append_column("row", rows["v0"]),
        rows.set_column(rows.num_columns - 1, "v5", rows["v5"].dictionary_encode()),
    )
    asked = pa.table(
        {
            "key": pa.array([*range(420), None], pa.int64()),
            "t": times(list(np.random.default_rng(6).integers(0, 11_000, 421))),
        }
    )

    def joined(data: Any) -> pa.Table:
        history = History(
            data,
            ("key",),
            "event",
            "known",
            tuple(names),
            deleted=deleted,
            ttl_us=2_000,
            refresh_us=7,
            when_empty={"v1": 0.5},
        )
        return point_in_time(asked, time="t", joins=[Join("v", history, names={"v0": "first"})])

    wanted = joined(ds.dataset(tmp_path / "rows.parquet"))
    assert 0 < wanted["first"].null_count < 421
    assert wanted["v1"].to_pylist()[-1] is None
    assert wanted["v1"].null_count == 1
    for data in tables:
        assert joined(data).equals(wanted)


def test_two_views_are_joined_to_the_same_rows() -> None:
    data = pa.table({"k": [1], "e": times([5]), "x": [1.0], "y": ["text"]})
    joins = [Join("p", History(data, ("k",), "e", "e", ("x",))), Join("q", History(data, ("k",), "e", "e", ("y",)))]
    got = point_in_time(pa.table({"k": [1], "t": times([6])}), time="t", joins=joins)
    assert got.select(["x", "y"]).to_pylist() == [{"x": 1.0, "y": "text"}]


def test_no_rows_and_no_history_are_no_error() -> None:
    nothing = table([])
    history = History(nothing, ("key",), "event", "known", ("value",), deleted="deleted")
    asked = pa.table({"key": ["a"], "t": times([1])})
    assert point_in_time(asked, time="t", joins=[Join("v", history)])["value"].to_pylist() == [None]
    assert point_in_time(asked.slice(0, 0), time="t", joins=[Join("v", history)]).num_rows == 0


@pytest.mark.parametrize(
    ("asked", "error", "field"),
    [
        ({"k": [1], "t": pa.array([0], pa.timestamp("us"))}, SchemaMismatch, "t"),
        ({"k": [1]}, SchemaMismatch, "t"),
        ({"t": times([0])}, SchemaMismatch, "k"),
        ({"k": ["1"], "t": times([0])}, SchemaMismatch, "k"),
        ({"k": [1], "t": pa.array([None], pa.timestamp("us", "UTC"))}, DataError, "t"),
        ({"k": [1], "t": times([0]), "x": [1]}, DeclarationError, "x"),
    ],
)
def test_unusable_rows_are_refused_by_name(asked: Any, error: type[Exception], field: str) -> None:
    data = pa.table({"k": [1], "e": times([5]), "x": [1.0]})
    with pytest.raises(error) as caught:
        point_in_time(pa.table(asked), time="t", joins=[Join("p", History(data, ("k",), "e", "e", ("x",)))])
    assert caught.value.field == field


def test_a_history_without_a_declared_column_is_refused() -> None:
    data = pa.table({"k": [1], "e": times([5]), "x": [1.0]})
    with pytest.raises(SchemaMismatch, match="missing"):
        point_in_time(
            pa.table({"k": [1], "t": times([0])}), time="t", joins=[Join("p", History(data, ("k",), "e", "e", ("y",)))]
        )


def defaults() -> Source:
    return Source(
        "loan.outcome",
        columns={"loan_id": "int64", "purpose": "string", "defaulted": "float64", "at": "timestamp"},
        keys=("loan_id",),
        event_time="at",
        known_time=same(),
        sql="""select a.loan_id, purpose, o.known_at as "at", cast(defaulted as double) as defaulted
               from applications a join outcomes o using (loan_id)""",
        inputs=(applications(), outcomes()),
    )


def inputs() -> dict[str, pa.Table]:
    loans = pa.table(
        {
            "loan_id": [1, 2],
            "applied_at": times([1, 2]),
            "amount": [1.0, 2.0],
            "installment": [1.0, 2.0],
            "annual_inc": [1.0, None],
            "term": ["36", "60"],
            "purpose": ["car", "boat"],
        }
    )
    ends = pa.table({"loan_id": [2, 1], "happened_at": times([5, 6]), "known_at": times([7, 8]), "defaulted": [1, 0]})
    return {"applications": loans, "outcomes": ends}


def test_the_rows_of_a_sql_source_come_typed_and_sorted_whatever_the_order_of_its_inputs() -> None:
    tables = inputs()
    got = evaluate_source(defaults(), tables)
    turned = {name: rows.take(pa.array([1, 0])) for name, rows in tables.items()}
    assert got.schema == defaults().arrow_schema()
    assert got.to_pydict()["defaulted"] == [0.0, 1.0]
    assert evaluate_source(defaults(), turned).equals(got)


def test_sql_that_fails_on_a_row_does_not_tell_the_row() -> None:
    source = Source(
        "bad",
        columns={"loan_id": "int64", "n": "int64", "applied_at": "timestamp"},
        keys=("loan_id",),
        event_time="applied_at",
        known_time=same(),
        sql="select loan_id, cast(purpose as bigint) as n, applied_at from applications",
        inputs=(applications(),),
    )
    with pytest.raises(DataError) as caught:
        evaluate_source(source, inputs())
    assert "boat" not in str(caught.value)
    assert "car" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_missing_input_of_a_sql_source_is_named() -> None:
    with pytest.raises(DeclarationError) as caught:
        evaluate_source(defaults(), {"applications": inputs()["applications"]})
    assert caught.value.field == "outcomes"
