from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from ml_platform.core.errors import ContractViolation, DeclarationError, LabelError, NotEnoughData, SchemaMismatch
from ml_platform.core.fields import category, number
from ml_platform.features import Entity, FeatureView, RequestView, SameAsEvent, Source, mean
from ml_platform.training.contract import ResolvedInput, build, prepare, resolve
from ml_platform.training.trainer import RunContext, training_data
from tests.training import cases

LOAN = Entity("loan", keys=("loan_id",))
PURPOSE = Entity("purpose", keys=("purpose",))
COLUMNS = {"loan_id": "int64", "applied_at": "timestamp", "income": "float64", "term": "int64", "purpose": "string"}
APPLICATIONS = Source(
    "applications",
    columns=COLUMNS,
    keys=("loan_id",),
    event_time="applied_at",
    known_time=SameAsEvent("An application is known when it is made."),
)
APPLICATION = RequestView(
    "application",
    entity=LOAN,
    source=APPLICATIONS,
    time="applied_at",
    columns=(number("income"), category("term", on_unknown="flag"), category("purpose")),
    derived={"income_by_month": "income / 12"},
)
OUTCOMES = Source(
    "outcomes",
    columns={"purpose": "string", "at": "timestamp", "defaulted": "float64"},
    keys=("purpose",),
    event_time="at",
    known_time=SameAsEvent("A test."),
)
HISTORY = FeatureView(
    "history", entity=PURPOSE, source=OUTCOMES, aggregations=(mean("defaulted", over="720d"),), refresh="1d"
)


def test_fields_stand_in_the_order_of_names_with_their_origin_type_and_definition():
    resolved = resolve([APPLICATION, HISTORY])
    assert [item.declared.name for item in resolved] == [
        "income", "purpose", "term", "income_by_month", "defaulted_mean_720d",
    ]  # fmt: skip
    assert [item.origin for item in resolved] == ["input", "input", "input", "derived", "stored"]
    assert [item.type for item in resolved] == ["float64", "string", "int64", "float64", "float64"]
    assert resolved[1].reference == f"{APPLICATION.reference}:purpose"
    assert resolved[2].reference == f"{APPLICATION.reference}:term"
    assert resolved[3].expression == APPLICATION.expressions["income_by_month"].spec()
    assert resolved[4].reference == f"{HISTORY.reference}:defaulted_mean_720d"


def training_part(**columns) -> pa.Table:
    return pa.table({"income": [1.0, 2.0], "term": [60, 36], "purpose": ["car", "boat"], **columns})


def test_categories_are_those_of_the_training_part_sorted():
    contract = build(resolve([APPLICATION])[:3], training_part(), entity_keys=cases.KEYS, time="applied_at")
    assert contract.field("term").categories == ("36", "60")
    assert contract.field("purpose").categories == ("boat", "car")


def test_declared_categories_hold_whatever_the_training_part_has():
    item = ResolvedInput(category("purpose", categories=("z", "a")), "v:purpose", "input", "string")
    contract = build([item], training_part(), entity_keys=cases.KEYS, time="applied_at")
    assert contract.field("purpose").categories == ("a", "z")


def test_ranges_are_only_those_declared():
    items = [
        ResolvedInput(number("income", range=(0, None)), "v:income", "input", "float64"),
        ResolvedInput(number("term"), "v:term", "input", "int64"),
    ]
    contract = build(items, training_part(), entity_keys=cases.KEYS, time="applied_at")
    assert contract.field("income").range == (0, None)
    assert contract.field("term").range is None


@pytest.mark.parametrize("name", ["income", "loan_id", "applied_at"])
def test_feature_names_are_unique_and_no_key_or_time(name):
    items = [ResolvedInput(number("income"), "a:income", "input", "float64")]
    items.append(ResolvedInput(number(name), "b:x", "input", "float64"))
    with pytest.raises(DeclarationError, match=name):
        build(items, training_part(loan_id=[1, 2], applied_at=[1, 2]), entity_keys=cases.KEYS, time="applied_at")


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(SchemaMismatch, match="late"):
        build(cases.inputs(), cases.table().drop(["late"]), entity_keys=cases.KEYS, time="applied_at")
    with pytest.raises(SchemaMismatch, match="late"):
        prepare(cases.contract(), cases.table().drop(["late"]))


def test_a_category_without_values_is_an_error():
    rows = cases.table(10).set_column(2, "purpose", pa.nulls(10, pa.string()))
    with pytest.raises(NotEnoughData, match="purpose"):
        cases.contract(rows)


def test_an_unknown_category_is_flagged_and_missing_in_the_matrix():
    contract = cases.contract()
    rows = cases.table(3).set_column(2, "purpose", pa.array(["p00", "yacht", "p39"]))
    prepared = prepare(contract, rows)
    assert prepared.accepted.all()
    np.testing.assert_array_equal(prepared.matrix[:, 2], np.array([0, np.nan, 39], np.float32))
    assert [(flag.row, flag.field, flag.rule) for flag in prepared.flags] == [(1, "purpose", "unknown:flag")]


def test_a_refused_row_is_counted_by_field_and_rule():
    rows = cases.table(3).set_column(0, "income", pa.array([1.0, None, None]))
    prepared = prepare(cases.contract(), rows)
    assert prepared.accepted.tolist() == [True, False, False]
    assert prepared.refused_by_rule() == {"income:null": 2}


def test_a_bound_holds_for_rows_that_a_snapshot_has_rounded():
    item = ResolvedInput(number("x", range=(0.7, 0.1 + 1)), "v:x", "input", "float64")
    raw = pa.table({"x": [0.7, 1.1]})
    contract = build([item], raw, entity_keys=cases.KEYS, time="applied_at")
    assert np.float32(0.7) < 0.7  # both values move outwards, so a plain comparison would refuse them
    assert np.float32(1.1) > 1.1
    stored = pa.table({"x": pa.array(np.array([0.7, 1.1], np.float32))})
    assert prepare(contract, stored).accepted.all()
    beyond = pa.table({"x": pa.array(np.nextafter(np.array([0.7, 1.1], np.float32), np.array([0, 2], np.float32)))})
    assert not prepare(contract, beyond).accepted.any()


def test_training_rows_that_break_the_contract_stop_the_training():
    rows = cases.table(100)
    broken = rows.set_column(0, "income", pa.array([None] + [1.0] * 99))
    with pytest.raises(ContractViolation, match="income:null 1"):
        training_data(cases.contract(), broken, "defaulted")


def test_training_data_knows_names_categories_and_base_rate():
    data = cases.data()
    assert data.feature_names == ("income", "debt", "purpose", "late")
    assert data.category_indices == (2,)
    assert data.matrix.dtype == np.float32
    assert data.base_rate == data.labels.mean()


@pytest.mark.parametrize(("value", "positives"), [(0, 0), (1, 50)])
def test_a_single_class_is_an_error_that_names_rows_and_positives(value, positives):
    rows = cases.table(50).set_column(4, "defaulted", pa.array([value] * 50))
    with pytest.raises(NotEnoughData, match=f"50 rows, {positives} positives"):
        training_data(cases.contract(), rows, "defaulted")


@pytest.mark.parametrize("labels", [[None, 1, 0], [2, 1, 0]])
def test_a_label_is_zero_or_one(labels):
    rows = cases.table(3).set_column(4, "defaulted", pa.array(labels))
    with pytest.raises(LabelError, match="label"):
        training_data(cases.contract(), rows, "defaulted")


@pytest.mark.parametrize(("seed", "threads"), [(-1, 1), (2**31, 1), (0, 0)])
def test_a_run_pins_a_possible_seed_and_thread_count(seed, threads):
    with pytest.raises(DeclarationError):
        RunContext(seed, threads)


def test_the_ends_of_seed_and_threads_are_possible():
    assert RunContext(2**31 - 1).threads == 1
    assert RunContext(0, 1).seed == 0
