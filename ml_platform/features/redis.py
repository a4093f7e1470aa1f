"""The shared online store: change points in one Redis, read by all routers in one round trip a batch and view.

Points lie in sorted sets, some for each view, ordered by their bytes: ``row/1`` key, big-endian time, value. Who asks
for the last member before (key, time) gets the change point, or sees that there is none. ``redis_layout`` has bytes.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from ml_platform.core.errors import Conflict, NotFound, StorageFailed
from ml_platform.core.rows import FieldType
from ml_platform.features.online import KEY, HeldView, OnlineValue, answer
from ml_platform.features.redis_address import RedisAddress, failures
from ml_platform.features.redis_layout import (
    BUCKETS,
    ONLINE_FORMAT,
    bucket_of,
    kinds_of,
    members_of,
    point_of,
    upper_bound,
)
from ml_platform.features.views import FeatureView

__all__ = ["RedisOnlineStore"]

_FLUSH_POINTS: Final = 20_000
_UNFINISHED_SECONDS: Final = 3_600
_ATTEMPTS: Final = 5

# An older publication never replaces a newer one, whoever comes last; what it replaces is noted for removal.
_FLIP: Final = """
local held = redis.call('HMGET', KEYS[1], 'until_us', 'generation')
if held[1] and tonumber(held[1]) > tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'format', ARGV[5], 'generation', ARGV[1], 'until_us', ARGV[2], 'points', ARGV[3],
    'kinds', ARGV[4])
redis.call('HDEL', KEYS[2], ARGV[1])
if held[2] and held[2] ~= ARGV[1] then redis.call('HSET', KEYS[2], held[2], 0) end
return 1
"""


@dataclass(frozen=True)
class _Shown:
    """The publication that readers see: its name, and the row types of its values."""

    generation: bytes
    kinds: tuple[FieldType, ...]


class RedisOnlineStore:
    """Views of a root in a Redis, under a prefix; a view's names hold its table name, so definitions live side by side.

    A publication is written under a name of its own and shown by one atomic step; readers see the old or the new whole,
    and never an older one after a newer one. What a killed publisher left is removed after an hour. A part that the
    server evicted or lost is an error, not a null. Safe for several threads. For one server or a primary with replicas
    behind one address; not for Redis Cluster.

    Args:
        address: of the server.
        password: of the server; None where it asks for none.
    """

    def __init__(self, address: RedisAddress, password: str | None = None) -> None:
        self._address = address
        self._client = address.connect(password)
        self._shown: dict[str, _Shown] = {}

    def __repr__(self) -> str:
        return f"RedisOnlineStore({self._address!r})"

    def close(self) -> None:
        """Lets go of the connections."""
        self._client.close()

    def publish(self, view: FeatureView, points: pa.Table, *, until_us: int) -> int:
        """Replaces what is held of a view, all at once; returns how many change points there are now.

        Raises:
            Conflict: a newer publication is held; nothing was changed.
            StorageFailed: the server is away, full, or refuses; what was held is held.
        """
        generation = secrets.token_hex(8)
        kinds = ",".join(kinds_of(view, points))
        with failures():
            try:
                self._begin(view.table, generation)
                self._write(view, points, generation)
                shown = self._show(view.table, generation, (until_us, points.num_rows, kinds))
            except BaseException:
                with suppress(Exception):
                    self._remove(view.table, generation)
                raise
            if not shown:
                self._remove(view.table, generation)
            self._sweep(view.table)
        if not shown:
            raise Conflict(
                "The online store holds newer values of the view; it was not changed.",
                field=view.name,
                next_step="Nothing is to be done: another `mlp features materialize` was faster.",
            )
        return points.num_rows

    def _begin(self, table: str, generation: str) -> None:
        """Notes the generation, so that it is found if we die, and makes its sets: the empty member says "I am"."""
        now: Any = self._client.time()
        pipe = self._client.pipeline(transaction=False)
        pipe.hset(self._writing(table), generation, str(now[0]))
        for bucket in range(BUCKETS):
            name = self._bucket(table, generation, bucket)
            pipe.zadd(name, {b"": 0})
            pipe.expire(name, _UNFINISHED_SECONDS)
        pipe.execute()

    def _write(self, view: FeatureView, points: pa.Table, generation: str) -> None:
        for start in range(0, points.num_rows, _FLUSH_POINTS):
            part = points.slice(start, _FLUSH_POINTS)
            filled: dict[int, list[Any]] = {}
            keys: Any = part.column(KEY).to_pylist()
            for key, member in zip(keys, members_of(view, part), strict=True):
                filled.setdefault(bucket_of(key), []).extend((0, member))
            pipe: Any = self._client.pipeline(transaction=False)
            for bucket, members in filled.items():
                pipe.execute_command("ZADD", self._bucket(view.table, generation, bucket), *members)
            pipe.execute()

    def _show(self, table: str, generation: str, said: tuple[int, int, str]) -> bool:
        pipe = self._client.pipeline(transaction=False)
        for bucket in range(BUCKETS):
            pipe.persist(self._bucket(table, generation, bucket))
        if not all(pipe.execute()):
            raise _lost()  # it took longer than an unfinished publication lives, or the server evicted a part
        names = [self._view(table), self._writing(table)]
        return bool(self._client.eval(_FLIP, 2, *names, generation, *map(str, said), ONLINE_FORMAT))

    def _sweep(self, table: str) -> None:
        """Removes replaced generations, those that lost against a newer one, and what killed publishers left."""
        now: Any = self._client.time()
        noted: Any = self._client.hgetall(self._writing(table))
        for raw, since in noted.items():
            if int(since) + _UNFINISHED_SECONDS <= int(now[0]):
                self._remove(table, raw.decode())

    def _remove(self, table: str, generation: str) -> None:
        self._client.unlink(*(self._bucket(table, generation, bucket) for bucket in range(BUCKETS)))
        self._client.hdel(self._writing(table), generation)

    def published_until_us(self, view: FeatureView) -> int | None:
        """Until when the view's change points are complete; None where it was never published."""
        with failures():
            found: Any = self._client.hget(self._view(view.table), "until_us")
        return None if found is None else int(found)

    def get(self, view: FeatureView, keys: Sequence[bytes | None], times_us: Sequence[int]) -> list[OnlineValue]:
        """What held for each key at its request time; one round trip, more only where the view is being replaced.

        Raises:
            NotFound: the view was never published here.
            StorageFailed: the server is away, or lost a part of the view.
        """
        refresh = view.refresh_us or 1
        asked = [(key, t_us - t_us % refresh) for key, t_us in zip(keys, times_us, strict=True) if key is not None]
        with failures():
            shown, members = self._find(view, asked)
        found = (point_of(shown.kinds, key, member) for (key, _), member in zip(asked, members, strict=True))
        return [
            answer(view, None if key is None else next(found), t_us, has_key=key is not None)
            for key, t_us in zip(keys, times_us, strict=True)
        ]

    def _find(self, view: FeatureView, asked: Sequence[tuple[bytes, int]]) -> tuple[_Shown, list[bytes]]:
        """Of each (key, time) the member before it, all of one publication: the newest."""
        shown = self._shown.get(view.table) or self._look(view)
        for _ in range(_ATTEMPTS):
            pipe: Any = self._client.pipeline(transaction=False)
            for key, at_us in asked:
                name = self._bucket(view.table, shown.generation.decode(), bucket_of(key))
                bound = b"(" + upper_bound(key, at_us)
                pipe.execute_command("ZREVRANGEBYLEX", name, bound, b"-", "LIMIT", 0, 1)
            pipe.hget(self._view(view.table), "generation")
            *found, now = pipe.execute()
            if now == shown.generation:
                if not all(found):
                    raise _lost()
                return shown, [members[0] for members in found]
            shown = self._look(view)
        raise _lost()

    def _look(self, view: FeatureView) -> _Shown:
        self._shown.pop(view.table, None)
        found: Any = self._client.hmget(self._view(view.table), ["generation", "kinds"])
        if found[0] is None:
            raise NotFound(
                "The view was never published to the online store.",
                field=view.name,
                next_step="`mlp features materialize` publishes all views, with a model's name those that it reads.",
            )
        kinds: Any = tuple(found[1].decode().split(","))
        shown = self._shown[view.table] = _Shown(found[0], kinds)
        return shown

    def held(self) -> list[HeldView]:
        """Every view that was published here, by table name."""
        head = self._view("")
        with failures():
            names = sorted(self._client.scan_iter(match=head + "*", count=1_000))
            rows: list[Any] = [self._client.hmget(name, ["until_us", "points"]) for name in names]
        return [
            HeldView(name.decode().removeprefix(head), int(until_us), int(points))
            for name, (until_us, points) in zip(names, rows, strict=True)
            if until_us is not None
        ]

    def forget(self, table: str) -> bool:
        """Removes what is held of a view's table; False where there was nothing."""
        with failures():
            generation: Any = self._client.hget(self._view(table), "generation")
            if generation is None:
                return False
            self._client.delete(self._view(table))
            self._remove(table, generation.decode())
        self._shown.pop(table, None)
        return True

    def _view(self, table: str) -> str:
        return f"{self._address.prefix}:view:{table}"

    def _writing(self, table: str) -> str:
        return f"{self._address.prefix}:writing:{table}"

    def _bucket(self, table: str, generation: str, bucket: int) -> str:
        return f"{self._address.prefix}:points:{table}:{generation}:{bucket}"


def _lost() -> StorageFailed:
    return StorageFailed(
        "The online store lost a part of the view, or it is replaced without end.",
        field="online",
        next_step="Set Redis' maxmemory-policy to noeviction, then run `mlp features materialize`.",
    )
