from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core.digests import canonical_json, parse_canonical
from ml_platform.core.errors import DeclarationError
from ml_platform.core.fields import category, number
from ml_platform.features import (
    Aggregation,
    Entity,
    FeatureView,
    RequestView,
    Source,
    count,
    distinct,
    last,
    max_,
    mean,
    min_,
    sum_,
)
from ml_platform.features.definitions import rebuild
from tests.features.support import applications, outcomes, same

LOAN = Entity("loan", keys=("loan_id",), personal=True)
PURPOSE = Entity("purpose", keys=("purpose",))
COLUMNS = [number("amount"), number("installment"), number("annual_inc", nullable=True), category("term")]


def request(**changes: Any) -> RequestView:
    declared: dict[str, Any] = {
        "entity": LOAN,
        "source": applications(),
        "time": "applied_at",
        "columns": COLUMNS,
        "derived": {"payment_to_income": "installment * 12 / annual_inc"},
    }
    return RequestView("application", **(declared | changes))


def windowed(**changes: Any) -> FeatureView:
    declared: dict[str, Any] = {
        "entity": PURPOSE,
        "source": applications(),
        "aggregations": [mean("amount", over="720d"), count(over="30d")],
        "refresh": "1d",
    }
    return FeatureView("purpose_history", **(declared | changes))


def by_sql(**changes: Any) -> FeatureView:
    declared: dict[str, Any] = {
        "entity": LOAN,
        "sql": "select loan_id, happened_at, known_at, cast(defaulted as double) as bad from outcomes",
        "inputs": (outcomes(),),
        "columns": [number("bad")],
        "event_time": "happened_at",
        "known_time": "known_at",
    }
    return FeatureView("outcome", **(declared | changes))


def test_an_entity_has_keys_in_order() -> None:
    assert Entity("pair", ("b", "a")).keys == ("b", "a")
    assert Entity("pair", ("b", "a")) != Entity("pair", ("a", "b"))
    assert Entity("loan", keys=("loan_id",)) != LOAN
    for keys in ((), "loan_id", ("a", "a"), ("A",)):
        with pytest.raises(DeclarationError) as caught:
            Entity("loan", keys)  # type: ignore[arg-type]
        assert caught.value.field == "keys"
    with pytest.raises(DeclarationError):
        Entity("Loan", ("loan_id",))


def test_a_request_view_has_its_columns_and_derived_features_by_name() -> None:
    view = request()
    assert [field.name for field in view.features] == [
        "amount",
        "annual_inc",
        "installment",
        "term",
        "payment_to_income",
    ]
    assert view.features[-1].nullable
    assert view.reference == f"application@{view.digest}"
    got = view.expressions["payment_to_income"].evaluate(
        {"installment": np.array([10.0, 1.0]), "annual_inc": np.array([60.0, np.nan])}
    )
    assert got[0] == 2.0
    assert np.isnan(got[1])


def test_a_derived_feature_is_traced_to_the_columns_of_the_source() -> None:
    assert request().lineage()["payment_to_income"] == [("applications", "annual_inc"), ("applications", "installment")]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"time": "amount"}, "time"),
        ({"entity": Entity("user", ("user_id",))}, "entity"),
        ({"columns": [number("age")], "derived": {}}, "age"),
        ({"columns": [number("term")], "derived": {}}, "term"),
        ({"columns": [category("amount")], "derived": {}}, "amount"),
        ({"columns": [number("amount"), number("amount")], "derived": {}}, "columns"),
        ({"derived": {"amount": "installment * 2"}}, "columns"),
        ({"derived": {"loan_id": "installment * 2"}}, "loan_id"),
        ({"derived": {"ratio": "income * 2"}}, "ratio"),
        ({"derived": {"Ratio": "installment * 2"}}, "derived"),
        ({"columns": [], "derived": {}}, "columns"),
    ],
)
def test_a_request_view_names_what_is_wrong(changes: Any, field: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        request(**changes)
    assert caught.value.field == field


def test_aggregations_are_named_by_column_function_and_window() -> None:
    made = [count(over="30d"), count("amount", over="1d"), sum_("amount", over="12mo"), mean("amount", over="1d")]
    made += [
        min_("amount", over="1d"),
        max_("amount", over="1d"),
        last("amount", over="1d"),
        distinct("term", over="1d"),
    ]
    made += [mean("amount", over="1d", name="typical")]
    assert [aggregation.feature for aggregation in made] == [
        "count_30d",
        "amount_count_1d",
        "amount_sum_12mo",
        "amount_mean_1d",
        "amount_min_1d",
        "amount_max_1d",
        "amount_last_1d",
        "term_distinct_1d",
        "typical",
    ]
    assert [aggregation.field().nullable for aggregation in made] == [False, False, *[True] * 5, False, True]
    view = windowed(aggregations=made)
    assert [(field.name, field.nullable) for field in view.features] == [
        ("amount_count_1d", False),
        ("amount_last_1d", True),
        ("amount_max_1d", True),
        ("amount_mean_1d", True),
        ("amount_min_1d", True),
        ("amount_sum_12mo", True),
        ("count_30d", False),
        ("term_distinct_1d", False),
        ("typical", True),
    ]
    assert view.lineage()["count_30d"] == [("applications", "purpose")]
    assert view.lineage()["typical"] == [("applications", "amount")]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"refresh": None}, "refresh"),
        ({"refresh": "0d"}, "refresh"),
        ({"refresh": "1mo"}, "refresh"),
        ({"refresh": "daily"}, "refresh"),
        ({"refresh": "31d"}, "count_30d"),
        ({"refresh": "29d", "aggregations": [count(over="1mo")]}, "count_1mo"),
        ({"ttl": "1d"}, "ttl"),
        ({"aggregations": []}, "aggregations"),
        ({"aggregations": [mean("colour", over="2d")]}, "amount" and "colour_mean_2d"),
        ({"aggregations": [mean("term", over="2d")]}, "term"),
        ({"aggregations": [count(over="2d"), count(over="2d")]}, "aggregations"),
        ({"columns": [number("amount")]}, "aggregations"),
        ({"source": None}, "source"),
        ({"event_time": "applied_at"}, "source"),
        ({"sql": "select 1"}, "source"),
        ({"entity": LOAN, "aggregations": (), "columns": [number("amount")], "ttl": "12h"}, "ttl"),
        ({"entity": LOAN, "aggregations": (), "columns": [number("amount")], "ttl": "1mo"}, "ttl"),
        ({"entity": LOAN, "aggregations": (), "columns": [number("amount")], "ttl": "0d", "refresh": None}, "ttl"),
        ({"aggregations": (), "columns": [number("amount")]}, "entity"),
    ],
)
def test_a_feature_view_names_what_is_wrong(changes: Any, field: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        windowed(**changes)
    assert caught.value.field == field


def test_a_window_as_long_as_the_refresh_is_allowed() -> None:
    assert windowed(refresh="30d").refresh_us == 30 * 86_400_000_000
    assert windowed(refresh="28d", aggregations=[count(over="1mo")]).refresh is not None


def test_a_window_that_can_never_contain_a_row_is_refused() -> None:
    with pytest.raises(DeclarationError) as caught:
        count(over="0d")
    assert caught.value.field == "over"
    with pytest.raises(DeclarationError):
        Aggregation("median", "1d", "amount")  # type: ignore[arg-type]
    with pytest.raises(DeclarationError):
        Aggregation("mean", "1d")


def test_sql_rows_are_a_history_with_the_entity_key() -> None:
    view = by_sql(ttl="30d", refresh="1d")
    assert view.history.columns == {
        "loan_id": "int64",
        "bad": "float64",
        "happened_at": "timestamp",
        "known_at": "timestamp",
    }
    assert view.lineage() == {"bad": [("outcomes", "defaulted")]}
    assert view.ttl_us == 30 * 86_400_000_000


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"event_time": None}, "event_time"),
        ({"known_time": None}, "known_time"),
        ({"known_time": "later"}, "sql"),
        ({"aggregations": [count(over="1d")], "columns": (), "refresh": "1d"}, "sql"),
        ({"entity": PURPOSE}, "purpose"),
    ],
)
def test_sql_rows_say_their_times(changes: Any, field: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        by_sql(**changes)
    assert caught.value.field == field


def test_a_changed_definition_is_another_table() -> None:
    first = windowed()
    assert first.table == f"features/purpose_history/{first.digest.removeprefix('sha256:')[:12]}"
    others = [
        windowed(refresh="12h"),
        windowed(aggregations=[mean("amount", over="721d"), count(over="30d")]),
        windowed(aggregations=[sum_("amount", over="720d", name="amount_mean_720d"), count(over="30d")]),
        windowed(entity=Entity("purpose", ("purpose",), personal=True)),
    ]
    assert len({first.table, *(other.table for other in others)}) == 5
    assert windowed(refresh="24h", aggregations=list(reversed(first.aggregations))).table == first.table
    assert by_sql(ttl="1d") != by_sql()


def test_descriptions_are_not_in_the_digest_and_policies_are() -> None:
    described = [number("amount", description="of the loan"), *COLUMNS[1:]]
    assert request(columns=described) == request()
    assert request(columns=list(reversed(COLUMNS))) == request()
    assert request(columns=[number("amount", on_null="flag"), *COLUMNS[1:]]) != request()


WINDOWS = [
    count(over="30d"),
    mean("amount", over="720d"),
    last("amount", over="1d"),
    sum_("amount", over="2d", name="a"),
]
DERIVED = {"z": "amount * 2", "payment_to_income": "installment * 12 / annual_inc", "b": "ln(amount)"}
SELECTED = "select loan_id, happened_at, known_at, 1.0 as z, 2.0 as bad, 'x' as m from outcomes"
REORDERED: list[tuple[Any, list[Any], list[str]]] = [
    (lambda items: request(columns=items, derived={}), COLUMNS, ["amount", "annual_inc", "installment", "term"]),
    (
        lambda items: request(columns=COLUMNS, derived=dict(items)),
        list(DERIVED.items()),
        ["amount", "annual_inc", "installment", "term", "b", "payment_to_income", "z"],
    ),
    (lambda items: windowed(aggregations=items), WINDOWS, ["a", "amount_last_1d", "amount_mean_720d", "count_30d"]),
    (lambda items: by_sql(sql=SELECTED, columns=items), [number("z"), number("bad"), category("m")], ["bad", "m", "z"]),
]


@pytest.mark.parametrize(("declare", "items", "order"), REORDERED, ids=["columns", "derived", "aggregations", "stored"])
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_views_of_equal_digest_have_equal_feature_order(declare: Any, items: Any, order: Any, data: Any) -> None:
    view = declare(data.draw(st.permutations(items)))
    assert view.digest == declare(items).digest
    for again in (view, rebuild(view.spec()), rebuild(parse_canonical(canonical_json(view.spec())))):
        assert (again.digest, again.features) == (view.digest, view.features)
        assert [field.name for field in again.features] == list(again.lineage()) == order


def test_a_view_of_a_sources_columns_is_of_its_key() -> None:
    view = FeatureView("last_application", entity=LOAN, source=applications(), columns=[number("amount")], ttl="30d")
    assert view.refresh_us is None
    source = Source("x", {"k": "int64", "t": "timestamp", "b": "bool"}, ("k",), "t", same())
    assert (
        FeatureView("b", entity=Entity("k", ("k",)), source=source, columns=[number("b")]).columns[0].kind == "number"
    )
