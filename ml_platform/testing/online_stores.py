"""What every online store must do, whoever wrote it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import pyarrow as pa

from ml_platform.core.errors import Conflict, NotFound, PlatformError
from ml_platform.core.fields import category, number
from ml_platform.features import Entity, FeatureView, SameAsEvent, Source, count
from ml_platform.features.online import AT, EVENT, KEY, ChangePoint, OnlineStore, OnlineValue, answer, key_bytes

__all__ = ["check_online_store"]

_SECOND: Final = 1_000_000
_CUSTOMER: Final = Entity("customer", keys=("name", "branch"))
_ROWS: Final = Source(
    "balances",
    columns={"name": "string", "branch": "int64", "at": "timestamp", "amount": "float64", "visits": "int64",
             "word": "string"},
    keys=("name", "branch"),
    event_time="at",
    known_time=SameAsEvent("the row is the event"),
)  # fmt: skip
# Keys that begin alike, and bytes that a text protocol would stumble over.
_KEYS: Final = [(name, branch) for name in ("", "a", "ab", "a\0", "ä\r\n$1", "[(") for branch in (-1, 0, 1 << 62)]
_Held = dict[bytes, list[ChangePoint]]


def check_online_store(open_store: Callable[[], OnlineStore]) -> None:
    """Holds a store against the promises of ``OnlineStore``, with a scan of all change points as the judge.

    Args:
        open_store: a handle of one store, which is empty at first; called again, another handle of the same store.

    Raises:
        AssertionError: names the promise that is broken.
    """
    store, other = open_store(), open_store()
    try:
        view, late = _view(), _view(refresh="3s", ttl="4s")
        _check_unpublished(store, view)
        _check_values(store, view, 7)
        _check_values(store, late, 11)
        _check_values(store, view, 7)
        _check_one_publication(store, other, view)
        _check_order(store, other, view)
        _check_empty_windows(store)
        _check_forgetting(store, other, view, late)
    finally:
        store.close()
        other.close()


def _view(**options: Any) -> FeatureView:
    columns = (number("amount", nullable=True), number("visits", nullable=True), category("word", nullable=True))
    return FeatureView("balance", entity=_CUSTOMER, source=_ROWS, columns=columns, **options)


def _points(view: FeatureView, step: int) -> tuple[pa.Table, _Held]:
    """Change points of every key, at times before and after 1970, to the microsecond; some hold nothing."""
    held: _Held = {}
    for place, key in enumerate(_KEYS[:-1]):
        raw = key_bytes(view, key) or b""
        for at in range(-3, 4):
            at_us = at * step * _SECOND + place
            values = (
                None if at % 3 == 0 else at * step + 0.1,
                None if at == 1 else (1 << 53) + at,
                None if at % 2 else f"w\0é{at}",
            )
            point = ChangePoint(at_us, None if at == 2 else at_us - place, values if at != 2 else (None,) * 3)
            held.setdefault(raw, []).append(point)
    return _table(view, held), held


def _table(view: FeatureView, held: _Held) -> pa.Table:
    rows = [(key, point) for key, points in held.items() for point in points]
    schema = view.history.arrow_schema()
    columns: dict[str, Any] = {
        KEY: pa.array([key for key, _ in rows], pa.binary()),
        AT: pa.array([point.at_us for _, point in rows], pa.int64()),
        EVENT: pa.array([point.event_us for _, point in rows], pa.int64()),
    }
    for place, item in enumerate(view.features):
        columns[item.name] = pa.array([point.values[place] for _, point in rows], schema.field(item.name).type)
    return pa.table(columns)


def _judge(view: FeatureView, held: _Held, key: bytes | None, t_us: int) -> OnlineValue:
    """The slow, obvious way: of all points of the key the last one not after the last refresh."""
    refresh = view.refresh_us or 1
    before = [point for point in held.get(key or b"", []) if point.at_us <= t_us // refresh * refresh]
    last = max(before, key=lambda point: point.at_us, default=None)
    return answer(view, last, t_us, has_key=key is not None)


def _asked(view: FeatureView, times_us: Sequence[int]) -> list[tuple[bytes | None, int]]:
    keys = [key_bytes(view, key) for key in [*_KEYS, ("unknown", 0), (None, 0)]]
    return [(key, t_us) for key in keys for t_us in times_us]


def _same(store: OnlineStore, view: FeatureView, held: _Held, promise: str) -> None:
    instants = {point.at_us for points in held.values() for point in points}
    asked = _asked(view, sorted({at + shift for at in instants for shift in (-1, 0, 1)}))
    found = store.get(view, [key for key, _ in asked], [t_us for _, t_us in asked])
    _require(found == [_judge(view, held, key, t_us) for key, t_us in asked], promise)


def _check_unpublished(store: OnlineStore, view: FeatureView) -> None:
    _require(store.published_until_us(view) is None, "a view that was never published is complete until no time")
    _raises(lambda: store.get(view, [b"k"], [0]), NotFound, "a view that was never published is an error, not a null")
    _require(store.held() == [], "an empty store holds no view")


def _check_values(store: OnlineStore, view: FeatureView, step: int) -> None:
    table, held = _points(view, step)
    _require(store.publish(view, table, until_us=99 * _SECOND) == table.num_rows, "publish counts change points")
    _require(store.published_until_us(view) == 99 * _SECOND, "what is published is complete until the time given")
    _same(store, view, held, "values and event times are those of the last change point not after the last refresh")
    _require(store.get(view, [], []) == [], "nothing asked, nothing answered")


def _check_one_publication(store: OnlineStore, other: OnlineStore, view: FeatureView) -> None:
    """A publication replaces all of the one before it, also for who had read that."""
    table, held = _points(view, 5)
    few = {key: points for place, (key, points) in enumerate(held.items()) if place % 2}
    other.get(view, [], [])
    store.publish(view, _table(view, few), until_us=100 * _SECOND)
    _same(other, view, few, "a publication replaces the one before it whole, for every reader")
    store.publish(view, table.slice(0, 0), until_us=100 * _SECOND)
    _same(other, view, {}, "a publication without change points answers nothing")
    store.publish(view, table, until_us=100 * _SECOND)
    _same(other, view, held, "a publication may be repeated with the same time")


def _check_order(store: OnlineStore, other: OnlineStore, view: FeatureView) -> None:
    table, held = _points(view, 5)
    old, _ = _points(view, 3)
    store.publish(view, table, until_us=200 * _SECOND)
    promise = "an older publication never replaces a newer one"
    _raises(lambda: other.publish(view, old, until_us=200 * _SECOND - 1), Conflict, promise)
    _require(store.published_until_us(view) == 200 * _SECOND, promise)
    _same(store, view, held, promise)


def _check_empty_windows(store: OnlineStore) -> None:
    counted = FeatureView(
        "visited", entity=_CUSTOMER, source=_ROWS, aggregations=(count(over="1d"), count("word", over="2d")),
        refresh="1s",
    )  # fmt: skip
    keys = [key_bytes(counted, key) for key in (("a", 0), ("ab", 0))]
    held: _Held = {keys[0] or b"": [ChangePoint(0, 0, (1.0, 2.0))]}
    store.publish(counted, _table_of_floats(counted, held), until_us=0)
    found = store.get(counted, [*keys, None], [_SECOND] * 3)
    _require(found[0] == OnlineValue((1.0, 2.0), 0), "a window's values come back")
    _require(found[1] == OnlineValue((0.0, 0.0), None), "a count over an empty window is 0")
    _require(found[2] == OnlineValue((None, None), None), "a count without a key is nothing")


def _table_of_floats(view: FeatureView, held: _Held) -> pa.Table:
    rows = [(key, point) for key, points in held.items() for point in points]
    named = {
        item.name: pa.array([point.values[place] for _, point in rows], pa.float64())
        for place, item in enumerate(view.features)
    }
    return pa.table(
        {
            KEY: pa.array([key for key, _ in rows], pa.binary()),
            AT: pa.array([point.at_us for _, point in rows], pa.int64()),
            EVENT: pa.array([point.event_us for _, point in rows], pa.int64()),
            **named,
        }
    )


def _check_forgetting(store: OnlineStore, other: OnlineStore, view: FeatureView, late: FeatureView) -> None:
    held = {one.table: one for one in store.held()}
    _require({view.table, late.table} <= set(held), "definitions of one view stand side by side")
    _require(list(held) == sorted(held), "what is held is told in the order of table names")
    _require(held[view.table].until_us == store.published_until_us(view), "what is held says until when")
    other.get(view, [], [])
    _require(store.forget(view.table), "what is held can be forgotten")
    _raises(lambda: other.get(view, [b"k"], [0]), NotFound, "what is forgotten is an error for every reader")
    _require(not store.forget(view.table), "what is not held cannot be forgotten")
    _require(store.published_until_us(late) is not None, "forgetting a definition leaves the others")


def _raises(call: Callable[[], object], kind: type[PlatformError], promise: str) -> None:
    try:
        call()
    except kind:
        return
    _require(False, promise)  # noqa: FBT003 - as above


def _require(holds: bool, promise: str) -> None:  # noqa: FBT001 - a condition, as in assert
    if not holds:
        raise AssertionError(f"A promise of an online store is broken: {promise}.")
