"""Online, a contract accepts, refuses, flags and encodes exactly as it does for tables."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core.contract import Contract, Refusal, ResolvedField
from ml_platform.core.errors import DataError, DeclarationError, SchemaMismatch
from ml_platform.core.rows import encode_row
from ml_platform.features.expressions import parse
from ml_platform.serving.features_lookup import StoredValues
from ml_platform.serving.online_contract import Admitted, OnlineContract
from ml_platform.serving.preparing import Prepared, Preparer
from ml_platform.serving.record import Section
from tests.serving.support import CONTRACT

LIMIT = float.fromhex("0x1.ffffffp127")  # the first number that float32 rounds to infinity
NOW = 10**15
NUMBERS = st.sampled_from(
    [0.0, -0.0, 1.0, 0.1, -5.0, 7.0, 1e300, -1e300, LIMIT, math.nextafter(LIMIT, 0), -LIMIT, 5e-324, math.inf, -math.inf,
     math.nan, None]
) | st.floats(width=64)  # fmt: skip
WHOLE = st.sampled_from([0, 1, -1, 36, 60, 2**53 + 1, 2**63 - 1, -(2**63), None]) | st.integers(-100, 100)
TEXTS = st.sampled_from(["A", "B", "é", "", "36", "true", None]) | st.text(max_size=4)
BOOLS = st.sampled_from([True, False, None])
VALUES = {"float64": NUMBERS, "int64": WHOLE, "string": TEXTS, "bool": BOOLS}
DTYPES = {"float64": np.float64, "int64": np.int64, "string": object, "bool": np.bool_}
FILLERS = {"float64": 0.0, "int64": 0, "string": b"", "bool": False}
ARROW = {"float64": pa.float64(), "int64": pa.int64(), "string": pa.string(), "bool": pa.bool_()}
EXPRESSIONS = [
    "amount * 12 / count", "case when grade = 'A' then amount else count end", "ln(amount)", "amount is null",
    "coalesce(amount, count, 1)", "amount + 1e38",
]  # fmt: skip
KINDS = {"amount": "number", "count": "number", "grade": "category", "term": "category"}
POLICY = st.sampled_from(["reject", "flag", "default"])
RANGE = st.sampled_from([None, (0.0, None), (None, 10.0), (0.0, 10.0), (-1e39, 1e39)])


def number(name: str, kind: str, origin: str, expression: Any = None) -> st.SearchStrategy[ResolvedField]:
    return st.builds(
        ResolvedField, st.just(name), st.just(f"v@sha256:00:{name}"), st.just(origin), st.just("number"),
        st.just(kind), nullable=st.booleans(), range=RANGE, on_null=POLICY, on_range=POLICY,
        default=st.sampled_from([0.5, -3.0, 1e300]), expression=st.none() if expression is None else expression,
    )  # fmt: skip


def category(name: str, kind: str, origin: str) -> st.SearchStrategy[ResolvedField]:
    known = {"string": ("A", "B", "é"), "int64": ("036", "36", "60", "x"), "bool": ("true", "maybe")}[kind]
    return st.builds(
        ResolvedField, st.just(name), st.just(f"v@sha256:00:{name}"), st.just(origin), st.just("category"),
        st.just(kind), nullable=st.booleans(), categories=st.just(known), on_null=POLICY, on_unknown=POLICY,
        default=st.sampled_from([known[0], known[1], "Z"]),
    )  # fmt: skip


DERIVED = st.sampled_from(EXPRESSIONS).map(lambda text: parse(text, KINDS).spec())
CONTRACTS = st.builds(
    lambda fields, keys: Contract(entity_keys=keys, time="at", fields=tuple(fields)),
    st.tuples(
        number("amount", "float64", "input"), number("count", "int64", "input"), number("yes", "bool", "input"),
        category("grade", "string", "input"), category("term", "int64", "input"), category("own", "bool", "input"),
        number("burden", "float64", "derived", DERIVED), number("rate", "float64", "stored"),
        number("times", "int64", "stored"), category("region", "string", "stored"), category("last", "bool", "stored"),
    ).flatmap(st.permutations),
    st.sampled_from([(("loan_id", "int64"),), (("loan_id", "int64"), ("branch", "string"))]),
)  # fmt: skip


def rows_of(contract: Contract) -> st.SearchStrategy[list[dict[str, Any]]]:
    row = {item.name: VALUES[item.type] for item in (*contract.inputs, *contract.stored)}
    row |= {"loan_id": st.integers(-(2**63), 2**63 - 1), "branch": st.text(max_size=5)}
    row |= {"at": st.integers(0, NOW)}
    row |= {f"age {item.name}": st.none() | st.integers(0, 10**12) for item in contract.stored}
    return st.lists(st.fixed_dictionaries(row), max_size=6)


def tensors(contract: Contract, row: dict[str, Any], style: int = 0) -> dict[str, Any]:
    """A request of one row; styles: nulls said only where they are, everywhere, or by leaving the value out."""
    request: dict[str, Any] = {"at": np.array([[row["at"]]], np.int64)}
    for name, kind in contract.entity_keys:
        value = row[name].encode() if kind == "string" else row[name]
        request[name] = np.array([value], DTYPES[kind]).reshape(-1, 1)
    for item in contract.inputs:
        value = row[item.name]
        filled = FILLERS[item.type] if value is None else value.encode() if isinstance(value, str) else value
        if value is not None or style != 2:
            request[item.name] = np.array([filled], DTYPES[item.type]).reshape(-1, 1)
        if value is None or style == 1:
            request[f"{item.name}.null"] = np.array([[value is None]])
    return request


class Store:
    """Answers from the rows themselves."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = {(row["loan_id"], row["at"]): row for row in rows}

    def lookup(self, contract: Contract, column: Any, times_us: Any) -> StoredValues:
        found = [self.rows[key, t] for key, t in zip(column("loan_id"), times_us, strict=True)]
        ages = [[row[f"age {item.name}"] for row in found] for item in contract.stored]
        return StoredValues(
            [[row[item.name] for row in found] for item in contract.stored],
            [[None if age is None else t - age for age, t in zip(some, times_us, strict=True)] for some in ages],
        )


def prepared(contract: Contract, rows: list[dict[str, Any]]) -> Prepared:
    """The slow reference: tables all the way."""
    columns: dict[str, Any] = {"at": pa.array([row["at"] for row in rows], pa.timestamp("us", "UTC"))}
    for name, kind in contract.entity_keys:
        columns[name] = pa.array([row[name] for row in rows], ARROW[kind])
    for item in contract.inputs:
        columns[item.name] = pa.array([row[item.name] for row in rows], ARROW[item.type], from_pandas=False)
    store = Store(rows)

    def features(_: Contract, table: pa.Table) -> pa.Table:
        times = table.column("at").cast(pa.int64()).to_pylist()
        values, events = store.lookup(contract, lambda name: table.column(name).to_pylist(), times)
        made = {}
        for item, some, event in zip(contract.stored, values, events, strict=True):
            made[item.name] = pa.array(some, ARROW[item.type], from_pandas=False)
            ages = [None if e is None else t - e for e, t in zip(event, times, strict=True)]
            made[f"age_{item.name}"] = pa.array(ages, pa.int64())
        return pa.table(made)

    return Preparer(contract, (0, NOW + 1), features).prepare(pa.table(columns))


def bodies(contract: Contract, slow: Prepared) -> list[bytes]:
    """The section of each accepted row, from its personal columns."""
    table = pa.table({"t": slow.times.cast(pa.int64()), **slow.columns, "flags": slow.flags.arrow()})
    found = []
    for row in table.to_pylist():
        keys = [("i64" if kind == "int64" else "text", row[f"key_{name}"]) for name, kind in contract.entity_keys]
        features = [
            ("f32" if item.kind == "number" else "text", row[f"{item.kind}_{item.name}"]) for item in contract.fields
        ]
        ages = tuple(row[f"age_{item.name}"] for item in contract.stored)
        section = Section(row["t"], tuple(keys), tuple(features), ages, tuple(row["flags"]), (), None, ())
        found.append(section.to_bytes().removesuffix(encode_row([("text", None), ("texts", [])])))
    return found


def same(fast: Admitted, slow: Prepared, contract: Contract) -> None:
    assert fast.bodies == bodies(contract, slow)
    assert fast.matrix.dtype == np.float32
    assert fast.matrix.flags.c_contiguous
    assert np.array_equal(fast.matrix.view(np.int32), slow.matrix.view(np.int32)) or np.array_equal(
        np.where(np.isnan(fast.matrix), 0, fast.matrix).view(np.int32),
        np.where(np.isnan(slow.matrix), 0, slow.matrix).view(np.int32),
    )
    assert np.array_equal(np.isnan(fast.matrix), np.isnan(slow.matrix))
    assert fast.entity_keys == slow.entity_keys
    refused: dict[int, list[Refusal]] = {}
    for refusal in slow.refusals:
        refused.setdefault(refusal.row, []).append(replace(refusal, row=0))
    assert {number: [list(row.refusals) for row in rows] for number, rows in fast.refused.items()} == {
        number: [why] for number, why in refused.items()
    }
    assert {number: rows[0].row_key for number, rows in fast.refused.items()} == slow.refused_keys


@given(st.data(), CONTRACTS)
@settings(max_examples=150, deadline=None)
def test_a_batch_of_requests_is_admitted_as_the_same_table_is(data: st.DataObject, contract: Contract) -> None:
    rows = data.draw(rows_of(contract))
    rows = list({(row["loan_id"], row["at"]): row for row in rows}.values())
    requests = [tensors(contract, row, data.draw(st.integers(0, 2))) for row in rows]
    fast = OnlineContract(contract).admit(requests, NOW, Store(rows))
    slow = prepared(contract, rows)
    assert fast.requests == [(number, 1) for number in range(len(rows)) if number not in fast.refused]
    same(fast, slow, contract)


@given(st.data(), CONTRACTS)
@settings(max_examples=40, deadline=None)
def test_a_request_of_several_rows_is_admitted_as_the_same_table_is_or_not_at_all(
    data: st.DataObject, contract: Contract
) -> None:
    rows = data.draw(rows_of(contract).filter(bool))
    rows = list({(row["loan_id"], row["at"]): row for row in rows}.values())
    single = [tensors(contract, row, 1) for row in rows]
    request = {name: np.concatenate([one[name] for one in single]) for name in single[0]}
    fast = OnlineContract(contract).admit([request, request], NOW, Store(rows))
    slow = prepared(contract, rows)
    if slow.refusals:
        assert (fast.requests, fast.bodies) == ([], [])
        # Rows that only the second look would refuse (derived, stored) are not reached when the first refuses another.
        assert list(fast.refused) == [0, 1]
        assert fast.refused[0] == fast.refused[1] != []
        assert {row.row_key for row in fast.refused[0]} <= set(slow.refused_keys.values())
    else:
        assert fast.requests == [(0, len(rows)), (1, len(rows))]
        assert fast.bodies == bodies(contract, slow) * 2


LOAN = {"loan_id": 7, "applied_at": 5, "amount": 1.0, "income": 2.0, "term": 36, "grade": "A", "at": 5}


def loan(**changes: Any) -> dict[str, Any]:
    made = {
        "loan_id": np.array([[7]]),
        "applied_at": np.array([[5]]),
        "amount": np.array([[1.0]]),
        "income": np.array([[2.0]]),
        "term": np.array([[36]]),
        "grade": np.array([[b"A"]], object),
        **changes,
    }
    return {name: value for name, value in made.items() if value is not None}


class NoStore:
    def lookup(self, contract: Contract, column: Any, times_us: Any) -> StoredValues:
        nothing = [[None] * len(times_us) for _ in contract.stored]
        return StoredValues(nothing, nothing)


def admit(*requests: dict[str, Any], contract: Contract = CONTRACT, **named: Any) -> Admitted:
    return OnlineContract(contract, **named).admit(requests, NOW, NoStore())


def refusal(request: dict[str, Any], contract: Contract = CONTRACT) -> tuple[str, str, str]:
    admitted = admit(request, contract=contract)
    assert admitted.requests == []
    ((row,),) = admitted.refused.values()
    (why,) = row.refusals
    return why.field, why.rule, why.kind


def test_a_plain_request_is_accepted_and_its_shape_may_lack_the_second_dimension() -> None:
    flat = {name: value.reshape(-1) for name, value in loan().items()}
    assert admit(loan(), flat).requests == [(0, 1), (1, 1)]
    assert len(set(admit(loan(), flat).bodies)) == 1


F32 = np.array([[1.0]], np.float32)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"amount": None}, ("amount", "missing", "no tensor")),
        ({"loan_id": None}, ("loan_id", "missing", "no tensor")),
        ({"income": None, "income.null": np.array([[False]])}, ("income", "missing", "no tensor")),
        ({"salary": F32}, ("salary", "undeclared", "a tensor that the contract does not name")),
        ({"loan_id.null": np.array([[False]])}, ("loan_id.null", "undeclared", "a tensor that the contract does not name")),
        ({"rate": F32}, ("rate", "undeclared", "a tensor that the contract does not name")),
        ({"My name is Ann": F32}, ("(undeclared)", "undeclared", "a tensor that the contract does not name")),
        ({"amount": F32}, ("amount", "type", "a tensor of float32")),
        ({"amount": np.array([["1.0"]], object)}, ("amount", "type", "a tensor of object")),
        ({"amount": [1.0]}, ("amount", "type", "no tensor")),
        ({"term": np.array([[36.0]])}, ("term", "type", "a tensor of float64")),
        ({"applied_at": np.array([[5.0]])}, ("applied_at", "type", "a tensor of float64")),
        ({"loan_id": np.array([[b"7"]], object)}, ("loan_id", "type", "a tensor of object")),
        ({"income.null": np.array([[0]])}, ("income.null", "type", "a tensor of int64")),
        ({"amount": np.ones((1, 2))}, ("amount", "shape", "a tensor of 2 dimensions, not one value a row")),
        ({"amount": np.ones((1, 1, 2))}, ("amount", "shape", "a tensor of 3 dimensions, not one value a row")),
        ({"amount": np.ones((2, 1))}, ("amount", "shape", "another number of rows than the first key")),
        ({"applied_at": np.ones((2, 1), np.int64)}, ("applied_at", "shape", "another number of rows than the first key")),
        ({"income.null": np.array([[True], [True]])}, ("income.null", "shape", "another number of rows than its field")),
        ({"grade": np.array([[b"\xff"]], object)}, ("grade", "utf-8", "a text that is not UTF-8")),
        ({"grade": np.array([["\ud800"]], object)}, ("grade", "utf-8", "a text that is not UTF-8")),
        ({"grade": np.array([[b"x" * 1025]], object)}, ("grade", "length", "a text of more than 1024 bytes")),
        ({"grade": np.array([["é" * 513]], object)}, ("grade", "length", "a text of more than 1024 bytes")),
        ({"grade": np.array([[7]], object)}, ("grade", "type", "a value that is no text")),
        ({"grade": np.array([[b"x" * 1024]], object)}, ("grade", "unknown", "an unknown category")),
        ({"amount": np.array([[math.nan]])}, ("amount", "finite", "not a finite number")),
        ({"applied_at": np.array([[NOW + 1]])}, ("applied_at", "future", "a time after the platform's clock")),
    ],
)  # fmt: skip
def test_a_request_is_refused_by_field_rule_and_kind(change: dict[str, Any], expected: tuple[str, str, str]) -> None:
    assert refusal(loan(**change)) == expected


def test_empty_tensors_are_no_row() -> None:
    empty = {name: value[:0] for name, value in loan().items()}
    assert refusal(empty) == ("loan_id", "shape", "no row")


def test_a_text_key_that_is_no_text_is_refused_and_found_again_by_its_time() -> None:
    contract = replace(CONTRACT, entity_keys=(("branch", "string"),))
    for bad, rule in ((b"\xff", "utf-8"), (b"x" * 1025, "length"), (None, "type")):
        request = loan(loan_id=None, branch=np.array([[bad]], object))
        assert refusal(request, contract)[:2] == ("branch", rule)
        ((row,),) = admit(request, contract=contract).refused.values()
        assert row.row_key == encode_row([("text", None), ("us", 5)])


def test_a_key_of_another_type_is_no_online_key() -> None:
    with pytest.raises(DeclarationError, match="int64 or string"):
        OnlineContract(replace(CONTRACT, entity_keys=(("day", "date"),)))


def test_the_latest_time_that_is_taken_is_now_and_without_a_time_it_is_now() -> None:
    now, none = loan(applied_at=np.array([[NOW]])), loan(applied_at=None)
    admitted = admit(now, none)
    assert admitted.requests == [(0, 1), (1, 1)]
    assert admitted.bodies[0] == admitted.bodies[1]


@pytest.mark.parametrize(
    ("request_", "key"),
    [
        (loan(amount=None), [("i64", 7), ("us", 5)]),
        (loan(amount=None, applied_at=None), [("i64", 7), ("us", None)]),
        (loan(loan_id=np.array([[7.5]])), [("i64", None), ("us", 5)]),
        ({name: np.concatenate([value] * 2) for name, value in loan(amount=None).items()}, [("i64", None), ("us", None)]),
    ],
)  # fmt: skip
def test_a_broken_request_is_found_again_by_the_key_that_it_has(request_: dict[str, Any], key: Any) -> None:
    ((row,),) = admit(request_).refused.values()
    assert row.row_key == encode_row(key)


def test_tensors_of_other_versions_are_ignored_where_they_are_named() -> None:
    request = loan(salary=F32)
    assert admit(request, also=frozenset({"salary"})).requests == [(0, 1)]
    assert admit(request).requests == []


def test_a_refused_request_leaves_the_others_alone() -> None:
    admitted = admit(loan(amount=None), loan(), loan(grade=np.array([[b"Z"]], object)), loan(amount=np.array([[2.0]])))
    assert admitted.requests == [(1, 1), (3, 1)]
    assert admitted.matrix[:, 0].tolist() == [1.0, 2.0]
    assert sorted(admitted.refused) == [0, 2]


def test_entity_keys_are_those_of_the_rows_and_none_of_a_broken_request() -> None:
    compiled = OnlineContract(CONTRACT)
    two = {name: np.concatenate([value] * 2) for name, value in loan(applied_at=np.array([[NOW + 1]])).items()}
    assert compiled.entity_keys(two) == [encode_row([("i64", 7)])] * 2
    assert compiled.entity_keys(loan(amount=None)) is None


def test_stored_features_want_a_store_and_a_younger_one_is_a_leak() -> None:
    with pytest.raises(SchemaMismatch, match="online store"):
        OnlineContract(CONTRACT).admit([loan()], NOW, None)

    class Leaky(NoStore):
        def lookup(self, contract: Contract, column: Any, times_us: Any) -> StoredValues:
            return StoredValues([[0.5], ["north"]], [[5], [6]])

    with pytest.raises(DataError, match=r"region: .* younger"):
        OnlineContract(CONTRACT).admit([loan()], NOW, Leaky())


def test_a_stored_view_is_asked_by_keys_and_inputs_as_received_and_by_nothing_else() -> None:
    asked: dict[str, Any] = {}

    class Asking(NoStore):
        def lookup(self, contract: Contract, column: Any, times_us: Any) -> StoredValues:
            for name in ("loan_id", "grade", "term", "income"):
                asked[name] = column(name)
            with pytest.raises(SchemaMismatch, match="branch"):
                column("branch")
            return super().lookup(contract, column, times_us)

    second = loan(**{"income": None, "income.null": np.array([[True]]), "loan_id": np.array([[8]])})
    OnlineContract(CONTRACT).admit([loan(), second], NOW, Asking())
    assert asked == {"loan_id": [7, 8], "grade": ["A", "A"], "term": [36, 36], "income": [2.0, None]}


ODD = st.one_of(
    st.builds(
        lambda values, dtype, shape: np.resize(np.array(values).astype(dtype), shape),
        st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=4),
        st.sampled_from([np.float64, np.float32, np.int64, np.int32, np.bool_, np.uint8, np.complex128]),
        st.sampled_from([(1, 1), (1,), (), (2, 1), (1, 2), (0, 1), (1, 1, 1), (3,)]),
    ),
    st.lists(st.binary(max_size=3) | st.text(max_size=3) | st.none() | st.integers(), min_size=1, max_size=2).map(
        lambda values: np.array([*values, None], object)[:-1].reshape(-1, 1)
    ),
    st.just(np.array([["A"]])),
    st.sampled_from([None, 1.0, "text", [1.0], b"raw"]),
)
TENSORS = [
    "loan_id",
    "applied_at",
    "amount",
    "income",
    "term",
    "grade",
    "income.null",
    "grade.null",
    "rate",
    "x",
    "",
    "é",
]


@given(st.lists(st.dictionaries(st.sampled_from(TENSORS), ODD, max_size=4), min_size=1, max_size=3))
@settings(max_examples=400, deadline=None)
def test_whatever_is_sent_is_decided_or_refused_and_never_an_error(odd: list[dict[str, Any]]) -> None:
    requests = [loan() | one for one in odd]
    admitted = admit(*requests)
    accepted = {number for number, _ in admitted.requests}
    assert accepted | set(admitted.refused) == set(range(len(requests)))
    assert accepted.isdisjoint(admitted.refused)
    assert len(admitted.bodies) == sum(rows for _, rows in admitted.requests) == len(admitted.matrix)
    assert all(row.refusals for rows in admitted.refused.values() for row in rows)
