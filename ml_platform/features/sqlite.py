"""The embedded online store: change points in one SQLite file, read by routers in one look-up a batch."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from ml_platform.core.errors import Conflict, NotFound, StorageFailed
from ml_platform.features.online import AT, EVENT, KEY, ChangePoint, HeldView, OnlineValue, answer
from ml_platform.features.views import FeatureView

__all__ = ["SqliteOnlineStore"]

_SCHEMA: Final = """
create table if not exists points (
    view text not null,
    key blob not null,
    at_us integer not null,
    event_us integer,
    held text not null,
    primary key (view, key, at_us)
) without rowid;
create table if not exists views (
    view text primary key,
    until_us integer not null,
    points integer not null
) without rowid;
"""
_LAST: Final = (
    "select at_us, event_us, held from points where view = ? and key = ? and at_us <= ? order by at_us desc limit 1"
)
_BATCH: Final = 10_000


class SqliteOnlineStore:
    """One file for all views of a root; a view's rows bear its table name, so definitions live side by side.

    One writer replaces a view in one transaction; readers see the old or the new whole. Safe for several threads.

    Args:
        path: the file; made with its folder when first written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._reading: sqlite3.Connection | None = None

    def __repr__(self) -> str:
        return f"SqliteOnlineStore({self._path.name!r})"

    def close(self) -> None:
        """Lets go of the file."""
        with self._lock:
            if self._reading is not None:
                self._reading.close()
                self._reading = None

    def publish(self, view: FeatureView, points: pa.Table, *, until_us: int) -> int:
        """Replaces what is held of a view, all at once; returns how many change points there are now.

        Raises:
            Conflict: a newer publication is held; nothing was changed.
            StorageFailed: the disk is full or the file broken; what was held is held.
        """
        names = [item.name for item in view.features]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = self._connect()
        except (OSError, sqlite3.Error) as error:
            raise _failed(error) from error
        try:
            connection.executescript(_SCHEMA)
            connection.execute("begin immediate")
            held = connection.execute("select until_us from views where view = ?", (view.table,)).fetchone()
            if held is not None and held[0] > until_us:
                raise _newer(view)
            connection.execute("delete from points where view = ?", (view.table,))
            for rows in _rows(view.table, points, names):
                connection.executemany("insert into points (view, key, at_us, event_us, held) values (?,?,?,?,?)", rows)
            connection.execute(
                "insert into views (view, until_us, points) values (?, ?, ?) "
                "on conflict (view) do update set until_us = excluded.until_us, points = excluded.points",
                (view.table, until_us, points.num_rows),
            )
            connection.execute("commit")
        except sqlite3.Error as error:
            raise _failed(error) from error
        finally:
            connection.close()
        return points.num_rows

    def published_until_us(self, view: FeatureView) -> int | None:
        """Until when the view's change points are complete; None where it was never published."""
        if not self._path.exists():
            return None
        with self._reader() as connection:
            row = connection.execute("select until_us from views where view = ?", (view.table,)).fetchone()
        return None if row is None else int(row[0])

    def get(self, view: FeatureView, keys: Sequence[bytes | None], times_us: Sequence[int]) -> list[OnlineValue]:
        """What held for each key at its request time.

        Raises:
            NotFound: the view was never published here.
            StorageFailed: the file cannot be read.
        """
        if self.published_until_us(view) is None:
            raise NotFound(
                "The view was never published to the online store.",
                field=view.name,
                next_step="`mlp features materialize` publishes all views, with a model's name those that it reads.",
            )
        refresh = view.refresh_us or 1
        with self._reader() as connection:
            # One snapshot for the whole batch: a view that is being replaced is seen before or after, never between.
            connection.execute("begin")
            try:
                found = [
                    None
                    if key is None
                    else connection.execute(_LAST, (view.table, key, t_us - t_us % refresh)).fetchone()
                    for key, t_us in zip(keys, times_us, strict=True)
                ]
            finally:
                connection.execute("rollback")
        return [
            answer(view, None if row is None else _point(row), t_us, has_key=key is not None)
            for key, t_us, row in zip(keys, times_us, found, strict=True)
        ]

    def held(self) -> list[HeldView]:
        """Every view that was published here, by table name."""
        if not self._path.exists():
            return []
        with self._reader() as connection:
            rows = connection.execute("select view, until_us, points from views order by view").fetchall()
        return [HeldView(*row) for row in rows]

    def forget(self, table: str) -> bool:
        """Removes what is held of a view's table; False where there was nothing."""
        if not self._path.exists():
            return False
        with self._reader() as connection:
            connection.execute("begin immediate")
            connection.execute("delete from points where view = ?", (table,))
            removed = connection.execute("delete from views where view = ?", (table,)).rowcount
            connection.execute("commit")
        return removed > 0

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                if self._reading is None:
                    self._reading = self._connect()
                    self._reading.executescript(_SCHEMA)
                yield self._reading
            except sqlite3.Error as error:
                raise _failed(error) from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=30.0, isolation_level=None, check_same_thread=False)
        connection.execute("pragma journal_mode=wal")
        connection.execute("pragma synchronous=normal")
        return connection


def _rows(table: str, points: pa.Table, names: Sequence[str]) -> Iterator[list[tuple[Any, ...]]]:
    for batch in points.to_batches(max_chunksize=_BATCH):
        values = [batch.column(name).to_pylist() for name in names]
        held = [json.dumps(row, ensure_ascii=False) for row in zip(*values, strict=True)]
        keys, at, event = (batch.column(name).to_pylist() for name in (KEY, AT, EVENT))
        yield [(table, *row) for row in zip(keys, at, event, held, strict=True)]


def _point(row: tuple[int, int | None, str]) -> ChangePoint:
    at_us, event_us, held = row
    return ChangePoint(at_us, event_us, tuple(json.loads(held)))


def _newer(view: FeatureView) -> Conflict:
    return Conflict(
        "The online store holds newer values of the view; it was not changed.",
        field=view.name,
        next_step="Nothing is to be done: another `mlp features materialize` was faster.",
    )


def _failed(error: Exception) -> StorageFailed:
    return StorageFailed(
        f"The online store cannot be read or written ({type(error).__name__}); nothing was changed.",
        next_step="Free space or mend the folder `online`, then publish the view again.",
    )
