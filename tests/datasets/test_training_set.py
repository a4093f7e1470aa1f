from __future__ import annotations

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from ml_platform.core.errors import DataError, DeclarationError, NotEnoughData
from ml_platform.core.fields import category, number
from ml_platform.datasets import TimeSplit, TrainingSetSpec, build_training_set
from ml_platform.features import Entity, FeatureView, RequestView, mean
from tests.datasets.loans import (
    LOAN,
    application,
    at,
    defaulted,
    outcomes_source,
    real_label,
    real_tables,
    requests_source,
    table_of,
)
from tests.datasets.snapshots import DAY, PURPOSE_RATES, build, float32, join, outcomes, request, requests, spec

COLUMNS = [
    "loan_id",
    "applied_at",
    "amount",
    "purpose",
    "rate",
    "purpose_rates__age_us",
    "defaulted",
    "matured_at",
    "split",
]


def test_columns_are_keys_time_features_in_model_order_ages_label_maturity_and_split():
    built = build()
    assert built.table.column_names == COLUMNS
    types = dict(zip(COLUMNS, map(str, built.table.schema.types), strict=True))
    assert types["amount"] == types["rate"] == "float"
    assert types["purpose"] == types["split"] == "string"
    assert types["purpose_rates__age_us"] == types["defaulted"] == "int64"
    assert types["applied_at"] == types["matured_at"] == "timestamp[us, tz=UTC]"
    turned = build(spec(features=(PURPOSE_RATES, application())))
    assert turned.table.column_names[2:5] == ["rate", "amount", "purpose"]


def test_each_row_is_the_obvious_one():
    built = build(split_spec(TimeSplit(test=0.25, gap="12d")))
    expected = []
    mature = [row for row in requests() if row["applied_at"] + timedelta(days=365) <= at("2012-01-01")]
    positive = {row["loan_id"] for row in outcomes()}
    cut = mature[-int(np.ceil(len(mature) / 4))]["applied_at"]
    for row in mature:
        applied = row["applied_at"]
        part = "test" if applied >= cut else "train" if applied < cut - 12 * DAY else None
        priced = row["purpose"] == "car" and applied >= at("2010-11-01")
        expected.append(
            {
                "loan_id": row["loan_id"],
                "applied_at": applied,
                "purpose": row["purpose"],
                "amount": float32(row["amount"]),
                "rate": float32(0.1) if priced else None,
                "purpose_rates__age_us": (applied - at("2010-11-01")) // timedelta(microseconds=1) if priced else None,
                "defaulted": int(row["loan_id"] in positive),
                "matured_at": applied.replace(year=applied.year + 1),
                "split": part,
            }
        )
    assert built.table.to_pylist() == [row for row in expected if row["split"]]
    left_out = [(row["loan_id"], row["applied_at"], "gap") for row in expected if not row["split"]]
    left_out += [(row["loan_id"], row["applied_at"], "immature") for row in requests()[len(mature) :]]
    assert [tuple(row.values()) for row in built.left_out.to_pylist()] == left_out
    assert built.parts["left_out"]["reasons"] == {"gap": 2, "immature": 40 - len(mature)}


def split_spec(split):
    return spec(split=split)


def test_rows_are_ordered_by_time_and_then_by_key():
    moment = at("2010-10-01")
    rows = [request(loan, moment if loan < 20 else moment + DAY) for loan in (*range(30, 15, -1), *range(16))]
    built = build(rows=rows, known=outcomes()[:3])
    found = [(row["applied_at"], row["loan_id"]) for row in built.table.to_pylist()]
    assert found == sorted(found)


def test_numbers_are_rounded_to_float32_once_after_derivation():
    view = RequestView(
        "application",
        entity=LOAN,
        source=requests_source(),
        time="applied_at",
        columns=[category("purpose"), number("amount")],
        derived={"third": "amount / 3"},
    )
    built = build(TrainingSetSpec(defaulted(rows=view), (view,)))
    once = [float32(row["amount"] / 3) for row in requests()][: built.table.num_rows]
    twice = [float32(float32(row["amount"]) / 3) for row in requests()][: built.table.num_rows]
    assert built.table.column("third").to_pylist() == once
    assert once != twice


def view_with(*columns):
    return RequestView("application", entity=LOAN, source=requests_source(), time="applied_at", columns=columns)


@pytest.mark.parametrize(("largest", "refused"), [(2**24, False), (2**24 + 1, True), (-(2**24) - 1, True)])
def test_an_integer_that_float32_would_change_is_refused_unless_it_is_a_category(largest, refused):
    rows = [request(row["loan_id"], row["applied_at"], revision=largest) for row in requests()]
    as_number, as_category = view_with(number("revision")), view_with(category("revision"))
    if refused:
        with pytest.raises(DataError, match=r"^revision: .*2\^24"):
            build(TrainingSetSpec(defaulted(rows=as_number), (as_number,)), rows=rows)
    else:
        built = build(TrainingSetSpec(defaulted(rows=as_number), (as_number,)), rows=rows)
        assert built.table.column("revision").to_pylist()[0] == largest
    built = build(TrainingSetSpec(defaulted(rows=as_category), (as_category,)), rows=rows)
    assert built.table.column("revision").to_pylist()[0] == str(largest)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        (number("amount"), None, "refused:amount:null"),
        (number("amount", range=(0, 5)), 5.5, "refused:amount:range"),
        (number("amount"), 1e39, "refused:amount:float32"),
        (category("purpose", categories=("car", "house")), "boat", "refused:purpose:unknown"),
        (category("purpose"), None, "refused:purpose:null"),
    ],
)
def test_a_row_that_a_policy_refuses_is_left_out_with_its_reason(field, value, reason):
    view = view_with(field)
    rows = requests(10)
    rows[3][field.name] = value
    built = build(TrainingSetSpec(defaulted(rows=view), (view,)), rows=rows)
    assert built.table.num_rows == 9
    assert [tuple(row.values()) for row in built.left_out.to_pylist()] == [(3, rows[3]["applied_at"], reason)]
    assert built.parts["left_out"]["reasons"] == {reason: 1}


@pytest.mark.parametrize("policy", ["flag", "default"])
def test_flagged_rows_stay_and_keep_what_was_delivered(policy):
    default = 1.0 if policy == "default" else None
    view = view_with(number("amount", range=(0, 5), on_range=policy, default=default), category("purpose"))
    built = build(TrainingSetSpec(defaulted(rows=view), (view,)), rows=requests(20))
    assert built.table.num_rows == 19  # the last of them is not mature
    assert built.table.column("amount").to_pylist()[-1] == float32(18 / 3)


def test_what_was_known_after_the_as_of_time_does_not_exist():
    early = build(as_of=at("2011-12-01"))
    rows = [*requests(), request(99, at("2010-10-02"), received_at=at("2011-12-02"))]
    known = [*outcomes(), outcome_known(1, at("2010-11-01"), at("2011-12-02"))]
    later = build(rows=rows, known=known, as_of=at("2011-12-01"))
    assert later.table.equals(early.table)
    assert later.left_out.equals(early.left_out)


def outcome_known(loan, happened, known):
    from tests.datasets.snapshots import outcome

    return outcome(loan, known, happened_at=happened)


def test_no_rows_are_not_enough_data():
    with pytest.raises(NotEnoughData, match="0 mature rows"):
        build(rows=[])


def test_a_single_class_names_rows_and_positives():
    with pytest.raises(NotEnoughData, match="rows, 0 positive"):
        build(known=[])


def test_an_empty_column_of_the_training_part_is_named():
    rows = [request(row["loan_id"], row["applied_at"], amount=None) for row in requests()]
    with pytest.raises(NotEnoughData, match=r"^amount: "):
        build(rows=rows)


def test_stored_features_need_a_join_that_keeps_the_rows():
    with pytest.raises(DataError, match=r"^join: "):
        build(join=None)
    with pytest.raises(DataError, match="lost, added or moved"):
        build(join=lambda rows, views: join(rows, views).slice(1))
    with pytest.raises(DataError, match="lost, added or moved"):
        build(join=lambda rows, views: join(rows.take(pa.array(range(rows.num_rows - 1, -1, -1))), views))


def test_the_manifest_parts_say_what_was_made_and_of_what():
    built = build(as_of=at("2011-12-20"))
    parts = built.parts
    train, test = (
        built.table.filter(pa.array([one == part for one in built.table.column("split").to_pylist()]))
        for part in ("train", "test")
    )
    assert parts["rows"] == built.table.num_rows == train.num_rows + test.num_rows
    assert parts["split"]["train_rows"] == train.num_rows
    assert parts["split"]["train_positives"] == sum(train.column("defaulted").to_pylist())
    assert parts["split"]["test_positives"] == sum(test.column("defaulted").to_pylist())
    assert parts["split"]["cut"] == min(test.column("applied_at").to_pylist()).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert parts["split"]["matured_after_cut"] == train.num_rows  # a horizon of a year
    assert parts["label"]["definition"] == built.spec.label.digest
    assert parts["columns"][:3] == [["loan_id", "i64"], ["applied_at", "us"], ["amount", "f32"]]
    assert parts["columns"][3] == ["purpose", "text"]
    assert parts["reads"]["features"] == [PURPOSE_RATES.reference]
    assert parts["query"]["label"] == built.spec.label.matured.sql


def test_the_request_view_is_exactly_the_labelled_one():
    for features in [(), (PURPOSE_RATES,), (application(), application()), (view_with(number("amount")),)]:
        with pytest.raises(DeclarationError, match=r"^features: "):
            spec(features=features)


def test_a_stored_view_of_immature_outcomes_is_refused():
    view = FeatureView(
        "history",
        entity=Entity("loan", keys=("loan_id",)),
        source=outcomes_source(),
        aggregations=[mean("defaulted", over="30d")],
        refresh="1d",
    )
    with pytest.raises(DeclarationError, match=r"^history: .*mature"):
        spec(features=(application(), view))


def test_a_stored_view_of_mature_outcomes_is_allowed():
    view = FeatureView(
        "history",
        entity=Entity("purpose", keys=("purpose",)),
        source=defaulted().matured,
        aggregations=[mean("defaulted", over="720d")],
        refresh="1d",
    )
    assert spec(features=(application(), view)).columns[4:6] == ("defaulted_mean_720d", "history__age_us")


@pytest.mark.parametrize("name", ["revision", "amount", "defaulted", "matured_at", "split", "loan_id"])
def test_a_name_that_stands_twice_is_refused(name):
    source = type(PURPOSE_RATES.source)(
        "rates",
        columns={"purpose": "string", "published_at": "timestamp", name: "float64"},
        keys=("purpose",),
        event_time="published_at",
        known_time="published_at",
    )
    view = FeatureView(
        "purpose_rates",
        entity=Entity("purpose", keys=("purpose",)),
        source=source,
        columns=[number(name, nullable=True)],
    )
    with pytest.raises(DeclarationError, match=name):
        spec(features=(application(), view))


def test_the_stored_entity_must_be_named_by_the_request():
    view = FeatureView(
        "branch_rates",
        entity=Entity("branch", keys=("rate",)),
        source=type(PURPOSE_RATES.source)(
            "branches",
            columns={"rate": "string", "published_at": "timestamp", "level": "float64"},
            keys=("rate",),
            event_time="published_at",
            known_time="published_at",
        ),
        columns=[number("level", nullable=True)],
    )
    with pytest.raises(DeclarationError, match=r"^branch_rates: "):
        spec(features=(application(), view))


def test_the_public_loans_make_the_training_set_of_2010(lending_club):
    label = real_label()
    rows, known = real_tables(lending_club, label)
    declared = TrainingSetSpec(label, (label.rows,))
    built = build_training_set(declared, rows=rows, outcomes=known, as_of=at("2010-01-01"))
    assert built.table.num_rows == 3_265
    assert built.parts["split"]["cut"] == "2008-08-01T00:00:00.000000Z"
    assert built.parts["split"]["train_positives"] + built.parts["split"]["test_positives"] == 119
    assert set(built.parts["left_out"]["reasons"]) == {"immature"}
    by_id = {row["loan_id"]: row for row in rows.to_pylist()}
    for row in built.table.to_pylist()[::97]:
        raw = by_id[row["loan_id"]]
        assert row["int_rate"] == float32(raw["int_rate"])
        assert row["term"] == str(raw["term"])
        assert row["payment_to_income"] == float32(raw["installment"] * 12 / raw["annual_inc"])


def test_a_value_label_makes_a_training_set_too():
    label = defaulted(column="loss", kind="value")
    known = [outcome_known(row["loan_id"], row["applied_at"], row["applied_at"] + DAY) for row in requests()]
    built = build(TrainingSetSpec(label, (label.rows,)), known=known)
    assert set(built.table.column("loss").to_pylist()) == {1.0}
    assert built.parts["split"]["train_positives"] is None


def test_conforming_refuses_a_conflicting_duplicate():
    from ml_platform.core.errors import DuplicateKeys

    rows = requests()
    with pytest.raises(DuplicateKeys):
        build(rows=[*rows, {**rows[0], "amount": 9.0}])
    assert build(rows=[*rows, rows[0]]).table.num_rows == build().table.num_rows
    assert table_of(requests_source(), rows).num_rows == 40


def test_the_embedded_engine_joins_what_the_assembly_expects():
    from ml_platform.features.duckdb import History, Join, point_in_time
    from tests.datasets.snapshots import RATES

    history = table_of(RATES, [{"purpose": "car", "published_at": at("2010-11-01"), "rate": 0.1}])

    def engine(rows, views):
        joins = [Join("purpose_rates", History(history, ("purpose",), "published_at", "published_at", ("rate",)))]
        return point_in_time(rows, time="applied_at", joins=joins)

    assert build(join=engine).table.equals(build().table)


def test_a_feature_of_mature_outcomes_is_joined_as_it_was_known_on_the_public_loans(lending_club):
    from ml_platform.features.duckdb import History, Join, evaluate_source, point_in_time

    label = real_label()
    rows, known = real_tables(lending_club, label)
    tables = {"applications": label.rows.source.conform(rows), "outcomes": label.outcome.conform(known)}
    matured = evaluate_source(label.matured, tables)
    view = FeatureView(
        "last_of_purpose",
        entity=Entity("purpose", keys=("purpose",)),
        source=label.matured,
        aggregations=[mean("defaulted", over="720d", name="defaulted")],
        refresh="1d",
    )
    with pytest.raises(DeclarationError, match="defaulted"):
        TrainingSetSpec(label, (label.rows, view))  # the feature has the label's name
    assert matured.num_rows == rows.num_rows
    assert min(matured.column("matured_at").to_pylist()) == at("2008-06-01")
    by_purpose = History(
        matured, ("purpose",), "matured_at", "matured_at", ("defaulted",), tie_break=("applied_at", "loan_id")
    )
    request_rows = tables["applications"].select(["loan_id", "applied_at", "purpose"])
    joined = point_in_time(request_rows, time="applied_at", joins=[Join("last", by_purpose)])
    early = [row["defaulted"] for row in joined.to_pylist() if row["applied_at"] < at("2008-06-01")]
    assert set(early) == {None}
