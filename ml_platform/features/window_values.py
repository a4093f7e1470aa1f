"""What each aggregation is of the rows that are in a window, as they come and go. Pure: columns in, float64 out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.core.errors import DataError
from ml_platform.features import datasketches, ddsketch, sweep
from ml_platform.features.aggregations import Aggregation
from ml_platform.features.expressions import Expression

__all__ = ["dense_ranks", "exact_floats", "holds", "values_of"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_OF_NUMBERS: Final[dict[str, Callable[[sweep.Stay, Floats], Floats]]] = {
    "sum": sweep.sum_of,
    "mean": sweep.mean_of,
    "min": sweep.smallest_of,
    "max": sweep.largest_of,
    "stddev": sweep.deviation_of,
}


def values_of(item: Aggregation, rows: pa.Table, rank: Ints, stay: sweep.Stay, lasting: Bools) -> Floats:
    """The aggregation at each position of ``stay``, NaN where null.

    Args:
        item: bound to the rows' source.
        rows: conformed rows.
        rank: of each row: its place by (event time, known time, tie-break, source keys).
        stay: when each of the ``lasting`` rows is in.
        lasting: bool [rows]: the rows that ever count.
    """
    if item.column is None:
        return sweep.counted(stay).astype(np.float64)
    column = rows.column(item.column)
    if item.function in ("first", "last"):
        end = sweep.first_of if item.function == "first" else sweep.last_of
        return end(stay, rank[lasting], exact_floats(column, item.column)[lasting])
    used = lasting & column.is_valid().to_numpy()
    stay = stay.only(used[lasting])
    if item.when_empty is not None:
        return _number_of(item, stay, column, used)
    values = exact_floats(column, item.column)[used]
    if item.q is not None:
        return ddsketch.represented(sweep.ordered_of(stay, values, item.q))
    return _OF_NUMBERS[item.function](stay, values)


def _number_of(item: Aggregation, stay: sweep.Stay, column: pa.ChunkedArray[Any], used: Bools) -> Floats:
    if item.function == "count":
        return sweep.counted(stay).astype(np.float64)
    if item.function == "distinct":
        return sweep.distinct_of(stay, dense_ranks(column)[used]).astype(np.float64)
    values = datasketches.items(column.filter(pa.array(used)))

    def add(state: Any, rows: list[int]) -> Any:
        return datasketches.with_items(state, (values[row] for row in rows))

    return sweep.folded(stay, datasketches.sketch_of(()), add, datasketches.estimate)


def holds(condition: Expression, rows: pa.Table) -> Bools:
    """The rows of which a condition is certainly true."""
    if rows.num_rows == 0:
        return np.empty(0, np.bool_)
    columns: dict[str, npt.NDArray[Any]] = {}
    for name in condition.columns():
        column = rows.column(name)
        text = pa.types.is_string(column.type)
        columns[name] = np.array(column.to_pylist(), object) if text else exact_floats(column, name)
    return np.broadcast_to(condition.evaluate(columns) == 1.0, rows.num_rows)


def dense_ranks(column: pa.ChunkedArray[Any]) -> Ints:
    """Equal values, equal ranks."""
    ranks: Ints = pc.rank(column, sort_keys="ascending", tiebreaker="dense").to_numpy().astype(np.int64)
    return ranks


def exact_floats(column: pa.ChunkedArray[Any], name: str) -> Floats:
    """A number column as float64, NaN for null.

    Raises:
        DataError: an integer that float64 cannot hold.
    """
    try:
        values: Floats = column.cast(pa.float64()).to_numpy() + 0.0  # one zero: -0.0 and 0.0 are equal values
    except pa.ArrowInvalid:
        raise DataError(
            "An integer is beyond 2^53: float64 cannot hold it.", field=name, next_step="Aggregate a smaller unit."
        ) from None
    return values
