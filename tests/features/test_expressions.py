from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ml_platform.core.digests import canonical_json, parse_canonical
from ml_platform.core.errors import DeclarationError, SchemaMismatch
from ml_platform.features.expressions import Expression, parse

KINDS = {"a": "number", "b": "number", "c": "number", "term": "category"}
BIGGEST = 1.7976931348623157e308
SPECIAL = [None, 0.0, -0.0, 1.0, -1.0, 12.0, 0.1, BIGGEST, -BIGGEST, 5e-324, -5e-324, 2.0**53, 1e200, -1e200]
NUMBER = st.sampled_from(SPECIAL) | st.floats(allow_nan=False, allow_infinity=False)
ROWS = st.lists(st.tuples(NUMBER, NUMBER, NUMBER, st.sampled_from([None, "36", "60", "it's"])), min_size=1, max_size=8)


def numbers(child: Any) -> Any:
    number, boolean = child
    return (
        st.tuples(st.sampled_from("+-*/"), number, number).map(lambda p: f"({p[1]} {p[0]} {p[2]})")
        | st.tuples(st.sampled_from(["abs", "ln", "-"]), number).map(lambda p: f"{p[0]}({p[1]})")
        | st.tuples(st.sampled_from(["least", "greatest", "coalesce"]), st.lists(number, min_size=1, max_size=3)).map(
            lambda p: f"{p[0]}({', '.join(p[1])})"
        )
        | st.tuples(boolean, number, boolean, number, st.none() | number).map(
            lambda p: (
                f"case when {p[0]} then {p[1]} when {p[2]} then {p[3]}" + (f" else {p[4]} end" if p[4] else " end")
            )
        )
    )


def booleans(child: Any) -> Any:
    number, boolean = child
    text = st.sampled_from(["term = '36'", "term <> '60'", "'it''s' = term", "term is null"])
    return (
        text
        | st.tuples(number, st.sampled_from(["=", "<>", "<", "<=", ">", ">="]), number).map(" ".join)
        | st.tuples(boolean, st.sampled_from(["and", "or"]), boolean).map(lambda p: f"({p[0]} {p[1]} {p[2]})")
        | boolean.map(lambda p: f"not ({p})")
        | number.map(lambda p: f"({p}) is not null")
    )


def grown(depth: int) -> tuple[Any, Any]:
    number = st.sampled_from(["a", "b", "c", "0", "1", "12.5", "1e300", "-3", "0.1"])
    boolean = st.sampled_from(["a < b", "term = '60'", "c is null"])
    for _ in range(depth):
        number, boolean = number | numbers((number, boolean)), boolean | booleans((number, boolean))
    return number, boolean


TEXTS = st.one_of(*grown(3))


def columns_of(rows: list[tuple[Any, ...]]) -> dict[str, np.ndarray]:
    by_name = dict(zip("abc", zip(*[row[:3] for row in rows], strict=True), strict=True))
    columns = {name: np.array([np.nan if v is None else v for v in values]) for name, values in by_name.items()}
    return {**columns, "term": np.array([row[3] for row in rows], object)}


@pytest.fixture(scope="module")
def connection() -> Any:
    duckdb = pytest.importorskip("duckdb")
    return duckdb.connect(":memory:", config={"threads": 1})


def by_duckdb(connection: Any, expression: Expression, rows: list[tuple[Any, ...]]) -> np.ndarray:
    connection.execute("CREATE OR REPLACE TABLE rows (n BIGINT, a DOUBLE, b DOUBLE, c DOUBLE, term VARCHAR)")
    connection.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?)", [(n, *row) for n, row in enumerate(rows)])
    query = f"SELECT {expression.duckdb_sql()}, typeof({expression.duckdb_sql()}) FROM rows ORDER BY n"
    got = connection.execute(query).fetchall()
    assert {kind for _, kind in got} == {"DOUBLE"}
    return np.array([math.nan if value is None else value for value, _ in got])


def bits(values: np.ndarray) -> list[int]:
    return values.view(np.int64).tolist()


@given(TEXTS, ROWS)
@example("least(a, b)", [(-0.0, 0.0, None, None)])
@example("greatest(a, b) / c", [(-0.0, 0.0, -0.0, None)])
@example("a * b * 0", [(1e200, 1e200, None, None)])
@example("1 / (a * b)", [(1e200, 1e200, None, None)])
@example("(a * b) > c", [(1e200, 1e200, 0.0, None)])
@example("coalesce(a * b, c)", [(1e200, 1e200, 7.0, None)])
@example("0.0 - a", [(0.0, 0.0, 0.0, None)])
@settings(max_examples=250, deadline=None)
def test_numpy_and_duckdb_agree_bit_for_bit(connection: Any, text: str, rows: Any) -> None:
    expression = parse(text, KINDS)
    ours, theirs = expression.evaluate(columns_of(rows)), by_duckdb(connection, expression, rows)
    assert not np.isinf(ours).any()
    nan = np.isnan(ours)
    assert nan.tolist() == np.isnan(theirs).tolist()
    assert bits(ours[~nan]) == bits(theirs[~nan])


@given(TEXTS)
@settings(max_examples=100, deadline=None)
def test_a_stored_tree_is_the_expression(text: str) -> None:
    expression = parse(text, KINDS)
    stored = parse_canonical(canonical_json(expression.spec()))
    assert Expression.from_spec(stored, KINDS) == expression
    assert set(expression.columns()) <= set(KINDS)


def value(text: str, **columns: float | str | None) -> float | None:
    arrays = {
        name: np.array([item], object)
        if isinstance(item, str) or KINDS[name] == "category"
        else np.array([item], float)
        for name, item in columns.items()
    }
    (result,) = parse(text, KINDS).evaluate(arrays).tolist()
    return None if math.isnan(result) else result


NULL = math.nan


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("a * 12 / b", {"a": 10.0, "b": 60.0}, 2.0),
        ("7 / 2", {}, 3.5),
        ("a / b", {"a": 1.0, "b": 0.0}, None),
        ("a / b", {"a": 0.0, "b": 0.0}, None),
        ("a + b", {"a": 1.0, "b": NULL}, None),
        ("a * 10", {"a": 1e308}, None),
        ("ln(a)", {"a": 0.0}, None),
        ("ln(a)", {"a": -1.0}, None),
        ("ln(a)", {"a": 1.0}, 0.0),
        ("abs(a)", {"a": -2.0}, 2.0),
        ("least(a, b)", {"a": 1.0, "b": 2.0}, 1.0),
        ("greatest(a, b, 3)", {"a": 1.0, "b": 2.0}, 3.0),
        ("least(a, b)", {"a": 1.0, "b": NULL}, None),
        ("greatest(a, b)", {"a": 1.0, "b": NULL}, None),
        ("coalesce(a, b, 3)", {"a": NULL, "b": NULL}, 3.0),
        ("coalesce(a, 3)", {"a": 1.0}, 1.0),
        ("case when a > 1 then 5 end", {"a": 1.0}, None),
        ("case when a >= 1 then 5 end", {"a": 1.0}, 5.0),
        ("case when a < 1 then 5 when a <= 1 then 6 else 7 end", {"a": 1.0}, 6.0),
        ("case when a > 1 then 5 else 6 end", {"a": NULL}, 6.0),
        ("case term when '36' then 3 when '60' then 5 else 0 end", {"term": "60"}, 5.0),
        ("term = '36'", {"term": None}, None),
        ("term <> '36'", {"term": "60"}, 1.0),
        ("term is null", {"term": None}, 1.0),
        ("a is not null", {"a": 1.0}, 1.0),
        ("a > 0 and b > 0", {"a": -1.0, "b": NULL}, 0.0),
        ("a > 0 and b > 0", {"a": 1.0, "b": NULL}, None),
        ("a > 0 or b > 0", {"a": 1.0, "b": NULL}, 1.0),
        ("a > 0 or b > 0", {"a": -1.0, "b": NULL}, None),
        ("not a > 0", {"a": NULL}, None),
        ("not a > 0", {"a": 1.0}, 0.0),
        ("a = 1", {"a": 1.0}, 1.0),
        ("a <> 1", {"a": 1.0}, 0.0),
        ("-a", {"a": 2.0}, -2.0),
        ("a - b - 1", {"a": 5.0, "b": 2.0}, 2.0),
    ],
)
def test_values_are_as_documented(text: str, columns: Any, expected: float | None) -> None:
    assert value(text, **columns) == expected


def test_writing_does_not_matter_and_meaning_does() -> None:
    same = [parse(text, KINDS) for text in ("a * 12 / b", "((A*12.0)/B)", "a\n * 12 -- monthly\n/ b")]
    assert same[0] == same[1] == same[2]
    assert parse("a * (12 / b)", KINDS) != same[0]
    assert parse("a - -1", KINDS).spec()["args"][1] == {"number": "-1.0"}
    assert parse("case term when '36' then 1 end", KINDS) == parse("case when term = '36' then 1 end", KINDS)


@pytest.mark.parametrize(
    "text",
    [
        "a % 2",
        "a // 2",
        "a ^ 2",
        "round(a)",
        "log(a)",
        "sqrt(a)",
        "random()",
        "now()",
        "sum(a)",
        "a in (1, 2)",
        "a between 1 and 2",
        "nullif(a, 1)",
        "a::int",
        "cast(a as int)",
        "true",
        "null",
        "(select 1)",
        "select a",
        "a; b",
        "a is true",
        "term like '3%'",
        "a +",
        "",
        "term",
        "'36'",
        "term + 1",
        "term = a",
        "term < '36'",
        "a = '36'",
        "'36' = '36'",
        "a and b",
        "not a",
        "case when a then 1 end",
        "case when a > 1 then term end",
        "case when a > 1 then 1 else '2' end",
        "(a > 1) + 1",
        "coalesce(term, '36') = '36'",
        "abs(a, b)",
        "1e999",
        "f.a",
    ],
)
def test_everything_else_is_refused_and_what_is_allowed_is_listed(text: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        parse(text, KINDS, field="ratio")
    assert caught.value.field == "ratio"
    if text != "f.a":
        assert "coalesce, abs, least, greatest, ln, is null" in str(caught.value) or "decimal" in str(caught.value)


def test_an_unknown_column_is_refused_and_the_columns_are_listed() -> None:
    with pytest.raises(DeclarationError, match="Choose one of a, b, c, term"):
        parse("income * 2", KINDS)


def test_deep_and_long_texts_are_refused_without_harm() -> None:
    for text in ("(" * 3_000 + "a" + ")" * 900, "abs(" * 60 + "a" + ")" * 60, "a + " * 2_000 + "a"):
        with pytest.raises(DeclarationError):
            parse(text, KINDS)


def test_the_sql_of_nested_divisions_grows_with_the_text_only() -> None:
    expression = parse("a / (b / (c / (a / (b / (c / (a / (b / c)))))))", KINDS)
    assert len(expression.duckdb_sql()) < 2_000


def test_a_tree_that_is_not_of_the_grammar_is_refused() -> None:
    for tree in ({"op": "pow", "args": []}, {"op": "abs", "args": []}, {"column": "x"}, {"text": "36"}, {}):
        with pytest.raises(DeclarationError):
            Expression.from_spec(tree, KINDS)


def test_a_missing_column_is_named_when_evaluated() -> None:
    with pytest.raises(SchemaMismatch) as caught:
        parse("a + b", KINDS).evaluate({"a": np.array([1.0])})
    assert caught.value.field == "b"


@given(st.floats(min_value=1e-300, max_value=1e300))
@settings(max_examples=100, deadline=None)
def test_ln_is_within_an_ulp_of_the_true_value(x: float) -> None:
    from math import ulp

    got = value("ln(a)", a=x)
    assert got is not None
    assert abs(Fraction(got) - Fraction(math.log(x))) <= Fraction(ulp(math.log(x)))
