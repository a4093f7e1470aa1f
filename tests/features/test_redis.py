"""The online store in a real Redis: equal to brute force, and honest when the server is away, full, or forgets."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core.errors import Conflict, NotFound, PlatformError, SettingsError, StorageFailed
from ml_platform.core.rows import encode_row
from ml_platform.features.online import AT, EVENT, KEY, OnlineStore, OnlineValue, change_points, key_bytes
from ml_platform.features.redis_address import RedisAddress
from ml_platform.features.redis_layout import bucket_of, members_of
from ml_platform.features.stores import open_online_store
from tests.conftest import REPOSITORY
from tests.features import oracle
from tests.features.support import at
from tests.features.test_online import SECOND, histories, table, view
from tests.services.redis import RedisServer

SECRET = "open sesame, really"


@pytest.fixture
def own(redis_server: str, tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that a test may kill."""
    server = RedisServer(tmp_path / "redis")
    yield server
    server.kill()


def client_of(server: RedisServer) -> Any:
    return RedisAddress.parse(server.url()).connect(None)


def fill(store: OnlineStore, *, value: float = 1.0, until_us: int = SECOND, keys: int = 1) -> Any:
    """Publishes one value for keys k0, k1 …"""
    declared = view()
    names = [key_bytes(declared, (f"k{number}",)) for number in range(keys)]
    points = pa.table(
        {
            KEY: pa.array(names, pa.binary()),
            AT: pa.array([0] * keys, pa.int64()),
            EVENT: pa.array([0] * keys, pa.int64()),
            "value": [value] * keys,
            "word": ["w"] * keys,
        }
    )
    store.publish(declared, points, until_us=until_us)
    return declared, names


def values(store: OnlineStore, declared: Any, keys: Any) -> list[Any]:
    return [one.values[0] for one in store.get(declared, keys, [SECOND] * len(keys))]


@given(histories(), st.sampled_from([None, 3]), st.sampled_from([None, 4]))
@settings(max_examples=40, deadline=None)
def test_redis_gives_what_brute_force_gives(
    redis: RedisServer, rows: list[oracle.Row], refresh: int | None, ttl: int | None
) -> None:
    options = {name: f"{value}s" for name, value in (("refresh", refresh), ("ttl", ttl)) if value is not None}
    declared = view(**options)
    store = open_online_store(redis.url("oracle"))
    store.publish(declared, change_points(declared, table(rows), until=at(9 * SECOND)), until_us=9 * SECOND)
    asked = [(key, t) for key in ("a", "b", "unknown", None) for t in range(-8, 10)]
    found = store.get(declared, [key_bytes(declared, (key,)) for key, _ in asked], [t * SECOND for _, t in asked])
    store.close()
    for (key, t), got in zip(asked, found, strict=True):
        want = oracle.value_at(rows, key, t, refresh=refresh or 1, ttl=ttl)
        value = None if want is None else want["value"]
        assert got.values == (value, None if value is None else f"w{value}"), (key, t)
        assert got.event_us == (None if want is None else want["event"] * SECOND), (key, t)


def test_members_sort_by_key_and_then_by_time() -> None:
    times = [-(1 << 62), -1, 0, 1, 255, 256, 1 << 40, 1 << 62]
    keys = [encode_row([("text", text)]) for text in ("a", "ab", "b")]
    rows = [(key, at_us) for key in keys for at_us in times]
    points = pa.table(
        {
            KEY: pa.array([key for key, _ in rows], pa.binary()),
            AT: pa.array([at_us for _, at_us in rows], pa.int64()),
            EVENT: pa.array([0] * len(rows), pa.int64()),
            "value": [1.0] * len(rows),
            "word": ["w"] * len(rows),
        }
    )
    members = members_of(view(), points)
    assert [rows[place] for place in sorted(range(len(rows)), key=members.__getitem__)] == sorted(rows)


def test_the_store_is_back_when_the_server_is(own: RedisServer) -> None:
    store = open_online_store(own.url())
    declared, keys = fill(store, keys=3)
    own.kill()
    for call in (lambda: values(store, declared, keys), lambda: fill(store), store.held):
        with pytest.raises(StorageFailed, match="online") as error:
            call()
        assert "Start Redis" in str(error.value)
    own.start()
    assert values(store, declared, keys) == [1.0] * 3
    fill(store, value=2.0, until_us=2 * SECOND)
    assert values(store, declared, keys[:1]) == [2.0]


def test_a_server_that_hangs_is_an_error_in_seconds(own: RedisServer) -> None:
    store = open_online_store(own.url())
    declared, keys = fill(store)
    own.pause()
    started = time.monotonic()
    with pytest.raises(StorageFailed, match="Timeout"):
        values(store, declared, keys)
    assert time.monotonic() - started < 20
    own.resume()
    assert values(store, declared, keys) == [1.0]


def test_a_server_that_comes_back_empty_answers_no_nulls(redis_server: str, tmp_path: Path) -> None:
    own = RedisServer(tmp_path / "redis", keeps=False)
    try:
        store = open_online_store(own.url())
        declared, keys = fill(store)
        own.kill()
        own.start()
        with pytest.raises(NotFound, match="never published"):
            values(store, declared, keys)
    finally:
        own.kill()


def test_a_part_that_the_server_evicted_is_an_error_and_no_null(redis: RedisServer) -> None:
    store = open_online_store(redis.url("evicted"))
    declared, keys = fill(store, keys=200)
    (name,) = client_of(redis).scan_iter(match=f"evicted:points:*:{bucket_of(keys[0])}", count=10_000)
    client_of(redis).delete(name)
    others = [key for key in keys if bucket_of(key) != bucket_of(keys[0])]
    assert len(others) < 200
    assert values(store, declared, others) == [1.0] * len(others)
    with pytest.raises(StorageFailed, match="lost a part"):
        values(store, declared, keys)


def test_a_full_server_leaves_what_was_held_and_nothing_else(redis_server: str, tmp_path: Path) -> None:
    own = RedisServer(tmp_path / "redis", "--maxmemory", "6mb", "--maxmemory-policy", "noeviction")
    try:
        store = open_online_store(own.url())
        declared, keys = fill(store, keys=10)
        before = client_of(own).dbsize()
        with pytest.raises(StorageFailed, match="more memory"):
            fill(store, value=2.0, until_us=2 * SECOND, keys=200_000)
        assert values(store, declared, keys) == [1.0] * 10
        assert client_of(own).dbsize() <= before + 1  # the note of what was begun, until the next publication
    finally:
        own.kill()


def test_what_a_killed_publisher_left_is_never_seen_and_removed_in_the_end(redis: RedisServer) -> None:
    store, url = open_online_store(redis.url("killed")), redis.url("killed")
    declared, keys = fill(store, keys=50)
    script = (
        "import os, sys\n"
        "from ml_platform.features.redis import RedisOnlineStore\n"
        "from ml_platform.features.stores import open_online_store\n"
        "from tests.features.test_redis import fill\n"
        "RedisOnlineStore._show = lambda *_: os.kill(os.getpid(), 9)\n"
        "fill(open_online_store(sys.argv[1]), value=7.0, until_us=5_000_000, keys=50)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, url], check=False, cwd=REPOSITORY)
    assert done.returncode == -9
    assert values(store, declared, keys) == [1.0] * 50
    client = client_of(redis)
    (left,) = client.hkeys(f"killed:writing:{declared.table}")
    names = list(client.scan_iter(match=f"killed:points:{declared.table}:{left.decode()}:*", count=10_000))
    assert len(names) == 64
    assert all(0 < client.ttl(name) <= 3_600 for name in names)
    fill(store, value=2.0, until_us=2 * SECOND)
    assert client.hexists(f"killed:writing:{declared.table}", left)  # it might still be at work
    client.hset(f"killed:writing:{declared.table}", left, int(client.time()[0]) - 3_601)
    fill(store, value=3.0, until_us=3 * SECOND)
    assert client.exists(*names) == 0
    assert len(list(client.scan_iter(match="killed:points:*", count=10_000))) == 64


def test_of_racing_publishers_the_newest_stays_and_readers_see_one_publication(redis: RedisServer) -> None:
    url, done, seen = redis.url("racing"), threading.Event(), []
    declared, keys = fill(open_online_store(url), value=1.0, until_us=SECOND, keys=300)

    def publish(order: list[int]) -> None:
        store = open_online_store(url)
        for number in order:
            try:
                fill(store, value=float(number), until_us=number * SECOND, keys=300)
            except Conflict:
                continue

    def read() -> None:
        store = open_online_store(url)
        while not done.is_set():
            seen.append(set(values(store, declared, keys)))

    reader = threading.Thread(target=read)
    reader.start()
    writers = [threading.Thread(target=publish, args=(order,)) for order in ([2, 9, 4, 12], [7, 3, 30, 5], [8, 29, 6])]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    done.set()
    reader.join()
    assert values(open_online_store(url), declared, keys) == [30.0] * 300
    assert all(len(one) == 1 for one in seen)
    shown = [next(iter(one)) for one in seen]
    assert shown == sorted(shown)
    assert len(shown) > 3
    assert len(list(client_of(redis).scan_iter(match="racing:points:*", count=10_000))) == 64


def test_the_password_comes_from_the_environment_and_is_shown_nowhere(redis_server: str, tmp_path: Path) -> None:
    own = RedisServer(tmp_path / "redis", "--requirepass", SECRET)
    try:
        for environ, step in (({}, "ML_PLATFORM_REDIS_PASSWORD"), ({"ML_PLATFORM_REDIS_PASSWORD": "no"}, "")):
            with pytest.raises(StorageFailed) as error:
                open_online_store(own.url(), environ).held()
            assert step in str(error.value)
        store = open_online_store(own.url(), {"ML_PLATFORM_REDIS_PASSWORD": SECRET})
        declared, keys = fill(store)
        assert store.get(declared, keys, [0]) == [OnlineValue((1.0, "w"), 0)]
        assert SECRET not in repr(store)
        own.kill()
        with pytest.raises(StorageFailed) as error:
            store.held()
        assert SECRET not in str(error.value) + repr(error.value)
    finally:
        own.kill()


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}@cache:6379/0?prefix=x",
        "redis://cache:6379/0",
        "redis://cache:6379/0?prefix=",
        "redis://cache:6379/0?prefix=UPPER",
        "redis://cache:none/0?prefix=x",
        "redis://cache:6379/zero?prefix=x",
        "redis://cache:6379/0?prefix=x&other=1",
        "redis:///0?prefix=x",
        "mongodb://cache",
    ],
)
def test_a_wrong_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(SettingsError) as error:
        open_online_store(url)
    assert error.value.field == "online"
    assert SECRET not in str(error.value)


def test_an_address_is_read_whole() -> None:
    read = RedisAddress.parse("rediss://reader@cache.internal:7000/3?prefix=credit")
    assert read == RedisAddress("cache.internal", 7000, 3, "credit", "reader", tls=True)
    assert RedisAddress.parse("redis://cache?prefix=c") == RedisAddress("cache", 6379, 0, "c")


def test_roots_with_other_prefixes_share_a_server(redis: RedisServer) -> None:
    one, two = (open_online_store(redis.url(prefix)) for prefix in ("root-one", "root-two"))
    declared, keys = fill(one)
    with pytest.raises(PlatformError, match="never published"):
        values(two, declared, keys)
    assert two.held() == []
