"""Windowed aggregations: what is computed over which past, and what it is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from ml_platform.core.durations import Duration
from ml_platform.core.errors import DeclarationError
from ml_platform.core.fields import Field, check_name, number
from ml_platform.features.declaration import check_known

__all__ = ["Aggregation", "Function", "count", "distinct", "last", "max_", "mean", "min_", "sum_"]

Function = Literal["count", "sum", "mean", "min", "max", "last", "distinct"]
_NUMERIC: Final = ("int64", "float64", "bool")


@dataclass(frozen=True)
class Aggregation:
    """One feature: a function of a column over the rows with event time in (r − over, r], as known at r.

    A row is in the window from when it is known until event time + over (calendar months too, clamped).
    ``count`` without a column counts rows, with one its values that are not null; ``distinct`` counts different values
    that are not null; both are 0 for an empty window, all others null. ``sum`` and ``mean`` are the exact real result
    rounded once to float64 (so no order of rows and no number of threads can change them), null when it overflows;
    ``last`` is the value, null included, of the last row by (event time, known time, tie-break,
    source keys).

    Raises:
        DeclarationError: an unknown function, a missing column, a duration that is none or is zero.
    """

    function: Function
    over: str
    column: str | None = None
    name: str | None = None

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
        check_name(self.feature, field="name")

    @property
    def window(self) -> Duration:
        return Duration.parse(self.over, field="over")

    @property
    def feature(self) -> str:
        """The feature's name; by default column, function and window: ``defaulted_mean_720d``."""
        return self.name or "_".join(part for part in (self.column, self.function, self.over) if part)

    @property
    def when_empty(self) -> float | None:
        """The value of a window without rows."""
        return 0.0 if self.function in ("count", "distinct") else None

    def field(self) -> Field:
        """The feature as a declared field: a number, null where the function may be."""
        return number(self.feature, nullable=self.when_empty is None)

    def check(self, columns: Mapping[str, str]) -> None:
        """Refuses a column that the source does not have or the function cannot take.

        Raises:
            DeclarationError: names the choices.
        """
        if self.column is None:
            return
        check_known(self.column, columns, field=self.feature)
        kind = columns[self.column]
        if self.function not in ("count", "distinct") and kind not in _NUMERIC:
            raise DeclarationError(
                f"{self.function} cannot take a column of type {kind}.",
                field=self.column,
                next_step=f"Choose a column of type {', '.join(_NUMERIC)}, or count or distinct.",
            )

    def document(self) -> dict[str, Any]:
        return {"function": self.function, "column": self.column, "over": _canonical(self.window)}


def _canonical(duration: Duration) -> dict[str, int]:
    # "24h" and "1d" are the same window.
    return {"months": duration.months, "microseconds": duration.microseconds}


def count(column: str | None = None, *, over: str, name: str | None = None) -> Aggregation:
    """Rows in the window, or values of a column that are not null."""
    return Aggregation("count", over, column, name)


def sum_(column: str, *, over: str, name: str | None = None) -> Aggregation:
    """The exact sum of the values that are not null, rounded once."""
    return Aggregation("sum", over, column, name)


def mean(column: str, *, over: str, name: str | None = None) -> Aggregation:
    """The exact mean of the values that are not null, rounded once."""
    return Aggregation("mean", over, column, name)


def min_(column: str, *, over: str, name: str | None = None) -> Aggregation:
    """The smallest value."""
    return Aggregation("min", over, column, name)


def max_(column: str, *, over: str, name: str | None = None) -> Aggregation:
    """The largest value."""
    return Aggregation("max", over, column, name)


def last(column: str, *, over: str, name: str | None = None) -> Aggregation:
    """The value of the last row by (event time, known time, tie-break)."""
    return Aggregation("last", over, column, name)


def distinct(column: str, *, over: str, name: str | None = None) -> Aggregation:
    """How many different values that are not null."""
    return Aggregation("distinct", over, column, name)
