from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ml_platform.core.contract import Contract, Refusal
from ml_platform.core.errors import DataError, PlatformError, SchemaMismatch
from ml_platform.core.rows import encode_row
from ml_platform.serving.preparing import FeatureReader, Preparer
from tests.serving.support import CONTRACT, END, START, history, loans

WINDOW = int(START.timestamp()) * 1_000_000, int(END.timestamp()) * 1_000_000


def preparer(features: FeatureReader | None = history, contract: Contract = CONTRACT) -> Preparer:
    return Preparer(contract, WINDOW, features)


def with_values(table: pa.Table, name: str, values: dict[int, Any]) -> pa.Table:
    column = table.column(name).to_pylist()
    for row, value in values.items():
        column[row] = value
    place = table.column_names.index(name)
    return table.set_column(place, name, pa.array(column, table.schema.field(name).type))


def test_derived_and_stored_features_join_the_matrix_in_contract_order() -> None:
    table = with_values(with_values(loans(6), "amount", {1: 2.0}), "income", {1: 48.0})
    prepared = preparer().prepare(table)
    assert prepared.matrix.shape == (6, len(CONTRACT.fields))
    assert prepared.matrix.dtype == np.float32
    row = dict(zip(CONTRACT.names, prepared.matrix[1].tolist(), strict=True))
    assert row["burden"] == 0.5
    assert row["rate"] == float(np.float32(0.1))
    assert row["region"] == 1.0
    assert prepared.columns["age_rate"].to_pylist()[:2] == [None, 1_000_000]


def test_refused_rows_stay_behind_and_the_others_keep_their_values() -> None:
    table = with_values(loans(8), "grade", {2: "Z", 5: "Q"})
    table = with_values(table, "amount", {2: float("nan"), 6: -1.0})
    prepared = preparer().prepare(table)
    assert prepared.columns["key_loan_id"].to_pylist() == [0, 1, 3, 4, 7]
    assert prepared.refusals == (
        Refusal(2, "amount", "finite", "not a finite number"),
        Refusal(2, "grade", "unknown", "an unknown category"),
        Refusal(5, "grade", "unknown", "an unknown category"),
        Refusal(6, "amount", "range", "a number out of range"),
    )
    clean = preparer().prepare(loans(8))
    kept = [0, 1, 3, 4, 7]
    np.testing.assert_array_equal(prepared.matrix, clean.matrix[kept])
    assert prepared.row_keys == [clean.row_keys[row] for row in kept]
    assert set(prepared.refused_keys) == {2, 5, 6}
    assert prepared.refused_keys[5] == clean.row_keys[5]


def test_a_row_that_only_its_stored_feature_refuses_is_counted_from_the_start_of_the_chunk() -> None:
    def reject(contract: Contract, rows: pa.Table) -> pa.Table:
        return with_values(history(contract, rows), "rate", {1: float("inf")})

    table = with_values(loans(5), "grade", {0: "Z"})
    prepared = preparer(reject).prepare(table)
    assert [(refusal.row, refusal.field) for refusal in prepared.refusals] == [(0, "grade"), (2, "rate")]
    assert prepared.columns["key_loan_id"].to_pylist() == [1, 3, 4]


def test_flags_say_field_rule_and_policy_in_contract_order() -> None:
    table = with_values(with_values(loans(30), "term", {8: 60, 9: 36}), "grade", {8: None, 9: "A"})
    prepared = preparer().prepare(table)
    lists = [prepared.flags.lists[code] for code in prepared.flags.codes]
    assert lists[8] == ("term:unknown:flag", "grade:null:default")
    assert lists[7] == (*lists[7][:-2], "rate:null:default", "region:unknown:flag")
    assert lists[9] == ()
    assert prepared.columns["category_term"][8].as_py() == "60"
    assert prepared.columns["category_grade"][8].as_py() is None
    place = CONTRACT.names.index("grade")
    assert prepared.matrix[8, place] == 1.0


def test_flags_follow_their_rows_when_others_are_refused() -> None:
    table = with_values(with_values(loans(6), "term", {0: 36, 1: 36, 2: 36, 3: 60, 4: 36, 5: 36}), "grade", {1: "Z"})
    prepared = preparer().prepare(table)
    flagged = {flag.row for flag in prepared.flagged if flag.field == "term"}
    assert flagged == {2}
    assert prepared.columns["key_loan_id"].to_pylist()[2] == 3


def test_derived_values_come_from_the_columns_as_received() -> None:
    fields = tuple(
        replace(f, on_null="default", default=1.0, nullable=False) if f.name == "income" else f for f in CONTRACT.fields
    )
    prepared = preparer(contract=replace(CONTRACT, fields=fields)).prepare(with_values(loans(3), "income", {1: None}))
    row = dict(zip(CONTRACT.names, prepared.matrix[1].tolist(), strict=True))
    assert row["income"] == 1.0
    assert np.isnan(row["burden"])


def test_keys_are_row_bytes_of_entity_key_and_request_time() -> None:
    table = loans(3)
    prepared = preparer().prepare(table)
    at = table.column("applied_at")[2].as_py()
    assert prepared.entity_keys[2] == encode_row([("i64", 2)])
    assert prepared.row_keys[2] == encode_row([("i64", 2), ("us", at)])


def reordered(table: pa.Table) -> pa.Table:
    return table.select(table.column_names[::-1])


def test_the_order_of_columns_means_nothing() -> None:
    table = loans(20)
    np.testing.assert_array_equal(preparer().prepare(table).matrix, preparer().prepare(reordered(table)).matrix)


def country_for_age(table: pa.Table) -> pa.Table:
    """The story: a column that held a number now holds a text at the same place."""
    place = table.column_names.index("income")
    return table.set_column(place, "country", pa.array(["NO"] * table.num_rows))


def text_for_number(table: pa.Table) -> pa.Table:
    return table.set_column(table.column_names.index("income"), "income", pa.array(["NO"] * table.num_rows))


def naive(table: pa.Table) -> pa.Table:
    place = table.column_names.index("applied_at")
    return table.set_column(place, "applied_at", table.column("applied_at").cast(pa.timestamp("us")))


BAD = {
    "missing": lambda table: table.drop_columns(["income"]),
    "extra": lambda table: table.append_column("user_country", pa.array(["NO"] * table.num_rows)),
    "country for age": country_for_age,
    "text for number": text_for_number,
    "naive time": naive,
    "null key": lambda table: with_values(table, "loan_id", {1: None}),
    "null time": lambda table: with_values(table, "applied_at", {1: None}),
    "before the window": lambda table: with_values(table, "applied_at", {1: WINDOW[0] - 1}),
    "at its end": lambda table: with_values(table, "applied_at", {1: WINDOW[1]}),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_partition_is_refused_whole_without_showing_a_value(name: str) -> None:
    with pytest.raises(PlatformError) as caught:
        preparer().prepare(BAD[name](loans(3)))
    assert isinstance(caught.value, SchemaMismatch | DataError)
    assert "NO" not in str(caught.value).split()


def test_the_first_instant_of_the_window_belongs_to_it_and_the_last_before_its_end() -> None:
    table = with_values(loans(2), "applied_at", {0: WINDOW[0], 1: WINDOW[1] - 1})
    assert preparer().prepare(table).rows == 2


def test_an_empty_chunk_is_checked_and_has_no_rows() -> None:
    prepared = preparer().prepare(loans(3).slice(0, 0))
    assert (prepared.rows, prepared.matrix.shape, prepared.refusals) == (0, (0, len(CONTRACT.fields)), ())
    with pytest.raises(SchemaMismatch):
        preparer().prepare(loans(3).slice(0, 0).drop_columns(["income"]))


def test_a_chunk_whose_rows_are_all_refused_has_none_left() -> None:
    prepared = preparer().prepare(with_values(loans(3), "grade", dict.fromkeys(range(3), "Z")))
    assert prepared.rows == 0
    assert len(prepared.refusals) == 3


def test_an_all_null_column_is_refused_row_by_row() -> None:
    prepared = preparer().prepare(with_values(loans(4), "amount", dict.fromkeys(range(4))))
    assert [refusal.rule for refusal in prepared.refusals] == ["null"] * 4


def test_a_value_from_the_future_is_a_leak() -> None:
    def leaking(contract: Contract, rows: pa.Table) -> pa.Table:
        return with_values(history(contract, rows), "age_rate", {1: -1})

    with pytest.raises(DataError, match="leak"):
        preparer(leaking).prepare(loans(3))


def test_a_value_of_the_same_instant_is_none() -> None:
    def same(contract: Contract, rows: pa.Table) -> pa.Table:
        return with_values(history(contract, rows), "age_rate", {1: 0})

    assert preparer(same).prepare(loans(3)).columns["age_rate"][1].as_py() == 0


def test_stored_features_need_a_reader_that_answers_for_every_row() -> None:
    with pytest.raises(SchemaMismatch, match="reader"):
        preparer(None).prepare(loans(3))
    with pytest.raises(DataError, match="number"):
        preparer(lambda contract, rows: history(contract, rows).slice(1)).prepare(loans(3))
