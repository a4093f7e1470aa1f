"""What a stored feature is, by brute force: slow, obvious, and the judge of every engine.

Nothing here is shared with the engines but the declarations, the parsed conditions and the two sketches' libraries.
Rows are dictionaries; times are integers, microseconds since 1970 UTC.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any, Final

from ml_platform.features import Aggregation, FeatureView, Source, datasketches, ddsketch
from ml_platform.features.aggregations import condition_kinds
from ml_platform.features.expression_scalar import compile_row

__all__ = ["aggregate", "feature_values", "known_at", "window_at"]

Row = Mapping[str, Any]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def feature_values(view: FeatureView, rows: Sequence[Row], key: Sequence[Any], t_us: int) -> dict[str, Any]:
    """Every feature of a view for an entity at a request time T.

    Args:
        view: a feature view.
        rows: all rows of ``view.history`` that were ever delivered, in any order.
        key: the entity's key, in the order of ``view.entity.keys``.
        t_us: the request time.
    """
    if any(part is None for part in key):
        return dict.fromkeys((feature.name for feature in view.features), None)
    r_us = t_us if view.refresh_us is None else t_us // view.refresh_us * view.refresh_us
    mine = [row for row in known_at(view.history, rows, r_us) if _key(row, view.entity.keys) == tuple(key)]
    if view.aggregations:
        return {item.feature: aggregate(item, window_at(item, view.history, mine, r_us)) for item in view.aggregations}
    last = max(mine, key=lambda row: _rank(view.history, row), default=None)
    if last is not None and view.ttl_us is not None and t_us >= last[view.history.event_time] + view.ttl_us:
        last = None
    return {field.name: None if last is None else last[field.name] for field in view.columns}


def known_at(source: Source, rows: Sequence[Row], r_us: int) -> list[Row]:
    """Each fact once, as known at r: its last version by (known time, tie-break), unless that one is withdrawn."""
    newest: dict[Any, Row] = {}
    for row in rows:
        fact = _key(row, source.keys), row[source.event_time]
        if max(row[source.event_time], row[source.known_column]) <= r_us and (
            fact not in newest or _rank(source, row) > _rank(source, newest[fact])
        ):
            newest[fact] = row
    return [row for row in newest.values() if source.deleted is None or not row[source.deleted]]


def window_at(item: Aggregation, source: Source, known: Sequence[Row], r_us: int) -> list[Row]:
    """The rows of a window at r, in the order of their ranks: younger than the window is long, the condition true."""
    inside = [row for row in known if r_us < _leaves(item, row[source.event_time]) and _wanted(item, source, row)]
    return sorted(inside, key=lambda row: _rank(source, row))


def aggregate(item: Aggregation, rows: Sequence[Row]) -> float | None:
    """What an aggregation is of the rows in a window; None where it overflows."""
    if item.column is None:
        return float(len(rows))
    values = [row[item.column] for row in rows]
    if item.function in ("first", "last"):
        return None if not values else _number(values[0 if item.function == "first" else -1])
    present = [value for value in values if value is not None]
    if item.function == "approx_distinct":
        return datasketches.estimate(datasketches.sketch_of(_hashed(value) for value in present))
    if item.when_empty is not None:
        return float(len(present if item.function == "count" else set(present)))
    return _of_numbers(item, sorted(float(value) + 0.0 for value in present)) if present else None


def _of_numbers(item: Aggregation, ascending: Sequence[float]) -> float | None:
    n = len(ascending)
    if item.function in ("min", "max"):
        return ascending[0 if item.function == "min" else -1]
    if item.q is not None:
        return ddsketch.value_of(*ddsketch.bucket(ascending[math.floor(item.q * (n - 1))]))
    exact = [Fraction(value) for value in ascending]
    mean = sum(exact, Fraction()) / n
    try:
        if item.function == "sum":
            return float(mean * n)
        if item.function == "mean":
            return float(mean)
        return None if n == 1 else math.sqrt(float(sum((value - mean) ** 2 for value in exact) / (n - 1)))
    except OverflowError:
        return None


def _key(row: Row, keys: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row[key] for key in keys)


def _rank(source: Source, row: Row) -> tuple[Any, ...]:
    ties = _key(row, source.tie_break)
    return row[source.event_time], row[source.known_column], *ties, *_key(row, sorted(source.keys))


def _leaves(item: Aggregation, event_us: int) -> int:
    after = item.window.after(_EPOCH + timedelta(microseconds=event_us))
    return (after - _EPOCH) // timedelta(microseconds=1)


def _wanted(item: Aggregation, source: Source, row: Row) -> bool:
    if item.condition is None:
        return True
    kinds, names = condition_kinds(source.columns), item.condition.columns()
    values = [row[name] if kinds[name] == "category" else _or_nan(row[name]) for name in names]
    return compile_row(item.condition.tree, names)(values) == 1.0


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _number(value: Any) -> float | None:
    return None if value is None else float(value) + 0.0


def _hashed(value: Any) -> Any:
    if isinstance(value, str):
        return "s" + value
    return int(value) if isinstance(value, bool) else value
