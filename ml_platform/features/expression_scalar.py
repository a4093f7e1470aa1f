"""Derived expressions for one row at a time, in plain Python floats: the same bits as ``expression_numpy``.

An online request is a handful of rows; arrays would cost a hundred times the arithmetic. NaN is null; a row is a
sequence of values in the order of ``columns``: floats (NaN for null), and texts or None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ml_platform.core.errors import SchemaMismatch

__all__ = ["compile_row"]

Row = Sequence[Any]
Value = Callable[[Row], float]
_NAN: Final = math.nan


def compile_row(tree: Mapping[str, Any], columns: Sequence[str]) -> Value:
    """A function of a row's values that gives the tree's: NaN where null, no infinity.

    Args:
        tree: a normalised tree that was checked.
        columns: what stands where in a row.

    Raises:
        SchemaMismatch: a column that the tree reads is missing.
    """
    places = {name: place for place, name in enumerate(columns)}
    return _compiled(tree, places)


def _compiled(tree: Mapping[str, Any], places: Mapping[str, int]) -> Value:
    if "column" in tree:
        place = _place(tree, places)
        return lambda row: row[place]
    if "number" in tree:
        number = float(tree["number"])
        return lambda row: number  # noqa: ARG005 - every value is a function of the row
    if tree["op"] == "case":
        return _case(tree, places)
    if any("text" in argument for argument in tree["args"]):
        return _text_equal(tree, places)
    return _operation(tree["op"], [_compiled(argument, places) for argument in tree["args"]])


def _operation(op: str, arguments: Sequence[Value]) -> Value:
    if op == "is_null":
        return _is_null(arguments[0])
    operator = _OPERATORS[op]
    if op in _FOLDED:
        return _folded(operator, arguments)
    if len(arguments) == 1:
        (only,) = arguments
        return lambda row: operator(only(row))
    left, right = arguments
    return lambda row: operator(left(row), right(row))


def _place(tree: Mapping[str, Any], places: Mapping[str, int]) -> int:
    name = tree["column"]
    if name not in places:
        raise SchemaMismatch("A column of a derived feature is missing.", field=name, next_step="Deliver it.")
    return places[name]


def _finite(value: float) -> float:
    return value if math.isfinite(value) else _NAN


def _divide(left: float, right: float) -> float:
    return _finite(left / right) if right else _NAN


def _compared(test: Callable[[float, float], bool]) -> Callable[[float, float], float]:
    def compare(left: float, right: float) -> float:
        if left != left or right != right:  # noqa: PLR0124 - NaN
            return _NAN
        return 1.0 if test(left, right) else 0.0

    return compare


def _and(left: float, right: float) -> float:
    return 0.0 if left == 0 or right == 0 else left * right


def _or(left: float, right: float) -> float:
    return 1.0 if left == 1 or right == 1 else left + right


def _least(left: float, right: float) -> float:
    if left != left or right != right:  # noqa: PLR0124 - NaN
        return _NAN
    return right if right < left else left


def _greatest(left: float, right: float) -> float:
    if left != left or right != right:  # noqa: PLR0124 - NaN
        return _NAN
    return right if right > left else left


def _coalesce(left: float, right: float) -> float:
    return right if left != left else left  # noqa: PLR0124 - NaN


def _folded(operator: Callable[..., float], compiled: Sequence[Value]) -> Value:
    first, *others = compiled

    def fold(row: Row) -> float:
        value = first(row)
        for other in others:
            value = operator(value, other(row))
        return value

    return fold


def _is_null(operand: Callable[[Row], Any]) -> Value:
    def is_null(row: Row) -> float:
        value = operand(row)
        return 1.0 if value is None or value != value else 0.0  # noqa: PLR0124 - NaN

    return is_null


def _text_equal(tree: Mapping[str, Any], places: Mapping[str, int]) -> Value:
    literal = next(argument["text"] for argument in tree["args"] if "text" in argument)
    place = _place(next(argument for argument in tree["args"] if "column" in argument), places)
    wanted = tree["op"] == "equal"

    def equal(row: Row) -> float:
        text = row[place]
        return _NAN if text is None else float((text == literal) == wanted)

    return equal


def _case(tree: Mapping[str, Any], places: Mapping[str, int]) -> Value:
    branches = [(_compiled(condition, places), _compiled(value, places)) for condition, value in tree["branches"]]
    otherwise = (lambda row: _NAN) if tree["else"] is None else _compiled(tree["else"], places)  # noqa: ARG005

    def case(row: Row) -> float:
        for condition, value in branches:
            if condition(row) == 1:
                return value(row)
        return otherwise(row)

    return case


_FOLDED: Final = frozenset({"least", "greatest", "coalesce"})
_OPERATORS: Final[dict[str, Callable[..., float]]] = {
    "add": lambda a, b: _finite(a + b),
    "subtract": lambda a, b: _finite(a - b),
    "multiply": lambda a, b: _finite(a * b),
    "divide": _divide,
    "negate": lambda a: -a,
    "abs": abs,
    "ln": lambda a: math.log(a) if a > 0 else _NAN,
    "least": _least,
    "greatest": _greatest,
    "coalesce": _coalesce,
    "equal": _compared(lambda a, b: a == b),
    "not_equal": _compared(lambda a, b: a != b),
    "less": _compared(lambda a, b: a < b),
    "less_equal": _compared(lambda a, b: a <= b),
    "greater": _compared(lambda a, b: a > b),
    "greater_equal": _compared(lambda a, b: a >= b),
    "and": _and,
    "or": _or,
    "not": lambda a: 1.0 - a,
}
