"""Windowed aggregations: what is computed over which past, and what it is called."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Self, get_args

from ml_platform.core.durations import Duration
from ml_platform.core.errors import DeclarationError
from ml_platform.core.fields import Field, check_name, number
from ml_platform.features.declaration import check_known
from ml_platform.features.expression_tree import check_condition
from ml_platform.features.expressions import Expression, parse

__all__ = [
    "HLL_LG_K",
    "QUANTILE_ACCURACY",
    "Aggregation",
    "Function",
    "approx_distinct",
    "condition_kinds",
    "count",
    "distinct",
    "first",
    "last",
    "max_",
    "mean",
    "min_",
    "pivot",
    "quantile",
    "stddev",
    "sum_",
]

Function = Literal[
    "count", "sum", "mean", "min", "max", "last", "distinct", "first", "stddev", "quantile", "approx_distinct"
]
HLL_LG_K: Final = 12
QUANTILE_ACCURACY: Final = 0.01
_NUMERIC: Final = ("int64", "float64", "bool")
_COUNTS: Final = ("count", "distinct", "approx_distinct")
# A sketch's kind and size are part of what a value is.
_SKETCHES: Final[dict[str, dict[str, Any]]] = {
    "approx_distinct": {"kind": "hll", "lg_k": HLL_LG_K},
    "quantile": {"kind": "ddsketch", "relative_accuracy": QUANTILE_ACCURACY},
}


@dataclass(frozen=True)
class Aggregation:
    """One feature: a function of a column over the rows with event time in (r − over, r], as known at r.

    A row is in the window from when it is known until event time + over (calendar months too, clamped), as long as
    ``where`` is certainly true of its version that is known. Nulls count for nothing, except for ``first`` and ``last``
    and for ``count`` without a column, which counts rows. ``count``, ``distinct`` and ``approx_distinct`` are 0 for an
    empty window, all others null.

    ``sum`` and ``mean`` are the exact real result rounded once to float64 (so no order of rows and no number of threads
    can change them), null when it overflows; ``stddev`` (of a sample: null under two values) is the square root of the
    variance made in that way. ``first`` and ``last`` are the value, null included, of the first and last row by (event
    time, known time, tie-break, source keys). ``quantile`` is the value at rank floor(q × (n − 1)), counted from 0, as
    a DDSketch of 1 % relative accuracy represents it; ``approx_distinct`` is the composite estimate of a HyperLogLog
    sketch of 2^12 registers, rounded to a whole number: both are functions of the set of values alone, in any order.

    Args:
        function: what is computed.
        over: the window's length.
        column: what it is computed of; ``count`` needs none.
        name: the feature's name; needed with ``where``.
        where: a condition over the source's columns, in the grammar of derived features.
        q: of ``quantile`` only: between 0 and 1.

    Raises:
        DeclarationError: an unknown function, a missing column, a duration that is none or is zero.
    """

    function: Function
    over: str
    column: str | None = None
    name: str | None = None
    where: str | Expression | None = None
    q: float | None = None

    def __post_init__(self) -> None:
        if self.function not in get_args(Function):
            raise DeclarationError(
                "There is no such aggregation.",
                field="function",
                next_step=f"Choose one of {', '.join(get_args(Function))}.",
            )
        if self.column is None and self.function != "count":
            raise DeclarationError(f"{self.function} needs a column.", field="column", next_step="Name a column.")
        if Duration.parse(self.over, field="over").is_zero:
            raise DeclarationError(
                "A window of no length never contains a row.", field="over", next_step='Write over="30d", for example.'
            )
        self._check_quantile()
        if self.where is not None and self.name is None:
            raise DeclarationError(
                "A filtered aggregation needs a name: the default one says nothing of its condition.",
                field="name",
                next_step='Write name="web_amount_30d", for example.',
            )
        check_name(self.feature, field="name")

    def _check_quantile(self) -> None:
        if (self.q is not None) != (self.function == "quantile"):
            raise DeclarationError(
                "quantile needs q, and nothing else takes it.", field="q", next_step="Write quantile(column, 0.95, …)."
            )
        if self.q is not None and not 0 <= self.q <= 1:
            raise DeclarationError("q is between 0 and 1.", field="q", next_step="Write 0.95 for the 95th percentile.")

    @property
    def window(self) -> Duration:
        return Duration.parse(self.over, field="over")

    @property
    def feature(self) -> str:
        """The feature's name; by default column, function and window: ``defaulted_mean_720d``, ``amount_p95_30d``."""
        function = self.function if self.q is None else f"p{100 * self.q:g}".replace(".", "_")
        return self.name or "_".join(part for part in (self.column, function, self.over) if part)

    @property
    def when_empty(self) -> float | None:
        """The value of a window without rows."""
        return 0.0 if self.function in _COUNTS else None

    def field(self) -> Field:
        """The feature as a declared field: a number, null where the function may be."""
        return number(self.feature, nullable=self.when_empty is None)

    @property
    def condition(self) -> Expression | None:
        """The parsed condition, once the aggregation is bound to a source.

        Raises:
            DeclarationError: it is not bound yet.
        """
        if isinstance(self.where, str):
            raise DeclarationError(
                "The condition is not bound to a source.", field=self.feature, next_step="Put it into a FeatureView."
            )
        return self.where

    def bound(self, columns: Mapping[str, str]) -> Self:
        """The same aggregation, its condition parsed for the columns (name to type) of a source.

        Raises:
            DeclarationError: the condition is no condition over these columns.
        """
        kinds = condition_kinds(columns)
        if self.where is None:
            return self
        where = parse(self.where, kinds, field=self.feature) if isinstance(self.where, str) else self.where
        check_condition(where.tree, kinds, self.feature)
        return replace(self, where=where)

    def reads(self) -> tuple[str, ...]:
        """The source columns that the value depends on, besides keys and times."""
        filtered = self.condition.columns() if self.condition else ()
        return tuple(sorted({*filtered, *([self.column] if self.column else [])}))

    def check(self, columns: Mapping[str, str]) -> None:
        """Refuses a column that the source does not have or the function cannot take.

        Raises:
            DeclarationError: names the choices.
        """
        if self.column is None:
            return
        check_known(self.column, columns, field=self.feature)
        kind = columns[self.column]
        if self.function not in _COUNTS and kind not in _NUMERIC:
            raise DeclarationError(
                f"{self.function} cannot take a column of type {kind}.",
                field=self.column,
                next_step=f"Choose a column of type {', '.join(_NUMERIC)}, or a count or distinct.",
            )

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = {"function": self.function, "column": self.column, "over": _canonical(self.window)}
        # What is not used is not said: definitions from before these existed keep their digests.
        condition = self.condition
        document |= {} if condition is None else {"where": condition.spec()}
        document |= {} if self.q is None else {"q": float(self.q)}
        sketch = _SKETCHES.get(self.function)
        return document if sketch is None else {**document, "sketch": dict(sketch)}

    @classmethod
    def from_document(cls, feature: str, document: Mapping[str, Any], over: str) -> Self:
        """The aggregation of a canonical form; ``over`` is its window as text.

        Raises:
            DeclarationError: it asks for a sketch that this version of the library does not make.
        """
        if document.get("sketch") != _SKETCHES.get(document["function"]):
            raise DeclarationError(
                "The stored definition asks for another sketch.", field=feature, next_step="Use the library's version."
            )
        where = Expression(dict(document["where"])) if "where" in document else None
        return cls(document["function"], over, document["column"], feature, where, document.get("q"))


def condition_kinds(columns: Mapping[str, str]) -> dict[str, str]:
    """The columns that a condition may read: numbers, texts, and truth values, which are conditions themselves."""
    kinds = {"int64": "number", "float64": "number", "bool": "boolean", "string": "category"}
    return {name: kinds[kind] for name, kind in columns.items() if kind in kinds}


def _canonical(duration: Duration) -> dict[str, int]:
    # "24h" and "1d" are the same window.
    return {"months": duration.months, "microseconds": duration.microseconds}


def count(column: str | None = None, *, over: str, name: str | None = None, where: str | None = None) -> Aggregation:
    """Rows in the window, or values of a column that are not null."""
    return Aggregation("count", over, column, name, where)


def sum_(column: str, *, over: str, name: str | None = None, where: str | None = None) -> Aggregation:
    """The exact sum of the values that are not null, rounded once."""
    return Aggregation("sum", over, column, name, where)


def mean(column: str, *, over: str, name: str | None = None, where: str | None = None) -> Aggregation:
    """The exact mean of the values that are not null, rounded once."""
    return Aggregation("mean", over, column, name, where)


def min_(column: str, *, over: str, name: str | None = None, where: str | None = None) -> Aggregation:
    """The smallest value."""
    return Aggregation("min", over, column, name, where)


def max_(column: str, *, over: str, name: str | None = None, where: str | None = None) -> Aggregation:
    """The largest value."""
    return Aggregation("max", over, column, name, where)


def last(column: str, *, over: str, name: str | None = None, where: str | None = None) -> Aggregation:
    """The value of the last row by (event time, known time, tie-break)."""
    return Aggregation("last", over, column, name, where)


def distinct(column: str, *, over: str, name: str | None = None, where: str | None = None) -> Aggregation:
    """How many different values that are not null."""
    return Aggregation("distinct", over, column, name, where)


def first(column: str, *, over: str, name: str | None = None, where: str | None = None) -> Aggregation:
    """The value of the first row by (event time, known time, tie-break) that is still in the window."""
    return Aggregation("first", over, column, name, where)


def stddev(column: str, *, over: str, name: str | None = None, where: str | None = None) -> Aggregation:
    """The standard deviation of the values as a sample; null under two values."""
    return Aggregation("stddev", over, column, name, where)


def quantile(column: str, q: float, *, over: str, name: str | None = None, where: str | None = None) -> Aggregation:
    """The value at rank floor(q × (n − 1)), within 1 % of itself (DDSketch). Needs the extra ``sketches``."""
    return Aggregation("quantile", over, column, name, where, q)


def approx_distinct(column: str, *, over: str, name: str | None = None, where: str | None = None) -> Aggregation:
    """About how many different values: 1.6 % standard error (HyperLogLog). Needs the extra ``sketches``."""
    return Aggregation("approx_distinct", over, column, name, where)


def pivot(column: str, values: Sequence[str | int], *aggregations: Aggregation) -> tuple[Aggregation, ...]:
    """Aggregations by a secondary key: one of each for each declared value of ``column``, such as ``…_30d_web``.

    The values are declared, so that a model's features have a fixed number. For a secondary key with open values, use
    an entity with two keys.

    >>> [item.feature for item in pivot("channel", ("web", "branch"), count(over="30d"))]
    ['count_30d_web', 'count_30d_branch']

    Raises:
        DeclarationError: no value, or one whose name would be none.
    """
    if isinstance(values, str) or not values:
        raise DeclarationError("pivot needs values.", field="values", next_step='Write ("web", "branch").')
    return tuple(_only(item, column, value) for item in aggregations for value in values)


def _only(item: Aggregation, column: str, value: str | int) -> Aggregation:
    literal = str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"
    condition = f"{column} = {literal}"
    if isinstance(value, bool):
        condition = column if value else f"not {column}"
    if isinstance(item.where, Expression):
        raise DeclarationError(
            "The aggregation is bound to a source.", field=item.feature, next_step="Pivot what is not in a view yet."
        )
    where = condition if item.where is None else f"({item.where}) and {condition}"
    suffix = re.sub("[^a-z0-9]+", "_", str(value).lower()).strip("_")
    return replace(item, name=f"{item.feature}_{suffix}", where=where)
