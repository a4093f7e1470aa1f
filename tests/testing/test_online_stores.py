"""Both online stores keep the promises; a store that breaks one is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ml_platform.core.errors import Conflict
from ml_platform.features.online import OnlineStore, OnlineValue
from ml_platform.features.sqlite import SqliteOnlineStore
from ml_platform.features.stores import open_online_store
from ml_platform.testing import check_online_store
from tests.services.redis import RedisServer


def test_sqlite_keeps_the_promises_of_an_online_store(tmp_path: Path) -> None:
    check_online_store(lambda: SqliteOnlineStore(tmp_path / "online" / "features.sqlite"))


def test_redis_keeps_them_too(redis: RedisServer) -> None:
    check_online_store(lambda: open_online_store(redis.url("promises")))


class _Broken:
    """A store whose every call may be bent."""

    def __init__(self, store: OnlineStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class OverwritesNewer(_Broken):
    def publish(self, view: Any, points: Any, *, until_us: int) -> int:
        try:
            return self._store.publish(view, points, until_us=until_us)
        except Conflict:
            self._store.forget(view.table)
            return self._store.publish(view, points, until_us=until_us)


class LosesEventTimes(_Broken):
    def get(self, view: Any, keys: Any, times_us: Any) -> Any:
        return [replace(one, event_us=None) for one in self._store.get(view, keys, times_us)]


class AnswersNullForUnpublished(_Broken):
    def get(self, view: Any, keys: Any, times_us: Any) -> Any:
        if self._store.published_until_us(view) is None:
            return [OnlineValue((None,) * len(view.features), None) for _ in keys]
        return self._store.get(view, keys, times_us)


class AMicrosecondEarly(_Broken):
    def get(self, view: Any, keys: Any, times_us: Any) -> Any:
        return self._store.get(view, keys, [t_us + 1 for t_us in times_us])


@pytest.mark.parametrize("broken", [OverwritesNewer, LosesEventTimes, AnswersNullForUnpublished, AMicrosecondEarly])
def test_a_store_that_breaks_a_promise_is_found(broken: Callable[[OnlineStore], OnlineStore], tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="A promise of an online store is broken"):
        check_online_store(lambda: broken(SqliteOnlineStore(tmp_path / "features.sqlite")))
