"""Which row of an entity is the last one, and from when on, where facts may be withdrawn. Pure: tables in and out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml_platform.features import sweep
from ml_platform.features.source import Source
from ml_platform.features.windows import NEVER, group_codes, micros_of, ranks_of

__all__ = ["held_changes"]

Ints = npt.NDArray[np.int64]


def held_changes(source: Source, rows: pa.Table, ends: Ints) -> pa.Table:
    """The rows of ``source`` that hold in turn, each with the instant ``__at`` from which on it does.

    Where from then on none does, all columns but ``__at`` and the keys are null.

    Args:
        source: says keys, times, tie-break and ``deleted``.
        rows: conformed rows, all versions of each key, in any order; keys are not null.
        ends: when the next version of each row's fact is known, microseconds; ``NEVER`` where none is.
    """
    begins = np.maximum(micros_of(rows, source.event_time), micros_of(rows, source.known_column))
    if source.deleted is not None:
        gone = rows.column(source.deleted).fill_null(pa.scalar(value=False)).to_numpy()
        ends = np.where(gone, begins, ends)
    group, _ = group_codes(rows, source.keys)
    lasting = np.flatnonzero(begins < ends)
    instants = np.unique(np.concatenate([begins[lasting], ends[lasting]]))
    width = max(len(instants), 1)
    starts, stops = (group[lasting] * width + np.searchsorted(instants, times[lasting]) for times in (begins, ends))
    places = np.unique(np.concatenate([starts, stops]))
    stay = sweep.Stay(np.searchsorted(places, starts), np.searchsorted(places, stops), len(places))
    top = sweep.highest(stay, ranks_of(source, rows)[lasting])
    row = np.where(top < 0, -1, lasting[top] if len(lasting) else -1)
    changed = np.ones(len(places), np.bool_)
    changed[1:] = (row[1:] != row[:-1]) | (places[1:] // width != places[:-1] // width)
    changed &= instants[places % width] < NEVER if len(places) else False
    return _table(source, rows, row[changed], places[changed], instants, group)


def _table(source: Source, rows: pa.Table, row: Ints, places: Ints, instants: Ints, group: Ints) -> pa.Table:
    width = max(len(instants), 1)
    first = np.full(int(group.max(initial=-1)) + 1, -1, np.int64)
    first[group[::-1]] = np.arange(len(group))[::-1]
    taken = rows.take(pa.array(row, pa.int64(), mask=row < 0))
    keys = rows.take(pa.array(first[places // width]))
    at = pa.array(instants[places % width] if len(places) else places).cast(pa.timestamp("us", "UTC"))
    columns = {name: (keys if name in source.keys else taken).column(name) for name in rows.column_names}
    return pa.table({"__at": at, **columns})
