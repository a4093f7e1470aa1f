from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ml_platform.core.durations import Duration
from ml_platform.core.errors import DataError, DeclarationError
from ml_platform.core.rows import micros
from ml_platform.features import Aggregation, Entity, FeatureView, Source, count, mean, sum_
from ml_platform.features.duckdb import Join, point_in_time
from ml_platform.features.tables import history_of
from ml_platform.features.windows import aggregate_changes
from tests.features import oracle
from tests.features.support import at, same, times

SECOND = 1_000_000
DAY = 86_400 * SECOND
FUNCTIONS = ("count", "sum", "mean", "min", "max", "last", "distinct")


def source(*, deletions: bool = True) -> Source:
    return Source(
        "events",
        columns={
            "id": "int64",
            "key": "string",
            "event": "timestamp",
            "known": "timestamp",
            "tie": "int64",
            "deleted": "bool",
            "value": "float64",
        },
        keys=("id",),
        event_time="event",
        known_time="known",
        tie_break=("tie",),
        deleted="deleted" if deletions else None,
    )


def view(*aggregations: Aggregation, refresh: str = "3s", rows: Source | None = None) -> FeatureView:
    return FeatureView(
        "history", entity=Entity("group", ("key",)), source=rows or source(), aggregations=aggregations, refresh=refresh
    )


def table(rows: list[oracle.Row], unit: int = SECOND) -> pa.Table:
    columns: dict[str, Any] = {
        "id": pa.array([row["fact"] for row in rows], pa.int64()),
        "key": pa.array([row["key"] for row in rows], pa.string()),
        "event": times([row["event"] * unit for row in rows]),
        "known": times([row["known"] * unit for row in rows]),
        "tie": pa.array([row["tie"] for row in rows], pa.int64()),
        "deleted": pa.array([row["deleted"] for row in rows], pa.bool_()),
        "value": pa.array([row["value"] for row in rows], pa.float64()),
    }
    return source().conform(pa.table(columns))


VALUES = st.none() | st.sampled_from([0.0, 1.0, 2.0, 0.1, 0.2, 0.3, -1e16, 1e16, 1e-300, 1.7e308])
INTEGERS = st.none() | st.integers(-3, 3).map(float)


@st.composite
def facts(draw: Any, values: Any) -> list[oracle.Row]:
    identity = st.tuples(st.integers(1, 4), st.integers(-12, 12), st.integers(-12, 12), st.integers(0, 1))
    rows = []
    for fact, event, known, tie in draw(st.lists(identity, max_size=18, unique=True)):
        rows.append(
            {
                "fact": fact,
                "key": draw(st.sampled_from(["a", "a", "b", None])),
                "event": event,
                "known": known,
                "tie": tie,
                "deleted": draw(st.integers(0, 5)) == 0,
                "value": draw(values),
            }
        )
    return rows


def expected(rows: list[oracle.Row], item: Aggregation, key: Any, t: int, refresh: int) -> float | None:
    over = item.window.microseconds // SECOND
    inside = oracle.window_at(rows, key, t, refresh=refresh, leaves=lambda event: event + over)
    function = "rows" if item.column is None else item.function
    try:
        return oracle.aggregate(function, [row["value"] for row in inside])
    except OverflowError:
        return None


@pytest.mark.parametrize("values", [VALUES, INTEGERS], ids=["doubles", "integers"])
def test_every_aggregation_gives_what_brute_force_gives(values: Any) -> None:
    aggregations = [Aggregation(name, over, "value") for name in FUNCTIONS for over in ("7s", "12s")] + [
        count(over="5s")
    ]
    declared = view(*aggregations)

    @given(facts(values))
    @settings(max_examples=100, deadline=None)
    def check(rows: list[oracle.Row]) -> None:
        stored = aggregate_changes(declared, table(rows), None, at(60 * SECOND))
        asked = [(key, t) for key in ("a", "b") for t in range(-16, 36, 1)]
        requests = pa.table({"key": [key for key, _ in asked], "t": times([t * SECOND for _, t in asked])})
        joined = point_in_time(requests, time="t", joins=[Join("h", history_of(declared, stored))])
        for item in aggregations:
            wanted = [expected(rows, item, key, t, 3) for key, t in asked]
            assert joined[item.feature].to_pylist() == wanted, item

    check()


def one(event: int, known: int | None = None, value: float | None = 1.0, **more: Any) -> oracle.Row:
    known = event if known is None else known
    return {
        "fact": event,
        "key": "a",
        "event": event,
        "known": known,
        "tie": 0,
        "deleted": False,
        "value": value,
    } | more


def changes(rows: list[oracle.Row], *aggregations: Aggregation, refresh: str = "3s") -> list[tuple[Any, ...]]:
    got = aggregate_changes(view(*aggregations, refresh=refresh), table(rows), None, at(1_000 * SECOND))
    return [(row["refreshed_at"].timestamp(), *[row[item.feature] for item in aggregations]) for row in got.to_pylist()]


def test_a_row_counts_from_the_refresh_at_or_after_it_until_the_one_at_or_after_its_age() -> None:
    assert changes([one(3)], count(over="6s")) == [(3, 1.0), (9, 0.0)]
    assert changes([one(4)], count(over="6s")) == [(6, 1.0), (12, 0.0)]
    assert changes([one(4, 7)], count(over="6s")) == [(9, 1.0), (12, 0.0)]
    assert changes([one(4, 10)], count(over="6s")) == []


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, 9, [(3, 1.0)]),
        (None, 10, [(3, 1.0), (9, 0.0)]),
        (3, 9, [(3, 1.0)]),
        (3, 10, [(3, 1.0), (9, 0.0)]),
        (0, 3, []),
        (4, 6, []),
        (4, 7, [(6, 1.0)]),
        (9, 10, [(9, 0.0)]),
        (10, 20, []),
    ],
)
def test_a_cut_is_half_open_and_says_each_instant_once(start: int | None, end: int, expected: Any) -> None:
    begin = None if start is None else at(start * SECOND)
    got = aggregate_changes(view(count(over="6s")), table([one(3)]), begin, at(end * SECOND))
    assert [(row["refreshed_at"].timestamp(), row["count_6s"]) for row in got.to_pylist()] == expected


def test_a_correction_replaces_and_a_deletion_removes() -> None:
    rows = [one(3, value=1.0), one(3, 8, 5.0), one(3, 11, 9.0, deleted=True)]
    assert changes(rows, sum_("value", over="30s")) == [(3, 1.0), (9, 5.0), (12, None)]


def test_a_correction_that_changes_nothing_is_no_change() -> None:
    assert changes([one(3), one(3, 8)], sum_("value", over="30s")) == [(3, 1.0), (33, None)]


def test_sums_are_exact_in_any_order_of_rows() -> None:
    rows = [one(number, value=value) for number, value in enumerate([1e16, 1.0, -1e16, 0.1, 0.2, 0.3], start=1)]
    for order in ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [2, 5, 0, 3, 1, 4]):
        got = changes([rows[i] for i in order], sum_("value", over="60s"), mean("value", over="60s"), refresh="10s")
        assert got[0] == (10, 1.6, 1.6 / 6)


def test_a_window_of_calendar_months_ends_with_the_month() -> None:
    declared = view(count(over="1mo"), refresh="1d")
    january_31 = micros(at(0).replace(year=2011, month=1, day=31)) // DAY
    got = aggregate_changes(declared, table([one(january_31)], DAY), None, at(0).replace(year=2012))
    assert [row["refreshed_at"].strftime("%m-%d") for row in got.to_pylist()] == ["01-31", "02-28"]
    assert Duration.parse("1mo").after(at(january_31 * DAY)).strftime("%m-%d") == "02-28"


@given(facts(VALUES), st.integers(-20, 20), st.integers(1, 20))
@example([one(3), one(4)], 3, 3)
@example([one(3)], 9, 3)
@settings(max_examples=100, deadline=None)
def test_every_cut_stands_on_its_own_and_continues_the_one_before(rows: Any, start: int, length: int) -> None:
    declared = view(count(over="7s"), sum_("value", over="12s"))
    bounds = [start, start + length, start + 2 * length]
    whole = aggregate_changes(declared, table(rows), None, at(100 * SECOND))
    cuts = [
        aggregate_changes(declared, table(rows), at(a * SECOND), at(b * SECOND)) for a, b in itertools.pairwise(bounds)
    ]
    for low, high, stored in [
        (bounds[0], bounds[1], cuts[0]),
        (bounds[1], bounds[2], cuts[1]),
        (bounds[0], bounds[2], pa.concat_tables(cuts)),
    ]:
        # From the first refresh on: before it, an older part answers.
        asked = [(key, t) for key in ("a", "b") for t in range(-(-low // 3) * 3, high)]
        requests = pa.table(
            {
                "key": pa.array([key for key, _ in asked], pa.string()),
                "t": times([t * SECOND for _, t in asked]),
            }
        )
        got, want = (
            point_in_time(requests, time="t", joins=[Join("h", history_of(declared, part))]) for part in (stored, whole)
        )
        features = [item.feature for item in declared.aggregations]
        assert got.select(features).equals(want.select(features))


def test_rows_that_become_known_later_change_no_earlier_value() -> None:
    declared = view(sum_("value", over="60s"))
    early, late = [one(1), one(5, value=3.0)], [one(2, 20, 7.0), one(5, 21, 9.0)]
    first, second = (aggregate_changes(declared, table(rows), None, at(20 * SECOND)) for rows in (early, early + late))
    assert first.num_rows == 2
    assert first.equals(second)


def test_the_order_of_rows_means_nothing() -> None:
    generator = np.random.default_rng(5)
    rows = [
        one(int(event), int(event + late), float(value), fact=number)
        for number, (event, late, value) in enumerate(
            zip(generator.integers(0, 80, 200), generator.integers(0, 9, 200), generator.normal(size=200), strict=True)
        )
    ]
    declared = view(*(Aggregation(name, "20s", "value") for name in FUNCTIONS))
    first = aggregate_changes(declared, table(rows), None, at(300 * SECOND))
    again = aggregate_changes(declared, table([rows[i] for i in generator.permutation(200)]), None, at(300 * SECOND))
    assert first.equals(again)
    assert first.num_rows > 30


def test_an_integer_that_a_double_cannot_hold_is_refused() -> None:
    rows = Source(
        "amounts",
        columns={"key": "string", "event": "timestamp", "n": "int64"},
        keys=("key",),
        event_time="event",
        known_time=same(),
    )
    data = rows.conform(pa.table({"key": ["a"], "event": times([0]), "n": [2**53 + 1]}))
    with pytest.raises(DataError) as caught:
        aggregate_changes(view(sum_("n", over="6s"), rows=rows), data, None, at(9 * SECOND))
    assert caught.value.field == "n"


def test_a_view_of_columns_has_no_windows() -> None:
    from ml_platform.core.fields import number

    rows = Source(
        "amounts",
        columns={"key": "string", "event": "timestamp", "n": "float64"},
        keys=("key",),
        event_time="event",
        known_time=same(),
    )
    declared = FeatureView("plain", entity=Entity("group", ("key",)), source=rows, columns=[number("n")])
    with pytest.raises(DeclarationError):
        aggregate_changes(declared, pa.table({}), None, at(0))
