from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from ml_platform.core.digests import canonical_json, parse_canonical
from ml_platform.core.errors import DataError, DeclarationError
from ml_platform.features import (
    Aggregation,
    Entity,
    FeatureView,
    Source,
    approx_distinct,
    count,
    first,
    mean,
    pivot,
    quantile,
    stddev,
    sum_,
)
from ml_platform.features.definitions import rebuild
from ml_platform.features.duckdb import Join, point_in_time
from ml_platform.features.tables import history_of
from ml_platform.features.views import EXACT
from ml_platform.features.windows import aggregate_changes
from tests.features.support import at, same, times

PAYMENTS = Source(
    "payments",
    columns={"payer": "string", "paid_at": "timestamp", "amount": "float64", "channel": "string", "late": "bool"},
    keys=("payer", "paid_at"),
    event_time="paid_at",
    known_time=same(),
)


def view(*aggregations: Aggregation, **changes: Any) -> FeatureView:
    declared: dict[str, Any] = {"entity": Entity("payer", ("payer",)), "source": PAYMENTS, "refresh": "1d"}
    return FeatureView("paid", aggregations=aggregations, **(declared | changes))


def payments(*rows: tuple[str, int, float | None, str | None]) -> pa.Table:
    return PAYMENTS.conform(
        pa.table(
            {
                "payer": [row[0] for row in rows],
                "paid_at": times([row[1] * 1_000_000 for row in rows]),
                "amount": pa.array([row[2] for row in rows], pa.float64()),
                "channel": pa.array([row[3] for row in rows], pa.string()),
                "late": pa.array([None] * len(rows), pa.bool_()),
            }
        )
    )


def values(declared: FeatureView, rows: pa.Table, t: float) -> dict[str, Any]:
    stored = aggregate_changes(declared, rows, None, at(10**15))
    asked = pa.table({"payer": ["a"], "t": times([int(t * 1_000_000)])})
    found = point_in_time(asked, time="t", joins=[Join("h", history_of(declared, stored))]).to_pylist()[0]
    return {item.feature: found[item.feature] for item in declared.aggregations}


def test_the_names_say_what_is_computed() -> None:
    made = [
        first("amount", over="30d"),
        stddev("amount", over="30d"),
        approx_distinct("channel", over="36mo"),
        quantile("amount", 0.5, over="15m"),
        quantile("amount", 0.999, over="1d"),
    ]
    assert [item.feature for item in made] == [
        "amount_first_30d",
        "amount_stddev_30d",
        "channel_approx_distinct_36mo",
        "amount_p50_15m",
        "amount_p99_9_1d",
    ]
    assert [item.field().nullable for item in made] == [True, True, False, True, True]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("sum", "1d", "amount", None, "amount > 1"), "name"),
        (("quantile", "1d", "amount"), "q"),
        (("quantile", "1d", "amount", None, None, 1.5), "q"),
        (("quantile", "1d", "amount", None, None, -0.1), "q"),
        (("sum", "1d", "amount", None, None, 0.5), "q"),
        (("approx_distinct", "1d"), "column"),
        (("median", "1d", "amount"), "function"),
    ],
)
def test_an_aggregation_names_what_is_wrong(arguments: Any, field: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        Aggregation(*arguments)
    assert caught.value.field == field


@pytest.mark.parametrize("where", ["amount + 1", "nobody = 1", "paid_at > 3", "channel > 'a'", "amount >"])
def test_a_condition_is_one_over_numbers_texts_and_truth_values_of_the_source(where: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        view(count(over="1d", name="some", where=where))
    assert caught.value.field == "some"


def test_a_condition_counts_the_rows_of_which_it_is_certainly_true() -> None:
    rows = payments(("a", 1, 5.0, "web"), ("a", 2, 7.0, None), ("a", 3, None, "web"), ("a", 4, 9.0, "shop"))
    declared = view(
        count(over="1d", name="web", where="channel = 'web'"),
        count(over="1d", name="not_web", where="not channel = 'web'"),
        sum_("amount", over="1d", name="large", where="amount >= 7 or channel = 'web'"),
        count(over="1d", name="late", where="late"),
        refresh="1m",
    )
    assert values(declared, rows, 60) == {"web": 2.0, "not_web": 1.0, "large": 21.0, "late": 0.0}


def test_pivot_makes_one_feature_for_each_declared_value() -> None:
    rows = payments(("a", 1, 5.0, "web"), ("a", 2, 7.0, "It's"), ("a", 3, 2.0, "web"))
    made = pivot("channel", ("web", "It's"), sum_("amount", over="1d"), count(over="1d", name="n", where="amount > 2"))
    assert values(view(*made, refresh="1m"), rows, 60) == {
        "amount_sum_1d_web": 7.0,
        "amount_sum_1d_it_s": 7.0,
        "n_web": 1.0,
        "n_it_s": 1.0,
    }
    late = view(*pivot("late", (True, False), count(over="1d")), refresh="1m")
    assert values(late, rows, 60) == {"count_1d_true": 0.0, "count_1d_false": 0.0}
    for wrong in ("web", ()):
        with pytest.raises(DeclarationError) as caught:
            pivot("channel", wrong, count(over="1d"))
        assert caught.value.field == "values"


def test_exactly_at_the_request_and_as_of_the_last_refresh_differ() -> None:
    rows = payments(("a", 10, 5.0, None), ("a", 70, 7.0, None))
    minutely, exact = (view(count(over="2m"), refresh=refresh) for refresh in ("1m", EXACT))
    asked = (9.999999, 10, 59, 60, 70, 119, 120, 129.999999, 130, 190)
    assert [values(minutely, rows, t)["count_2m"] for t in asked] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 1]
    assert [values(exact, rows, t)["count_2m"] for t in asked] == [0, 1, 1, 1, 2, 2, 2, 2, 1, 0]
    assert exact.refresh_us is None
    assert exact != minutely


def test_new_definitions_are_rebuilt_from_their_canonical_form() -> None:
    made = view(
        quantile("amount", 0.95, over="30d"),
        approx_distinct("channel", over="12mo"),
        stddev("amount", over="1d", name="spread", where="channel = 'web' and not late"),
        refresh=EXACT,
    )
    again = rebuild(parse_canonical(canonical_json(made.spec())))
    assert again == made
    assert isinstance(again, FeatureView)
    assert [item.where for item in again.aggregations] == [item.where for item in made.aggregations]
    assert [item.q for item in again.aggregations] == [item.q for item in made.aggregations]
    assert again.lineage() == made.lineage()
    assert made.lineage()["spread"] == [("payments", "amount"), ("payments", "channel"), ("payments", "late")]


def test_what_is_not_used_is_not_in_the_canonical_form() -> None:
    plain = view(mean("amount", over="1d")).spec()["aggregations"]["amount_mean_1d"]
    assert plain == {
        "function": "mean",
        "column": "amount",
        "over": {"months": 0, "microseconds": 86_400_000_000},
    }


def test_conditions_that_mean_the_same_tree_are_one_definition() -> None:
    one, two = (view(count(over="1d", name="n", where=text)) for text in ("amount>1.0", "(amount > 1)"))
    assert one == two
    assert one != view(count(over="1d", name="n", where="amount > 2"))
    assert one != view(count(over="1d", name="n"))


def test_a_definition_with_another_sketch_is_refused() -> None:
    spec = view(approx_distinct("channel", over="1d")).spec()
    spec["aggregations"]["channel_approx_distinct_1d"]["sketch"]["lg_k"] = 14
    with pytest.raises(DeclarationError) as caught:
        rebuild(spec)
    assert caught.value.field == "channel_approx_distinct_1d"


def test_a_condition_on_an_integer_beyond_what_a_double_holds_is_refused() -> None:
    source = Source(
        "amounts",
        columns={"payer": "string", "at": "timestamp", "n": "int64"},
        keys=("payer",),
        event_time="at",
        known_time=same(),
    )
    data = source.conform(pa.table({"payer": ["a"], "at": times([0]), "n": [2**53 + 1]}))
    declared = view(count(over="1d", name="some", where="n > 1"), source=source)
    with pytest.raises(DataError) as caught:
        aggregate_changes(declared, data, None, at(10))
    assert caught.value.field == "n"


def test_equal_digests_of_sources_with_keys_in_another_order_give_equal_values() -> None:
    columns = {"b": "int64", "a": "int64", "payer": "string", "at": "timestamp", "n": "float64"}
    tables = []
    for keys in (("a", "b"), ("b", "a")):
        source = Source("ties", columns=columns, keys=keys, event_time="at", known_time=same())
        rows = pa.table({"b": [2, 1], "a": [1, 2], "payer": ["a", "a"], "at": times([1_000_000] * 2), "n": [1.0, 2.0]})
        declared = view(Aggregation("last", "1d", "n"), source=source, refresh=EXACT)
        tables.append((declared.digest, values(declared, source.conform(rows), 2)))
    assert tables[0] == tables[1]
    assert tables[0][1] == {"n_last_1d": 2.0}
