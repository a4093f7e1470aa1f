"""Writing and reading the online store: a real Redis and SQLite, beside what the same client and server can do bare.

    python benchmarks/online_store.py [--entities 100000] [--features 10] [--json]

One view, one change point an entity, float64 features. Beside `publish` into Redis, on the same server: a bare pipeline
that sets one packed string an entity (the least that a store can write), and the layout that Feast documents for its
Redis store (one hash an entity, a field for each feature and one for the time; HSET, pipelined). Then the same table
into SQLite. Reads: one look-up of 1 and of 64 keys, against one GET and one pipeline of 64. Memory is what the server
says it uses more than before. Reach: 100,000 values a second into Redis.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
REACH_VALUES_A_SECOND = 100_000
FLUSH = 20_000
READS = 400


def declared(features: int) -> Any:
    from ml_platform import Entity, FeatureView, SameAsEvent, Source, number

    names = [f"f{place:03d}" for place in range(features)]
    source = Source(
        "rows",
        columns={"id": "int64", "at": "timestamp", **dict.fromkeys(names, "float64")},
        keys=("id",),
        event_time="at",
        known_time=SameAsEvent("made up for a benchmark"),
    )
    return FeatureView("bench", entity=Entity("thing", ("id",)), source=source, columns=[number(one) for one in names])


def change_points(view: Any, entities: int) -> pa.Table:
    from ml_platform.core.rows import encode_table
    from ml_platform.features.online import AT, EVENT, KEY

    rng = np.random.default_rng(7)
    at = pa.array(np.full(entities, 1_700_000_000_000_000))
    keys = encode_table(pa.table({"id": np.arange(entities)}))
    named = {item.name: rng.normal(size=entities) for item in view.features}
    return pa.table({KEY: pa.array(keys, pa.binary()), AT: at, EVENT: at, **named})


def flushed(client: Any, commands: Any) -> None:
    pipe = client.pipeline(transaction=False)
    for number, command in enumerate(commands, 1):
        pipe.execute_command(*command)
        if number % FLUSH == 0:
            pipe.execute()
    pipe.execute()


def bare(client: Any, keys: list[bytes], matrix: Any) -> None:
    pack = struct.Struct(f"<{matrix.shape[1]}d").pack
    flushed(client, (("SET", b"bare:" + key, pack(*row)) for key, row in zip(keys, matrix.tolist(), strict=True)))


def hashes(client: Any, keys: list[bytes], matrix: Any) -> None:
    fields = [struct.pack("<I", place) for place in range(matrix.shape[1])]
    pack = struct.Struct("<Bd").pack  # as long as a serialized protobuf double

    def command(key: bytes, row: list[float]) -> list[bytes]:
        values = [part for field, value in zip(fields, row, strict=True) for part in (field, pack(41, value))]
        return [b"HSET", b"hash:" + key, b"_ts:bench", b"12345678", *values]

    flushed(client, (command(key, row) for key, row in zip(keys, matrix.tolist(), strict=True)))


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def written(client: Any, call: Callable[[], object]) -> tuple[float, int]:
    """Seconds, and the bytes that the server uses more."""
    before = client.info("memory")["used_memory"]
    return timed(call), client.info("memory")["used_memory"] - before


def read_ms(call: Callable[[int], object]) -> float:
    return median(timed(lambda place=place: call(place)) for place in range(READS)) * 1000  # type: ignore[misc]


def reads(store: Any, view: Any, keys: list[bytes], many: int) -> float:
    t_us = 1_700_000_000_000_001
    return read_ms(lambda place: store.get(view, keys[place * many : place * many + many], [t_us] * many))


def measure(server: Any, folder: Path, entities: int, features: int) -> dict[str, float]:
    from ml_platform.features.online import KEY
    from ml_platform.features.redis_address import RedisAddress
    from ml_platform.features.stores import open_online_store

    view = declared(features)
    points = change_points(view, entities)
    keys: Any = points.column(KEY).to_pylist()
    matrix = np.column_stack([points.column(item.name).to_numpy() for item in view.features])
    client = RedisAddress.parse(server.url()).connect(None)
    store, file = open_online_store(server.url("bench")), open_online_store(f"sqlite:///{folder}/features.sqlite")
    until = 1_700_000_000_000_002
    ours, ours_bytes = written(client, lambda: store.publish(view, points, until_us=until))
    bare_seconds, bare_bytes = written(client, lambda: bare(client, keys, matrix))
    hash_seconds, hash_bytes = written(client, lambda: hashes(client, keys, matrix))
    again = timed(lambda: store.publish(view, points, until_us=until))
    sqlite = timed(lambda: file.publish(view, points, until_us=until))
    count = entities * features

    def got(place: int) -> object:
        pipe = client.pipeline(transaction=False)
        for key in keys[place * 64 : place * 64 + 64]:
            pipe.get(b"bare:" + key)
        return pipe.execute()

    return {
        "values": count,
        "redis, values/s": count / ours,
        "redis, replacing, values/s": count / again,
        "bare pipeline, values/s": count / bare_seconds,
        "against the bare pipeline": bare_seconds / ours,
        "hash layout, values/s": count / hash_seconds,
        "against the hash layout": hash_seconds / ours,
        "sqlite, values/s": count / sqlite,
        "redis, bytes a value": ours_bytes / count,
        "bare, bytes a value": bare_bytes / count,
        "hash layout, bytes a value": hash_bytes / count,
        "redis, look-up of 1, ms": reads(store, view, keys, 1),
        "redis, look-up of 64, ms": reads(store, view, keys, 64),
        "bare GET of 1, ms": read_ms(lambda place: client.get(b"bare:" + keys[place])),
        "bare GETs of 64, ms": read_ms(got),
        "sqlite, look-up of 1, ms": reads(file, view, keys, 1),
        "sqlite, look-up of 64, ms": reads(file, view, keys, 64),
    }


def main() -> None:
    from tests.services.redis import RedisServer

    parser = argparse.ArgumentParser()
    parser.add_argument("--entities", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder) / "redis", keeps=False)
        try:
            found = measure(server, Path(folder), given.entities, given.features)
        finally:
            server.kill()
    if given.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:30} {value:14,.2f}")
    reached = found["redis, values/s"] >= REACH_VALUES_A_SECOND
    print(f"reach: {REACH_VALUES_A_SECOND:,} values/s into Redis: {'yes' if reached else 'NO'}")


if __name__ == "__main__":
    main()
