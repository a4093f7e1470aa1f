"""Which requests are mature, and what their labels are: vectorised, with the brute force in the tests as its judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.core.errors import LabelError
from ml_platform.core.rows import micros
from ml_platform.datasets.labels import MATURED_AT, Label
from ml_platform.features.source import Source

__all__ = ["IMMATURE", "REASON", "LabelledRows", "label_rows", "left_out_rows", "ordered"]

IMMATURE = "immature"
REASON = "reason"
_UTC = pa.timestamp("us", "UTC")
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LabelledRows:
    """The requests known at the as-of time, once each, ordered by (time, keys).

    Attributes:
        mature: the request source's columns, the label (int64 for ``event_within``, float64 for ``value``) and
            ``matured_at``.
        left_out: entity keys, time, ``reason`` (``immature``).
    """

    mature: pa.Table
    left_out: pa.Table


def label_rows(label: Label, rows: pa.Table, outcomes: pa.Table, as_of: datetime) -> LabelledRows:
    """Labels every request that is mature at ``as_of``, with what was known at its maturity.

    A request delivered several times (same key and time) is one row: the last delivery known at its time, or, where
    nothing was known so early, the first; a request withdrawn by ``as_of`` is none. Rows known after ``as_of`` do not
    exist. Where a subject has several requests, outcomes known before a later request do not count for it.

    Args:
        label: the declaration.
        rows: the stored rows of ``label.rows.source``.
        outcomes: the stored rows of ``label.outcome``.
        as_of: aware.

    Raises:
        LabelError: an outcome was known before the first request of its subject, or a ``value`` is unknown at maturity.
        DataError: rows that break their source's declaration.
    """
    as_of_us = micros(as_of)
    source = label.rows.source
    delivered, known = source.conform(rows), label.outcome.conform(outcomes)
    requests = ordered(_requests(source, delivered, label, as_of_us), label.rows.time, label.rows.entity.keys)
    known = known.filter(pa.array(_us(known, label.outcome.known_column) <= as_of_us))
    start = _us(requests, label.rows.time)
    matured = label.lag_duration.after_us(label.horizon_duration.after_us(start))
    subject, owner = _codes([requests, known], label.rows.entity.keys)
    _refuse_early(label, start, subject, _us(known, label.outcome.known_column), owner)
    mature = matured <= as_of_us
    found = _outcomes(label, known, owner, subject[mature], start[mature], matured[mature])
    kept = requests.filter(pa.array(mature))
    labelled = kept.append_column(label.column, _values(label, known, found)).append_column(
        MATURED_AT, pa.array(matured[mature], _UTC)
    )
    return LabelledRows(labelled, left_out_rows(requests.filter(pa.array(~mature)), label, IMMATURE))


def left_out_rows(rows: pa.Table, label: Label, reason: str) -> pa.Table:
    """Entity keys, time and one reason, of requests that do not count."""
    identity = rows.select([*label.rows.entity.keys, label.rows.time])
    return identity.append_column(REASON, pa.repeat(pa.scalar(reason), rows.num_rows))


def ordered(table: pa.Table, time: str, keys: Sequence[str]) -> pa.Table:
    """The table in the order of training: by (time, keys); texts by their UTF-8 bytes."""
    by: list[tuple[str, Any]] = [(name, "ascending") for name in (time, *keys)]
    return table.take(pc.sort_indices(table, sort_keys=by)).combine_chunks()


def _us(table: pa.Table, name: str) -> Ints:
    values: Ints = table.column(name).cast(_UTC).cast(pa.int64()).to_numpy()
    return values


def _flag(table: pa.Table, name: str | None) -> Mask:
    if name is None:
        return np.zeros(table.num_rows, np.bool_)
    # A null flag is no withdrawal.
    return np.asarray([flag is True for flag in table.column(name).to_pylist()], np.bool_)


def _ranks(table: pa.Table, names: Sequence[str]) -> list[Ints]:
    return [np.asarray(pc.rank(table.column(name), tiebreaker="dense")).astype(np.int64) for name in names]


def _codes(tables: Sequence[pa.Table], keys: Sequence[str]) -> list[Ints]:
    """One number for each distinct key, the same in all tables."""
    code = np.zeros(sum(table.num_rows for table in tables), np.int64)
    for key in keys:
        chunks = [chunk for table in tables for chunk in table.column(key).chunks]
        column = pa.chunked_array(chunks, tables[0].schema.field(key).type)
        ranks = np.asarray(pc.rank(column, tiebreaker="dense")).astype(np.int64)
        code = np.unique(code * (len(code) + 1) + ranks, return_inverse=True)[1].astype(np.int64)
    return np.split(code, np.cumsum([table.num_rows for table in tables])[:-1])


def _last_of_run(*columns: Ints) -> Mask:
    """True where the next row differs in a column, and for the last row; equal rows lie together."""
    rows = len(columns[0])
    last = np.ones(rows, np.bool_)
    if rows:
        last[:-1] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return last


def _requests(source: Source, table: pa.Table, label: Label, as_of_us: int) -> pa.Table:
    """One delivery a request: see ``label_rows``."""
    table = table.filter(pa.array(_us(table, source.known_column) <= as_of_us))
    (subject,) = _codes([table], label.rows.entity.keys)
    time, known = _us(table, label.rows.time), _us(table, source.known_column)
    order = np.lexsort((*reversed(_ranks(table, source.tie_break)), known, time, subject))
    last = _last_of_run(subject[order], time[order])
    run = np.cumsum(np.concatenate([[0], last[:-1]])) if len(last) else np.empty(0, np.int64)
    deleted = _flag(table, source.deleted)[order]
    live = ~deleted & ~deleted[last][run]
    order, run = order[live], run[live]
    _, first, again = np.unique(run, return_index=True, return_inverse=True)
    early = known[order] <= np.maximum(time[order], known[order][first][again])
    order, run = order[early], run[early]
    return table.take(pa.array(order[_last_of_run(run)]))


def _refuse_early(label: Label, start: Ints, subject: Ints, known: Ints, owner: Ints) -> None:
    size = max(subject.max(initial=-1), owner.max(initial=-1)) + 1
    first = np.full(size, np.iinfo(np.int64).min)
    has_request = np.zeros(size, np.bool_)
    has_request[subject] = True
    first[has_request] = np.iinfo(np.int64).max
    np.minimum.at(first, subject, start)
    early = int(np.count_nonzero(known < first[owner]))
    if early:
        raise LabelError(
            f"{early} outcome rows were known before the first request of their subject.",
            field=label.outcome.known_column,
            next_step="Check both times: a label cannot be known before its event; deliver corrected rows.",
        )


def _outcomes(label: Label, known: pa.Table, owner: Ints, subject: Ints, start: Ints, matured: Ints) -> Ints:
    """Of each mature request, the row of ``known`` that is its outcome at maturity; −1 where there is none."""
    event, at = _us(known, label.outcome.event_time), _us(known, label.outcome.known_column)
    order = np.lexsort((*reversed(_ranks(known, label.outcome.tie_break)), at, event, owner))
    low = np.searchsorted(owner[order], subject, "left")
    counts = np.searchsorted(owner[order], subject, "right") - low
    request = np.repeat(np.arange(len(subject)), counts)
    within = np.arange(len(request)) - np.repeat(np.cumsum(counts) - counts, counts)
    row = order[np.repeat(low, counts) + within]
    in_time = (at[row] >= start[request]) & (at[row] <= matured[request])
    request, row = request[in_time], row[in_time]
    standing = _last_of_run(request, event[row])
    request, row = request[standing], row[standing]
    present = ~_flag(known, label.outcome.deleted)[row]
    request, row = request[present], row[present]
    newest = _last_of_run(request)
    result = np.full(len(subject), -1)
    result[request[newest]] = row[newest]
    return result


def _values(label: Label, known: pa.Table, found: Ints) -> pa.Array[Any]:
    rows: Any = pa.array(found, mask=found < 0)
    values: pa.Array[Any] = known.column(label.column).cast(pa.float64()).combine_chunks().take(rows)
    if label.kind == "event_within":
        happened = np.nan_to_num(np.asarray(values.to_numpy(zero_copy_only=False), np.float64)) != 0  # null is NaN here
        return pa.array(happened.astype(np.int64), pa.int64())
    if values.null_count:
        raise LabelError(
            f"The value of {values.null_count} of {len(values)} mature rows is unknown at maturity.",
            field=label.column,
            next_step="Lengthen the lag, withdraw requests that have no value, or declare kind='event_within'.",
        )
    return values
