"""Tiles: windows answered from pre-aggregates of event time and the exact tail, as rows arrive one after the other.

An entity's rows lie in tiles of event time (a second, a minute, an hour, a day, thirty days, those that the view's
windows can use), each in the next larger one. A window is the largest tiles that are wholly in it and, at its old edge,
the rows of the one smallest tile that is not: so a window of a year over rows of every second reads some hundred
states, and is exact, where other stores move the edge of a window by a tile (Chronon, Airbnb 2023, calls these tiles
and tail hops). A correction or a retraction makes the tiles above it be merged anew.

For state that follows a stream: rows in the order in which they become known, one answer for the present. The past is
answered from change points. States are in memory; whoever holds them for longer keeps the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ml_platform.core.errors import DataError, DeclarationError
from ml_platform.features.aggregations import Aggregation, condition_kinds
from ml_platform.features.expression_scalar import compile_row
from ml_platform.features.partials import EMPTY, State, answered, lifted, merged
from ml_platform.features.source import Source
from ml_platform.features.views import FeatureView

__all__ = ["WindowTiles", "oldest_inside", "tile_widths"]

Row = Mapping[str, Any]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = 1_000_000
_LADDER: Final = (_SECOND, 60 * _SECOND, 3_600 * _SECOND, 86_400 * _SECOND, 30 * 86_400 * _SECOND)
_LONGEST_MONTH_US: Final = 31 * 86_400 * _SECOND


def tile_widths(view: FeatureView) -> tuple[int, ...]:
    """Widths in microseconds, ascending, each a multiple of the one before: none as long as the longest window."""
    longest = max(item.window.microseconds + item.window.months * _LONGEST_MONTH_US for item in view.aggregations)
    return tuple(width for width in _LADDER if 2 * width <= longest) or _LADDER[:1]


def oldest_inside(item: Aggregation, r_us: int) -> int:
    """The oldest event time, in microseconds, that is in the window at r."""
    if not item.window.months:
        return r_us - item.window.microseconds + 1
    outside, inside = r_us - (item.window.months + 1) * _LONGEST_MONTH_US, r_us
    while inside - outside > 1:
        middle = (outside + inside) // 2
        if _leaves(item, middle) > r_us:
            inside = middle
        else:
            outside = middle
    return inside


def _leaves(item: Aggregation, event_us: int) -> int:
    return (item.window.after(_EPOCH + timedelta(microseconds=event_us)) - _EPOCH) // timedelta(microseconds=1)


@dataclass
class _Tile:
    """A span of event time: smaller tiles or, at the bottom, facts; and the states that were merged since a change."""

    tiles: dict[int, _Tile] = field(default_factory=dict)
    facts: dict[Any, tuple[int, tuple[State, ...]]] = field(default_factory=dict)
    states: dict[int, State] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        return not self.tiles and not self.facts

    def state(self, items: Sequence[Aggregation], position: int) -> State:
        if position not in self.states:
            parts = [tile.state(items, position) for tile in self.tiles.values()]
            parts += [states[position] for _, states in self.facts.values()]
            self.states[position] = _merged(items[position], parts)
        return self.states[position]


def _merged(item: Aggregation, parts: Sequence[State]) -> State:
    whole: State = EMPTY
    for part in parts:
        whole = merged(item, whole, part)
    return whole


class WindowTiles:
    """The windows of one view, of all entities whose rows it was given, at the present.

    Not safe for several threads. A fact whose correction is about another entity leaves the one before only if both
    are in the same object: share streams out by what both have.

    Args:
        view: a view with aggregations.

    Raises:
        DeclarationError: the view has no aggregations.
    """

    def __init__(self, view: FeatureView) -> None:
        if not view.aggregations:
            raise DeclarationError("The view has no aggregations.", field=view.name, next_step="Store its last row.")
        self._view = view
        self._widths = tile_widths(view)
        self._conditions = [_condition(item, view.history) for item in view.aggregations]
        self._entities: dict[tuple[Any, ...], _Tile] = {}
        self._versions: dict[Any, tuple[tuple[Any, ...], tuple[Any, ...]]] = {}
        self._now_us: int | None = None

    def apply(self, row: Row) -> None:
        """Takes a version of a fact that has become known; one that is not the newest of its fact changes nothing.

        Args:
            row: all columns of the view's source; times are microseconds.

        Raises:
            DataError: the row was known before another one that was already taken, or holds an integer that float64
                cannot hold; nothing is changed.
        """
        source, event = self._view.history, row[self._view.history.event_time]
        entity = tuple(row[key] for key in self._view.entity.keys)
        gone = None in entity or (source.deleted is not None and bool(row[source.deleted]))
        rank = _rank(source, row)
        states = () if gone else self._lifted(row, rank)
        self._advance(max(event, row[source.known_column]), source.known_column)
        fact = (tuple(row[key] for key in source.keys), event)
        before = self._versions.get(fact)
        if before is not None and before[0] >= rank:
            return
        if before is not None:
            self._remove(before[1], fact)
        self._versions[fact] = rank, entity
        if not gone:
            self._add(entity, fact, states)

    def values(self, key: Sequence[Any], t_us: int) -> dict[str, float | None]:
        """Every feature of an entity at T: as of the last refresh, of which no later row may have been taken.

        Raises:
            DataError: a row that became known after that refresh was already taken.
        """
        refresh = self._view.refresh_us
        r_us = t_us if refresh is None else t_us // refresh * refresh
        self._advance(r_us, "t_us")
        items = self._view.aggregations
        if None in key:
            return {item.feature: None for item in items}
        root = self._entities.get(tuple(key), _Tile())
        return {item.feature: answered(item, self._since(root, n, r_us)) for n, item in enumerate(items)}

    def forget(self, before_us: int) -> int:
        """Lets go of facts with an event time before ``before_us``, which no window may reach again; how many."""
        old = [fact for fact in self._versions if fact[1] < before_us]
        for fact in old:
            self._remove(self._versions.pop(fact)[1], fact)
        return len(old)

    def _advance(self, at_us: int, what: str) -> None:
        if self._now_us is not None and at_us < self._now_us:
            raise DataError(
                "Tiles know the present only, and this is before what they were given.",
                field=what,
                next_step="Give rows in the order in which they become known; ask change points about the past.",
            )
        self._now_us = at_us

    def _lifted(self, row: Row, rank: tuple[Any, ...]) -> tuple[State, ...]:
        pairs = zip(self._view.aggregations, self._conditions, strict=True)
        return tuple(lifted(item, row, rank) if holds(row) else EMPTY for item, holds in pairs)

    def _add(self, entity: tuple[Any, ...], fact: Any, states: tuple[State, ...]) -> None:
        tile = self._entities.setdefault(entity, _Tile())
        tile.states.clear()
        for width in reversed(self._widths):
            tile = tile.tiles.setdefault(fact[1] // width, _Tile())
            tile.states.clear()
        tile.facts[fact] = fact[1], states

    def _remove(self, entity: tuple[Any, ...], fact: Any) -> None:
        way = [self._entities.get(entity)]
        for width in reversed(self._widths):
            way.append(None if way[-1] is None else way[-1].tiles.get(fact[1] // width))
        if way[-1] is None or way[-1].facts.pop(fact, None) is None:
            return  # withdrawn already, or never of an entity
        for tile in way:
            if tile is not None:
                tile.states.clear()
        for width, parent, tile in zip(self._widths, way[-2::-1], way[:0:-1], strict=True):
            if parent is not None and tile is not None and tile.empty:
                del parent.tiles[fact[1] // width]
        if way[0] is not None and way[0].empty:
            del self._entities[entity]

    def _since(self, root: _Tile, position: int, r_us: int) -> State:
        """The state of all rows whose event time is in the window at r; none is later than r."""
        items = self._view.aggregations
        oldest = oldest_inside(items[position], r_us)
        parts: list[State] = []
        edge: _Tile | None = root
        for width in reversed(self._widths):
            if edge is None:
                break
            first = oldest // width
            parts += [tile.state(items, position) for index, tile in edge.tiles.items() if index > first]
            edge = edge.tiles.get(first)
        if edge is not None:
            parts += [states[position] for event, states in edge.facts.values() if event >= oldest]
        return _merged(items[position], parts)


def _rank(source: Source, row: Row) -> tuple[Any, ...]:
    columns = (source.event_time, source.known_column, *source.tie_break, *sorted(source.keys))
    return tuple(row[column] for column in columns)


def _condition(item: Aggregation, source: Source) -> Any:
    if item.condition is None:
        return lambda row: True  # noqa: ARG005 - no condition, every row
    kinds, names = condition_kinds(source.columns), item.condition.columns()
    compiled = compile_row(item.condition.tree, names)

    def holds(row: Row) -> bool:
        texts = (row[name] for name in names)
        values = [
            value if kinds[name] == "category" else float("nan") if value is None else float(value)
            for name, value in zip(names, texts, strict=True)
        ]
        return compiled(values) == 1.0

    return holds
