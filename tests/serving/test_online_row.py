"""A whole row as one JSON object: decided as the same tensors are, to the last bit, or refused by field and rule."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core.contract import Contract, ResolvedField
from ml_platform.core.rows import encode_value
from ml_platform.serving.online_contract import OnlineContract
from ml_platform.serving.online_row import LONGEST_ROW, ROW, Faulty, RowField, RowReader
from tests.serving.support import CONTRACT
from tests.serving.test_online_contract import CONTRACTS, NOW, Store, rows_of, tensors


def written(data: st.DataObject, members: dict[str, Any]) -> bytes:
    """The members as one of the many texts that say the same."""
    names = data.draw(st.permutations(list(members)))
    space = data.draw(st.sampled_from(["", " ", "\n\t "]))
    escaped = data.draw(st.booleans())
    parts = []
    for name in names:
        value = members[name]
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**70 and math.copysign(1, value) > 0:
            value = data.draw(st.sampled_from([value, int(value)]))
        said = json.dumps(value, ensure_ascii=escaped)
        parts.append(f"{space}{json.dumps(name)}{space}:{space}{said}")
    return f"{space}{{{','.join(parts)}{space}}}{space}".encode(errors="surrogatepass")


def whole(*rows: Any) -> dict[str, Any]:
    array = np.empty((len(rows), 1), object)
    array[:, 0] = rows
    return {ROW: array}


@given(st.data(), CONTRACTS)
@settings(max_examples=100, deadline=None)
def test_a_row_is_admitted_as_the_same_tensors_are(data: st.DataObject, contract: Contract) -> None:
    rows = data.draw(rows_of(contract))
    rows = list({(row["loan_id"], row["at"]): row for row in rows}.values())
    names = [*(name for name, _ in contract.entity_keys), "at", *(item.name for item in contract.inputs)]
    texts = [written(data, {name: row[name] for name in names}) for row in rows]
    online = OnlineContract(contract)
    by_row = online.admit([whole(text) for text in texts], NOW, Store(rows))
    by_tensors = online.admit([tensors(contract, row, 1) for row in rows], NOW, Store(rows))
    assert by_row.matrix.tobytes() == by_tensors.matrix.tobytes()
    for field in ("requests", "entity_keys", "bodies", "flags", "refused"):
        assert getattr(by_row, field) == getattr(by_tensors, field)
    together = online.admit([whole(*texts)] if texts else [], NOW, Store(rows))
    if not by_row.refused:
        assert (together.bodies, together.matrix.tobytes()) == (by_row.bodies, by_row.matrix.tobytes())
    assert [online.entity_keys(whole(text)) for text in texts] == [
        online.entity_keys(tensors(contract, row, 1)) for row in rows
    ]


FIELDS = [
    RowField("key", "int64"),
    RowField("x", "float64", math.nan, nullable=True),
    RowField("n", "int64", math.nan, nullable=True),
    RowField("s", "string", None, nullable=True),
    RowField("b", "bool", None, nullable=True),
]
READER = RowReader(FIELDS, RowField("at", "int64"), also=frozenset({"other"}))
NUMBERS = st.sampled_from(
    ["0", "-0", "-0.0", "1", "5.0", "1e0", "1E400", "-1e400", "NaN", "Infinity", "-Infinity", "36", "01", "1.", ".5", "+1",
     "0.1", "9007199254740993", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "1" * 400,
     "-9223372036854775809", "18446744073709551615", "18446744073709551616", "123456789012345678901234567890", "1" * 5000,
     "2.5e-324", "1.7976931348623157e308", "8.5e-322", "0.30000000000000004"]
) | st.floats(allow_nan=False, allow_infinity=False).map(repr) | st.integers(-(2**70), 2**70).map(str)  # fmt: skip
TEXTS = st.sampled_from(['"A"', '"a, b"', '"\\ud800"', '"\\u0041"', '"\n"', '""', '"{"', '"é"', '"\\/"', "'A'", '"'])
OTHERS = st.sampled_from(["null", "true", "false", "[]", "[1,2]", "{}", '{"x":1,"x":2}', "True", "", "nul"])
MEMBERS = st.tuples(
    st.sampled_from(["key", "x", "n", "s", "b", "at", "other", "nobody", "x.null", "\\u0078", "Ü,"]),
    NUMBERS | TEXTS | OTHERS,
)


@st.composite
def texts(draw: Any) -> bytes:
    """Nearly good rows, and such that are changed somewhere."""
    good = {"key": "7", "x": draw(NUMBERS), "n": draw(NUMBERS), "s": draw(TEXTS), "b": draw(OTHERS)}
    members = [(name, value) for name, value in good.items() if draw(st.integers(0, 15))]
    members += draw(st.lists(MEMBERS, max_size=2))
    raw = ("{" + ",".join(f'"{name}":{value}' for name, value in members) + "}").encode()
    if draw(st.integers(0, 3)) == 0:
        place = draw(st.integers(0, len(raw)))
        raw = raw[:place] + draw(st.sampled_from([b"", b",", b"}", b"\xff", b"\x00", b" ", b"[", b"\xef\xbb\xbf"])) + raw[
            place + draw(st.integers(0, 2)) :
        ]  # fmt: skip
    return raw


def bits(values: list[Any]) -> list[Any]:
    return [(type(value), value.hex() if isinstance(value, float) else value) for value in values]


@given(texts())
@settings(max_examples=600, deadline=None)
def test_what_the_fast_way_takes_is_what_the_slow_way_makes_of_it(raw: bytes) -> None:
    fast = READER._usual(raw)
    try:
        slow = bits(READER._any(raw))
    except Faulty:
        slow = None
    assert fast is None or bits(fast) == slow


def test_the_fast_way_takes_the_usual_row() -> None:
    for raw in (
        b'{"key":1,"x":2.5,"n":3,"s":"A","b":true}',
        b'{"key":1,"x":2,"n":null,"s":null,"b":null,"at":5,"other":[1]}',
        b'{"key":1,"x":18446744073709551616,"n":-9223372036854775808,"s":"","b":false}',
    ):
        assert READER._usual(raw) is not None, raw
    for raw in (
        b'{"key":1,"x":2.5,"n":3,"s":"A","b":true,"x":2.5}',
        b'{"key":1,"x":2.5,"n":9223372036854775808,"s":"A","b":true}',
        b'{"key":1,"x":2.5,"n":-9223372036854775809,"s":"A","b":true}',
        b'{"key":1,"x":2.5,"n":3,"s":"A","b":true,"at":9223372036854775808}',
        b'{"key":1,"x":2.5,"n":3,"s":"A","b":true,"nobody":1}',
    ):
        assert READER._usual(raw) is None, raw


def test_many_combinations_of_types_do_not_grow_without_end() -> None:
    fields = [RowField("key", "int64"), *(RowField(f"x{place}", "float64", 0.5, nullable=True) for place in range(12))]
    reader = RowReader(fields, RowField("at", "int64"), also=frozenset())
    for number in range(2**12):
        values = {f"x{place}": None if number >> place & 1 else 2.0 for place in range(12)}
        assert reader.read(json.dumps({"key": 1, **values}).encode())[1:-1] == [
            0.5 if value is None else value for value in values.values()
        ]
    assert 0 < len(reader._plans) <= 1024


GOOD = {"loan_id": 7, "applied_at": 5, "amount": 1.0, "income": 2.0, "term": 36, "grade": "A"}


def changed(**changes: Any) -> bytes:
    return json.dumps({name: value for name, value in {**GOOD, **changes}.items() if value is not ...}).encode()


REFUSED: list[tuple[Any, tuple[str, str, str]]] = [
    (changed(amount="1.0"), ("amount", "type", "a text")),
    (changed(amount=True), ("amount", "type", "a boolean")),
    (changed(amount=[1.0]), ("amount", "type", "an object or a list")),
    (changed(amount={"value": 1.0}), ("amount", "type", "an object or a list")),
    (changed(amount=math.nan), ("amount", "finite", "not a finite number")),
    (changed(amount=math.inf), ("amount", "finite", "not a finite number")),
    (changed(amount=10**400), ("amount", "finite", "not a finite number")),
    (changed(amount=10**39), ("amount", "float32", "a number beyond float32")),
    (changed(amount=None), ("amount", "null", "null")),
    (changed(amount=...), ("amount", "missing", "no value")),
    (changed(term=36.0), ("term", "type", "a number that is no integer")),
    (changed(term=2**63), ("term", "type", "an integer beyond 64 bits")),
    (changed(term=False), ("term", "type", "a boolean")),
    (changed(grade=1), ("grade", "type", "an integer")),
    (changed(amount=-(10**400)), ("amount", "finite", "not a finite number")),
    (changed(grade="A" * 1025), ("grade", "length", "a text of more than 1024 bytes")),
    (changed(grade="\ud800"), ("grade", "utf-8", "a text that is not UTF-8")),
    (changed(loan_id=None), ("loan_id", "type", "null")),
    (changed(loan_id=-(2**63) - 1), ("loan_id", "type", "an integer beyond 64 bits")),
    (changed(applied_at=None), ("applied_at", "type", "null")),
    (changed(applied_at="2010-01-01"), ("applied_at", "type", "a text")),
    (changed(applied_at=NOW + 1), ("applied_at", "future", "a time after the platform's clock")),
    (changed(nobody=1), ("nobody", "undeclared", "a name that the contract does not name")),
    (changed(**{"amount.null": False}), ("amount.null", "undeclared", "a name that the contract does not name")),
    (changed(**{"Robert'); --": 1}), ("(undeclared)", "undeclared", "a name that the contract does not name")),
    (changed()[:-1] + b', "amount": 1.0}', ("amount", "duplicate", "a name that stands twice")),
    (changed()[:-1] + b', "am\\u006funt": 2.0}', ("amount", "duplicate", "a name that stands twice")),
    (changed()[:-1], ("row", "json", "a text that is no JSON")),
    (changed() + b"x", ("row", "json", "a text that is no JSON")),
    (b"", ("row", "json", "a text that is no JSON")),
    (b"[" * 100_000, ("row", "json", "a text that is no JSON")),
    (b'{"amount": ' + b"1" * 5_000 + b"}", ("row", "json", "a text that is no JSON")),
    (b"[]", ("row", "json", "JSON that is no object")),
    (b"null", ("row", "json", "JSON that is no object")),
    (b'{"amount": "\xff"}', ("row", "utf-8", "a row that is not UTF-8")),
    (changed().decode().encode("utf-16"), ("row", "utf-8", "a row that is not UTF-8")),
    (changed() + b" " * LONGEST_ROW, ("row", "length", f"a row of more than {LONGEST_ROW} bytes")),
    (7, ("row", "type", "a value that is no text")),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "why"), REFUSED)
def test_what_is_refused_is_named_by_field_rule_and_kind(raw: Any, why: tuple[str, str, str]) -> None:
    admitted = OnlineContract(CONTRACT).admit([whole(raw)], NOW, Nothing())
    (refused,) = admitted.refused[0]
    first = refused.refusals[0]
    assert (first.field, first.rule, first.kind) == why
    assert (admitted.requests, admitted.bodies) == ([], [])


class Nothing:
    """A store that is asked about nothing: every request is refused before, or by what it finds missing."""

    def lookup(self, contract: Contract, column: Any, times_us: Any) -> Any:
        return [[None] * len(times_us) for _ in contract.stored], [[None] * len(times_us) for _ in contract.stored]


def test_the_longest_row_is_taken() -> None:
    raw = changed()
    raw += b" " * (LONGEST_ROW - len(raw))
    assert OnlineContract(CONTRACT).entity_keys(whole(raw)) == [encode_value("i64", 7)]
    assert OnlineContract(CONTRACT).entity_keys(whole(raw + b" ")) is None


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({**whole(changed()), "amount": np.array([[1.0]])}, ("row", "exclusive")),
        ({ROW: np.empty((0, 1), object)}, ("row", "shape")),
        ({ROW: np.array([[changed(), changed()]], object)}, ("row", "shape")),
        ({ROW: np.array([[1.0]])}, ("row", "type")),
        (whole(changed(), changed(amount="x")), ("amount", "type")),
    ],
)
def test_a_request_with_a_row_and_anything_else_is_refused(request_: dict[str, Any], why: tuple[str, str]) -> None:
    admitted = OnlineContract(CONTRACT).admit([request_], NOW, Nothing())
    first = admitted.refused[0][0].refusals[0]
    assert (first.field, first.rule) == why


def test_a_refused_row_is_found_by_what_it_says_of_its_key_and_time() -> None:
    key, time, null = encode_value("i64", 7), encode_value("us", 5), b"\x00"
    for raw, expected in (
        (changed(amount="x"), key + time),
        (changed(loan_id="7"), null + time),
        (changed(applied_at=...), None),
        (changed(amount="x", applied_at=...), key + null),
        (changed(loan_id=..., applied_at=2.5), null + null),
        (b"{", null + null),
    ):
        admitted = OnlineContract(CONTRACT).admit([whole(raw)], NOW, Nothing())
        if expected is not None:
            assert admitted.refused[0][0].row_key == expected
    two = OnlineContract(CONTRACT).admit([whole(changed(), changed(amount="x"))], NOW, Nothing())
    assert two.refused[0][0].row_key == null + null


def test_names_of_other_versions_are_passed_over_and_their_null_companions_are_not() -> None:
    online = OnlineContract(CONTRACT, also=frozenset({"debt", "debt.null"}))
    assert online.entity_keys(whole(changed(debt={"anything": [1]}))) == [encode_value("i64", 7)]
    assert online.entity_keys(whole(changed(**{"debt.null": True}))) is None


def test_a_contract_with_a_field_of_that_name_has_no_whole_rows() -> None:
    field = ResolvedField(ROW, f"v@sha256:00:{ROW}", "input", "number", "float64")
    online = OnlineContract(Contract((("key", "int64"),), "at", (field,)))
    admitted = online.admit([{"key": np.array([[1]]), ROW: np.array([[2.5]])}], NOW, None)
    assert admitted.matrix.tolist() == [[2.5]]
    assert online.admit([whole(b'{"key": 1, "row": 2.5}')], NOW, None).refused[0]


def test_a_reader_refuses_with_faults_alone() -> None:
    with pytest.raises(Faulty) as error:
        READER.read(b"{}")
    assert error.value.args == ("key", "missing", "no value")
