"""Windowed aggregations as change points: when a value changes, and to what.

Each version of a fact counts in a window from the refresh at which it is known to the one at which it is corrected,
withdrawn or too old. A sweep over these intervals gives every change, once. Pure: tables in, tables out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.core.errors import DeclarationError
from ml_platform.core.rows import micros
from ml_platform.features import sweep
from ml_platform.features.aggregations import Aggregation
from ml_platform.features.source import Source
from ml_platform.features.views import FeatureView
from ml_platform.features.window_values import dense_ranks, holds, values_of

__all__ = [
    "NEVER",
    "REFRESHED_AT",
    "aggregate_changes",
    "all_changes",
    "changes_between",
    "changes_of_versions",
    "changes_schema",
    "ends_of_versions",
    "group_codes",
    "micros_of",
    "ranks_of",
]

REFRESHED_AT: Final = "refreshed_at"
NEVER: Final = np.iinfo(np.int64).max // 2
_UTC: Final = pa.timestamp("us", "UTC")

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def aggregate_changes(view: FeatureView, rows: pa.Table, start: datetime | None, end: datetime) -> pa.Table:
    """The change points of a windowed view with ``refreshed_at`` in [start, end), sorted by (time, keys).

    A row says the values of a key from ``refreshed_at`` (a multiple of the view's refresh, if it has one) to its next
    row; values are float64. With ``start``, every key whose windows are not empty has a row at the first refresh from
    ``start`` on, so that the result stands on its own. Only rows with greatest(event, known) up to a refresh are used
    for it.

    Args:
        view: a view with aggregations.
        rows: conformed rows of ``view.history``, in any order; those with a null entity key count nowhere.
        start: aware, or None for everything.
        end: aware.

    Raises:
        DeclarationError: the view has no aggregations.
        DataError: an integer that float64 cannot hold.
    """
    return changes_between(view, all_changes(view, rows), start, end)


def changes_schema(view: FeatureView) -> pa.Schema:
    """Entity keys, ``refreshed_at``, then one float64 column for each feature."""
    history = view.history.arrow_schema()
    keys = [pa.field(key, history.field(key).type, nullable=False) for key in view.entity.keys]
    features = [pa.field(item.feature, pa.float64()) for item in view.aggregations]
    return pa.schema([*keys, pa.field(REFRESHED_AT, _UTC, nullable=False), *features])


def changes_between(view: FeatureView, changes: pa.Table, start: datetime | None, end: datetime) -> pa.Table:
    """Cuts [start, end) out of all change points, with the state that stands at its first refresh."""
    at = micros_of(changes, REFRESHED_AT)
    if start is None:
        return changes.filter(pa.array(at < micros(end)))
    first = int(_up(np.array([micros(start)]), view.refresh_us or 1)[0])
    if first >= micros(end):
        return changes.slice(0, 0)
    keys = list(view.entity.keys)
    numbered = changes.select(keys).append_column("__row", pa.array(np.arange(len(at))))
    newest = numbered.filter(pa.array(at <= first)).group_by(keys, use_threads=False).aggregate([("__row", "max")])
    standing = np.sort(newest.column("__row_max").to_numpy())
    # An empty state is said only when it begins now: an earlier part may say otherwise.
    standing = standing[(at[standing] == first) | ~_empty(view, changes.take(pa.array(standing)))]
    held = changes.take(pa.array(standing))
    position = held.schema.get_field_index(REFRESHED_AT)
    held = held.set_column(
        position, changes.schema.field(REFRESHED_AT), pa.array(np.full(len(standing), first)).cast(_UTC)
    )
    rest = changes.filter(pa.array((at > first) & (at < micros(end))))
    return _ordered(view, pa.concat_tables([held, rest]))


def _empty(view: FeatureView, table: pa.Table) -> npt.NDArray[np.bool_]:
    values = [table.column(item.feature).to_numpy() for item in view.aggregations]
    empty = np.ones(table.num_rows, np.bool_)
    for item, column in zip(view.aggregations, values, strict=True):
        empty &= np.isnan(column) if item.when_empty is None else column == item.when_empty
    return empty


def _ordered(view: FeatureView, table: pa.Table) -> pa.Table:
    names = (REFRESHED_AT, *view.entity.keys)
    return table.take(pc.sort_indices(table, sort_keys=[(name, "ascending") for name in names]))


def micros_of(table: pa.Table, column: str) -> Ints:
    """A time column in microseconds since 1970 UTC."""
    values: Ints = table.column(column).cast(pa.int64()).to_numpy()
    return values


def _up(at: Ints, refresh_us: int) -> Ints:
    """The first multiple of the refresh that is not before ``at``."""
    up: Ints = -(-at // refresh_us) * refresh_us
    return up


def all_changes(view: FeatureView, rows: pa.Table) -> pa.Table:
    """Every change point of a windowed view, sorted by (time, keys); for arguments and errors see above."""
    if not view.aggregations:
        raise DeclarationError("The view has no aggregations.", field=view.name, next_step="Store its rows instead.")
    return changes_of_versions(view, rows, ends_of_versions(view, rows))


def ends_of_versions(view: FeatureView, rows: pa.Table) -> Ints:
    """When the next version of a row's fact is known, microseconds; ``NEVER`` where none is."""
    source = view.history
    event, known = micros_of(rows, source.event_time), micros_of(rows, source.known_column)
    fact_key, _ = group_codes(rows, source.keys)
    ties = [dense_ranks(rows.column(column)) for column in reversed(source.tie_break)]
    order = np.lexsort([*ties, known, event, fact_key])
    same = (fact_key[order][1:] == fact_key[order][:-1]) & (event[order][1:] == event[order][:-1])
    ends = np.full(len(event), NEVER)
    ends[order[:-1][same]] = np.maximum(event, known)[order[1:][same]]
    return ends


def changes_of_versions(view: FeatureView, rows: pa.Table, ends: Ints) -> pa.Table:
    """The change points of the entities in ``rows``, of which all versions are there, given when each one ends.

    For engines that share out the rows by entity: versions of a fact may be about different ones.
    """
    facts = _facts(view, rows, ends)
    stays = [_stay(view, rows, facts, item) for item in view.aggregations]
    grid = _Grid.of(facts.group, [(stay[0], stay[1]) for stay in stays])
    values = [
        values_of(item, rows, facts.rank, grid.stay(facts.group, enter, leave), enter < leave)
        for item, (enter, leave) in zip(view.aggregations, stays, strict=True)
    ]
    return _table(view, facts, grid, values)


@dataclass(frozen=True)
class _Facts:
    """Row by row: entity group, event time, when its version begins and ends to hold, and its rank."""

    group: Ints
    groups: pa.Table
    event: Ints
    begins: Ints
    ends: Ints
    rank: Ints


def _facts(view: FeatureView, rows: pa.Table, ends: Ints) -> _Facts:
    source = view.history
    event, known = micros_of(rows, source.event_time), micros_of(rows, source.known_column)
    refresh = view.refresh_us or 1
    begins = _up(np.maximum(event, known), refresh)
    ends = np.where(ends == NEVER, NEVER, _up(np.minimum(ends, NEVER - refresh), refresh))
    if source.deleted is not None:
        gone = rows.column(source.deleted).fill_null(pa.scalar(value=False)).to_numpy()
        ends = np.where(gone, begins, ends)
    for key in view.entity.keys:
        # A version without an entity counts nowhere, but it still ends the version before it.
        ends = np.where(rows.column(key).is_valid().to_numpy(), ends, begins)
    group, groups = group_codes(rows, view.entity.keys)
    return _Facts(group, groups, event, begins, ends, ranks_of(source, rows))


def ranks_of(source: Source, rows: pa.Table) -> Ints:
    """Each row's place by (event time, known time, tie-break, source keys)."""
    # Sorted: the digest, and a definition rebuilt from it, do not know the declared order of a source's keys.
    fact_key, _ = group_codes(rows, tuple(sorted(source.keys)))
    ties = [dense_ranks(rows.column(column)) for column in reversed(source.tie_break)]
    order = np.lexsort([fact_key, *ties, micros_of(rows, source.known_column), micros_of(rows, source.event_time)])
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank


def group_codes(rows: pa.Table, keys: tuple[str, ...]) -> tuple[Ints, pa.Table]:
    """Each row's number in the sorted distinct keys, and these keys."""
    if rows.num_rows == 0:
        return np.empty(0, np.int64), rows.select(list(keys))
    ranks = [dense_ranks(rows.column(key)) for key in keys]
    order = np.lexsort(ranks[::-1])
    new = np.zeros(len(order), np.bool_)
    for rank in ranks:
        new[1:] |= rank[order][1:] != rank[order][:-1]
    codes = np.empty(len(order), np.int64)
    codes[order] = np.cumsum(new)
    new[0] = True
    return codes, rows.select(list(keys)).take(pa.array(order[new]))


def _stay(view: FeatureView, rows: pa.Table, facts: _Facts, item: Aggregation) -> tuple[Ints, Ints]:
    too_old = _up(item.window.after_us(facts.event), view.refresh_us or 1)
    leave = np.minimum(facts.ends, too_old)
    if item.condition is not None:
        leave = np.where(holds(item.condition, rows), leave, facts.begins)
    return facts.begins, leave


@dataclass(frozen=True)
class _Grid:
    """The (group, instant) pairs at which a row comes or goes, sorted."""

    instants: Ints
    codes: Ints

    @classmethod
    def of(cls, group: Ints, stays: list[tuple[Ints, Ints]]) -> _Grid:
        lasting = [enter < leave for enter, leave in stays]
        times = [part[keep] for (enter, leave), keep in zip(stays, lasting, strict=True) for part in (enter, leave)]
        groups = [group[keep] for keep in lasting for _ in range(2)]
        instants = np.unique(np.concatenate(times))
        codes = np.concatenate(groups) * max(len(instants), 1) + np.searchsorted(instants, np.concatenate(times))
        return cls(instants, np.unique(codes))

    @property
    def group(self) -> Ints:
        group: Ints = self.codes // max(len(self.instants), 1)
        return group

    @property
    def at(self) -> Ints:
        at: Ints = self.instants[self.codes % max(len(self.instants), 1)]
        return at

    def stay(self, group: Ints, enter: Ints, leave: Ints) -> sweep.Stay:
        keep = enter < leave
        base = group[keep] * max(len(self.instants), 1)
        positions = [
            np.searchsorted(self.codes, base + np.searchsorted(self.instants, times[keep])) for times in (enter, leave)
        ]
        return sweep.Stay(positions[0], positions[1], len(self.codes))


def _table(view: FeatureView, facts: _Facts, grid: _Grid, values: list[Floats]) -> pa.Table:
    group, at = grid.group, grid.at
    first = np.ones(len(at), np.bool_)
    first[1:] = group[1:] != group[:-1]
    changed = np.zeros(len(at), np.bool_)
    for item, column in zip(view.aggregations, values, strict=True):
        before = np.where(first, np.nan if item.when_empty is None else item.when_empty, np.roll(column, 1))
        changed |= (column != before) & ~(np.isnan(column) & np.isnan(before))
    schema = changes_schema(view)
    columns = [facts.groups.column(key).take(pa.array(group[changed])) for key in view.entity.keys]
    columns.append(pa.chunked_array([pa.array(at[changed]).cast(_UTC)]))
    columns += [pa.chunked_array([pa.array(column[changed], from_pandas=True)]) for column in values]
    return _ordered(view, pa.Table.from_arrays(columns, schema=schema))
