from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.core.contract import Contract, ResolvedField
from ml_platform.core.errors import DeclarationError, NotFound, SchemaMismatch
from ml_platform.core.fields import category, number

TIME = pa.timestamp("us", "UTC")


def number_field(name: str = "x", **policies: object) -> ResolvedField:
    return ResolvedField(name, f"v@sha256:0:{name}", "input", "number", "float64", **policies)


def category_field(name: str = "c", **policies: object) -> ResolvedField:
    return ResolvedField(
        name, f"v@sha256:0:{name}", "input", "category", "string", **{"categories": ("a", "b"), **policies}
    )


def contract(*fields: ResolvedField) -> Contract:
    return Contract((("key", "int64"),), "at", fields)


def rows(count: int, **columns: pa.Array) -> pa.Table:
    return pa.table({"key": pa.array(range(count), pa.int64()), "at": pa.array([0] * count, TIME), **columns})


def test_columns_go_by_name_never_by_position() -> None:
    """The story of ``user_age`` at position 7 becoming ``user_country``."""
    subject = contract(number_field("user_age"), category_field("user_country"))
    good = rows(1, user_age=pa.array([40.0]), user_country=pa.array(["a"]))
    subject.check_schema(good.schema)
    reordered = good.select(["user_country", "at", "user_age", "key"])
    subject.check_schema(reordered.schema)
    assert (
        subject.encode(subject.admit(good).columns).tolist()
        == subject.encode(subject.admit(reordered).columns).tolist()
    )
    swapped = rows(1, user_age=pa.array(["a"]), user_country=pa.array([40.0]))
    with pytest.raises(SchemaMismatch, match=r"user_age.*string.*float64"):
        subject.check_schema(swapped.schema)
    replaced = rows(1, country=pa.array(["a"]), user_country=pa.array(["a"]))
    with pytest.raises(SchemaMismatch, match="missing user_age; not declared country"):
        subject.check_schema(replaced.schema)


def test_a_column_that_stands_twice_is_refused() -> None:
    schema = pa.schema([("key", pa.int64()), ("at", TIME), ("x", pa.float64()), ("x", pa.float64())])
    with pytest.raises(SchemaMismatch, match="twice"):
        contract(number_field()).check_schema(schema)


def test_a_naive_time_is_refused() -> None:
    schema = pa.schema([("key", pa.int64()), ("at", pa.timestamp("us")), ("x", pa.float64())])
    with pytest.raises(SchemaMismatch, match="no time zone"):
        contract(number_field()).check_schema(schema)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e39])
def test_what_float32_cannot_say_is_refused_without_its_value(value: float) -> None:
    admission = contract(number_field(nullable=True)).admit(rows(1, x=pa.array([value])))
    assert not admission.accepted[0]
    assert admission.refusals[0].rule in {"finite", "float32"}
    assert str(value) not in str(admission.refusals[0])


def test_the_largest_float32_is_accepted() -> None:
    assert contract(number_field()).admit(rows(1, x=pa.array([3.4028234e38]))).accepted[0]


@pytest.mark.parametrize(
    ("policy", "accepted", "flag", "used"),
    [("reject", False, None, None), ("flag", True, "range:flag", 11.0), ("default", True, "range:default", 5.0)],
)
def test_out_of_range_follows_its_policy(policy: str, accepted: bool, flag: str | None, used: float | None) -> None:
    field = number_field(range=(0.0, 10.0), on_range=policy, default=5.0)
    admission = contract(field).admit(rows(3, x=pa.array([0.0, 10.0, 11.0])))
    assert admission.accepted.tolist() == [True, True, accepted]
    assert [item.rule for item in admission.flags] == ([flag] if flag else [])
    if used is not None:
        assert admission.columns["x"].tolist() == [0.0, 10.0, used]


@pytest.mark.parametrize(
    ("range_", "accepted"),
    [((0.0, None), [False, True, True, True]), ((None, 10.0), [True, True, True, False]), (None, [True] * 4)],
)
def test_a_range_may_be_open_on_either_side(range_: tuple[float | None, float | None] | None, accepted: list) -> None:
    below, above = math.nextafter(0.0, -1.0), math.nextafter(10.0, 11.0)
    admission = contract(number_field(range=range_)).admit(rows(4, x=pa.array([below, 0.0, 10.0, above])))
    assert admission.accepted.tolist() == accepted
    assert {refusal.rule for refusal in admission.refusals} <= {"range"}


def test_fields_are_found_by_name_and_by_origin() -> None:
    fields = (
        number_field(),
        replace(number_field(), name="y", origin="derived"),
        replace(number_field(), name="z", origin="stored"),
    )
    subject = contract(*fields)
    assert [subject.field(name) for name in "zxy"] == [fields[2], fields[0], fields[1]]
    assert (subject.inputs, subject.derived, subject.stored) == (fields[:1], fields[1:2], fields[2:])
    with pytest.raises(NotFound, match="x, y, z"):
        subject.field("w")


@pytest.mark.parametrize(
    ("policy", "accepted", "encoded"), [("reject", False, None), ("flag", True, math.nan), ("default", True, 1.0)]
)
def test_an_unknown_category_follows_its_policy(policy: str, accepted: bool, encoded: float | None) -> None:
    subject = contract(category_field(on_unknown=policy, default="b"))
    admission = subject.admit(rows(2, c=pa.array(["a", "zebra"])))
    assert admission.accepted.tolist() == [True, accepted]
    if encoded is not None:
        np.testing.assert_equal(subject.encode(admission.columns)[1, 0], np.float32(encoded))
    assert "zebra" not in repr(admission)


@pytest.mark.parametrize(
    ("policy", "accepted", "encoded"), [("reject", False, None), ("flag", True, math.nan), ("default", True, 7.0)]
)
def test_a_null_follows_its_policy(policy: str, accepted: bool, encoded: float | None) -> None:
    subject = contract(number_field(on_null=policy, default=7.0))
    admission = subject.admit(rows(1, x=pa.array([None], pa.float64())))
    assert admission.accepted.tolist() == [accepted]
    if encoded is not None:
        np.testing.assert_equal(subject.encode(admission.columns)[0, 0], np.float32(encoded))
        assert admission.flags[0].rule == f"null:{policy}"


def test_a_nullable_null_needs_no_flag() -> None:
    admission = contract(number_field(nullable=True), category_field(nullable=True)).admit(
        rows(1, x=pa.array([None], pa.float64()), c=pa.array([None], pa.string()))
    )
    assert admission.accepted.all()
    assert admission.flags == ()


def test_an_empty_table_is_admitted_as_empty() -> None:
    subject = contract(number_field(), category_field())
    admission = subject.admit(rows(0, x=pa.array([], pa.float64()), c=pa.array([], pa.string())))
    assert subject.encode(admission.columns).shape == (0, 2)


def test_integers_are_categories_in_decimal() -> None:
    subject = contract(ResolvedField("term", "r", "input", "category", "int64", categories=("36", "60")))
    admission = subject.admit(rows(2, term=pa.array([60, 36])))
    assert admission.columns["term"].tolist() == [1, 0]


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-3e38, max_value=3e38))
def test_numbers_are_rounded_to_float32_exactly_once(value: float) -> None:
    subject = contract(number_field())
    assert subject.encode(subject.admit(rows(1, x=pa.array([value]))).columns)[0, 0] == np.float32(value)


def test_two_features_of_one_name_are_refused() -> None:
    with pytest.raises(DeclarationError, match="same name"):
        contract(number_field(), number_field())


def test_a_contract_survives_its_stored_form() -> None:
    subject = contract(number_field(range=(None, 3.0)), category_field())
    again = Contract.from_json(json.loads(subject.to_bytes()))
    assert again == subject
    assert again.digest == subject.digest


def test_encoding_names_a_missing_feature() -> None:
    with pytest.raises(SchemaMismatch, match="x"):
        contract(number_field()).encode({})


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: number("x", on_null="ignore"), "policy"),
        (lambda: number("x", on_range="default"), "default"),
        (lambda: number("x", range=(2, 1)), "range"),
        (lambda: number("x", range=(0, math.inf)), "range"),
        (lambda: category("x", default="z", categories=("a",)), "categor"),
        (lambda: category("x", categories=("a", "a")), "twice"),
        (lambda: number("Name"), "lower-case"),
        (lambda: number("x", default=True, on_null="default"), "type"),
    ],
)
def test_an_impossible_field_is_refused_when_declared(build, says: str) -> None:
    with pytest.raises(DeclarationError, match=says):
        build()


def test_a_description_is_not_in_the_digest_and_a_policy_is() -> None:
    assert number("x", description="a").spec() == number("x").spec()
    assert number("x", on_null="flag").spec() != number("x").spec()
