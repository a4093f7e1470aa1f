"""Derived expressions as guarded DuckDB SQL: plain numbers and texts in, DOUBLE out, never NaN or infinity.

Infinity is let through sums, products and numerators, where it can only end as infinity or NaN, and turned into null
before anything that could swallow it (a denominator, a comparison, a case). A guard names its operand through a
lambda, so that the SQL grows with the expression and not with its powers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

__all__ = ["compile_sql"]

Arguments = list[dict[str, Any]]
Compiler = Callable[[Arguments], str]

_UNBOUNDED: Final = frozenset({"add", "subtract", "multiply", "divide", "negate", "abs"})
_BOOLEAN: Final = frozenset(
    {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "and", "or", "not", "is_null"}
)


def compile_sql(tree: dict[str, Any]) -> str:
    """One DuckDB expression of type DOUBLE."""
    if tree.get("op") in _BOOLEAN:
        return f"CAST({_raw(tree)} AS DOUBLE)"
    return _guarded(tree)


def _let(operand: str, body: str) -> str:
    return f"list_transform([{operand}], lambda t: {body})[1]"


def _guarded(tree: dict[str, Any]) -> str:
    raw = _raw(tree)
    return _let(raw, "CASE WHEN isfinite(t) THEN t END") if tree.get("op") in _UNBOUNDED else raw


def _raw(tree: dict[str, Any]) -> str:
    if "column" in tree:
        return f"CAST({_identifier(tree['column'])} AS DOUBLE)"
    if "number" in tree:
        return f"CAST('{tree['number']}' AS DOUBLE)"
    if tree["op"] == "case":
        return _case(tree)
    return _COMPILERS[tree["op"]](tree["args"])


def _infix(symbol: str) -> Compiler:
    return lambda arguments: f"({_raw(arguments[0])} {symbol} {_raw(arguments[1])})"


def _divide(arguments: Arguments) -> str:
    return f"({_raw(arguments[0])} / {_guarded(arguments[1])})"


def _comparison(symbol: str) -> Compiler:
    def compiled(arguments: Arguments) -> str:
        text = any("text" in argument for argument in arguments)
        left, right = (_text(argument) if text else _guarded(argument) for argument in arguments)
        return f"({left} {symbol} {right})"

    return compiled


def _is_null(arguments: Arguments) -> str:
    operand = arguments[0]
    return f"({_identifier(operand['column']) if 'column' in operand else _guarded(operand)} IS NULL)"


def _coalesce(arguments: Arguments) -> str:
    return f"coalesce({', '.join(_guarded(argument) for argument in arguments)})"


def _ln(arguments: Arguments) -> str:
    return _let(_guarded(arguments[0]), "CASE WHEN t > 0 THEN ln(t) END")


def _extreme(symbol: str) -> Compiler:
    # SQL's own least and greatest skip nulls; ours do not.
    fold = f"list_reduce(t, lambda a, b: CASE WHEN b {symbol} a THEN b ELSE a END)"

    def compiled(arguments: Arguments) -> str:
        listed = f"[{', '.join(_guarded(argument) for argument in arguments)}]"
        return _let(listed, f"CASE WHEN list_count(t) = {len(arguments)} THEN {fold} END")

    return compiled


def _text(tree: dict[str, Any]) -> str:
    if "text" in tree:
        return "'" + str(tree["text"]).replace("'", "''") + "'"
    return f"CAST({_identifier(tree['column'])} AS VARCHAR)"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _case(tree: dict[str, Any]) -> str:
    branches = " ".join(f"WHEN {_raw(condition)} THEN {_guarded(value)}" for condition, value in tree["branches"])
    otherwise = "NULL" if tree["else"] is None else _guarded(tree["else"])
    return f"CAST(CASE {branches} ELSE {otherwise} END AS DOUBLE)"


_COMPILERS: Final[dict[str, Compiler]] = {
    "add": _infix("+"),
    "subtract": _infix("-"),
    "multiply": _infix("*"),
    "divide": _divide,
    "negate": lambda arguments: f"(-{_raw(arguments[0])})",
    "abs": lambda arguments: f"abs({_raw(arguments[0])})",
    "ln": _ln,
    "least": _extreme("<"),
    "greatest": _extreme(">"),
    "coalesce": _coalesce,
    "equal": _comparison("="),
    "not_equal": _comparison("<>"),
    "less": _comparison("<"),
    "less_equal": _comparison("<="),
    "greater": _comparison(">"),
    "greater_equal": _comparison(">="),
    "and": _infix("AND"),
    "or": _infix("OR"),
    "not": lambda arguments: f"(NOT {_raw(arguments[0])})",
    "is_null": _is_null,
}
