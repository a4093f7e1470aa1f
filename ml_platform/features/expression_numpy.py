"""Derived expressions on whole columns with numpy: float64, NaN is null; booleans are 1, 0 and NaN for unknown."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ml_platform.core.errors import SchemaMismatch

__all__ = ["evaluate"]

Floats = npt.NDArray[np.float64]


def evaluate(tree: dict[str, Any], columns: Mapping[str, npt.NDArray[Any]]) -> Floats:
    """Values of a normalised tree, float64 [n], NaN where null.

    Raises:
        SchemaMismatch: a column that the tree reads is missing.
    """
    rows = len(next(iter(columns.values()))) if columns else 1
    with np.errstate(all="ignore"):
        return np.array(np.broadcast_to(_value(tree, columns, rows), rows), np.float64)


def _value(tree: dict[str, Any], columns: Mapping[str, npt.NDArray[Any]], rows: int) -> Any:
    if "column" in tree:
        return _column(tree["column"], columns)
    if "number" in tree:
        return np.full(rows, float(tree["number"]))
    if tree["op"] == "case":
        return _case(tree, columns, rows)
    if tree["op"] in ("equal", "not_equal") and any("text" in argument for argument in tree["args"]):
        return _text_equal(tree, columns)
    arguments = [_value(argument, columns, rows) for argument in tree["args"]]
    return _OPERATORS[tree["op"]](*arguments)


def _column(name: str, columns: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    if name not in columns:
        raise SchemaMismatch("A column of a derived feature is missing.", field=name, next_step="Deliver it.")
    return columns[name]


def _finite(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, np.nan)


def _compared(test: Callable[[Floats, Floats], npt.NDArray[np.bool_]]) -> Callable[[Floats, Floats], Floats]:
    def compare(left: Floats, right: Floats) -> Floats:
        return np.where(np.isnan(left) | np.isnan(right), np.nan, test(left, right))

    return compare


def _and(left: Floats, right: Floats) -> Floats:
    return np.where((left == 0) | (right == 0), 0.0, left * right)


def _or(left: Floats, right: Floats) -> Floats:
    return np.where((left == 1) | (right == 1), 1.0, left + right)


def _least(*arguments: Floats) -> Floats:
    return reduce(lambda a, b: np.where(np.isnan(a) | np.isnan(b), np.nan, np.where(b < a, b, a)), arguments)


def _greatest(*arguments: Floats) -> Floats:
    return reduce(lambda a, b: np.where(np.isnan(a) | np.isnan(b), np.nan, np.where(b > a, b, a)), arguments)


def _is_null(values: npt.NDArray[Any]) -> Floats:
    if values.dtype == object:
        return np.fromiter((value is None for value in values), np.float64, len(values))
    nan: npt.NDArray[np.bool_] = np.isnan(values)
    return nan.astype(np.float64)


def _ln(values: Floats) -> Floats:
    # The C library's logarithm, as DuckDB has it: numpy's own depends on the vector unit of the processor.
    return np.fromiter((math.log(value) if value > 0 else np.nan for value in values.tolist()), np.float64, len(values))


def _text_equal(tree: dict[str, Any], columns: Mapping[str, npt.NDArray[Any]]) -> Floats:
    literal = next(argument["text"] for argument in tree["args"] if "text" in argument)
    name = next(argument["column"] for argument in tree["args"] if "column" in argument)
    texts = np.asarray(_column(name, columns), object)
    wanted = tree["op"] == "equal"
    return np.fromiter(
        (np.nan if text is None else float((text == literal) == wanted) for text in texts), np.float64, len(texts)
    )


def _case(tree: dict[str, Any], columns: Mapping[str, npt.NDArray[Any]], rows: int) -> Floats:
    otherwise = tree["else"]
    result = np.full(rows, np.nan) if otherwise is None else _value(otherwise, columns, rows)
    for condition, value in reversed(tree["branches"]):
        result = np.where(_value(condition, columns, rows) == 1, _value(value, columns, rows), result)
    return result


_OPERATORS: Final[dict[str, Callable[..., Floats]]] = {
    "add": lambda a, b: _finite(a + b),
    "subtract": lambda a, b: _finite(a - b),
    "multiply": lambda a, b: _finite(a * b),
    "divide": lambda a, b: _finite(a / b),
    "negate": lambda a: -a,
    "abs": np.abs,
    "ln": _ln,
    "least": _least,
    "greatest": _greatest,
    "coalesce": lambda *arguments: reduce(lambda a, b: np.where(np.isnan(a), b, a), arguments),
    "equal": _compared(np.equal),
    "not_equal": _compared(np.not_equal),
    "less": _compared(np.less),
    "less_equal": _compared(np.less_equal),
    "greater": _compared(np.greater),
    "greater_equal": _compared(np.greater_equal),
    "and": _and,
    "or": _or,
    "not": lambda a: 1.0 - a,
    "is_null": _is_null,
}
