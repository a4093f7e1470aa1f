"""Tables and artifacts on S3, beside bare `deltalake` and `obstore` on the same server.

    python benchmarks/storage.py [--rows 1000000] [--rounds 7] [--json]

A real S3 server (versitygw) runs on loopback; it shares the processor with the client. Ours and the bare library do the
same work in turn, each round both, and the medians are compared. Ours commits a table at most once by its transaction
and is told the version that holds it, reads through Arrow's S3 client where the bare way is Delta's own file system,
creates objects if absent under their digest, and hashes what it reads.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
SMALL_ROWS, PARTS, PART_BYTES, LARGE_BYTES = 100, 20, 256 * 1024, 32 * 1024 * 1024


def table(rows: int, seed: int = 0) -> Any:
    import numpy as np
    import pyarrow as pa

    rng = np.random.default_rng(seed)
    numbers = {f"number_{at}": rng.normal(size=rows) for at in range(4)}
    return pa.table({"id": np.arange(rows), **numbers, "text": pa.array(rng.choice(["a", "b", "c"], rows))})


class Ours:
    """The platform's own ways."""

    def __init__(self, url: str, storage: dict[str, object]) -> None:
        from ml_platform.core.delta import Lake
        from ml_platform.core.objects import ObjectStore
        from ml_platform.core.storage import StorageSettings

        self.lake = Lake(f"{url}/lake", StorageSettings(**storage))
        self.store = ObjectStore(f"{url}/store", StorageSettings(**storage))
        self.number = 0

    def commit(self, name: str, rows: Any) -> None:
        self.number += 1
        self.lake.append(name, rows, app_id="benchmark", txn_version=self.number)

    def read(self, name: str) -> int:
        return self.lake.read(name).num_rows

    def put(self, parts: list[bytes]) -> list[str]:
        return [self.store.put(part) for part in parts]

    def get(self, names: list[str]) -> int:
        return sum(len(self.store.get(name)) for name in names)


class Bare:
    """The libraries by themselves, on the same server with the same options."""

    def __init__(self, url: str, storage: dict[str, object]) -> None:
        from obstore.store import from_url

        from ml_platform.core.storage import StorageSettings, delta_options, obstore_arguments

        made = StorageSettings(**storage)
        self.url = f"{url}/lake"
        self.options = delta_options(self.url, made)
        self.store = from_url(f"{url}/store", **obstore_arguments(url, made))
        self.number = 0

    def commit(self, name: str, rows: Any) -> None:
        from deltalake import write_deltalake

        write_deltalake(f"{self.url}/{name}", rows, mode="append", storage_options=self.options)

    def read(self, name: str) -> int:
        from deltalake import DeltaTable

        return DeltaTable(f"{self.url}/{name}", storage_options=self.options).to_pyarrow_table().num_rows

    def put(self, parts: list[bytes]) -> list[str]:
        names = []
        for part in parts:
            self.number += 1
            names.append(f"objects/{self.number}")
            self.store.put(names[-1], part)
        return names

    def get(self, names: list[str]) -> int:
        return sum(len(self.store.get(name).bytes()) for name in names)


def seconds(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def measure(ours: Ours, bare: Bare, rows: int, rounds: int) -> dict[str, tuple[list[float], list[float]]]:
    """Work → seconds of each round, ours and bare."""
    work: dict[str, tuple[list[float], list[float]]] = {}

    def note(name: str, first: Callable[[], object], second: Callable[[], object]) -> None:
        taken = work.setdefault(name, ([], []))
        taken[0].append(seconds(first))
        taken[1].append(seconds(second))

    small, large = table(SMALL_ROWS), table(rows)
    for side in (ours, bare):  # tables are there, connections open, code loaded
        side.commit("small", small)
        side.commit("large", large)
        side.read("large")
    held: dict[str, list[str]] = {}
    for _ in range(rounds):
        note(f"commit of {SMALL_ROWS} rows", lambda: ours.commit("small", small), lambda: bare.commit("small", small))
        parts = [os.urandom(PART_BYTES) for _ in range(PARTS)]
        note(
            f"{PARTS} objects of 256 KiB, written",
            lambda parts=parts: held.update(ours=ours.put(parts)),
            lambda parts=parts: held.update(bare=bare.put(parts)),
        )
        note(
            f"{PARTS} objects of 256 KiB, read",
            lambda: ours.get(held["ours"]),
            lambda: bare.get(held["bare"]),
        )
        whole = [os.urandom(LARGE_BYTES)]
        note(
            "an object of 32 MiB, written",
            lambda whole=whole: held.update(ours=ours.put(whole)),
            lambda whole=whole: held.update(bare=bare.put(whole)),
        )
        note(
            "an object of 32 MiB, read",
            lambda: ours.get(held["ours"]),
            lambda: bare.get(held["bare"]),
        )
        note(f"read of {rows:,} rows", lambda: ours.read("large"), lambda: bare.read("large"))
    for _ in range(max(1, rounds // 2)):
        note(f"commit of {rows:,} rows", lambda: ours.commit("grown", large), lambda: bare.commit("grown", large))
    return work


def main() -> None:
    from tests.services.s3 import S3Server, versitygw

    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if versitygw() is None:
        sys.exit("versitygw is not installed; CONTRIBUTING.md says how")
    with tempfile.TemporaryDirectory() as folder:
        server = S3Server(Path(folder))
        server.start()
        try:
            os.environ.update(server.environ)
            for name in ("ours", "bare"):
                server.bucket(name)
            sides = Ours("s3://ours", server.storage), Bare("s3://bare", server.storage)
            work = measure(*sides, given.rows, given.rounds)
        finally:
            server.stop()
    medians = {name: tuple(map(statistics.median, taken)) for name, taken in work.items()}
    if given.json:
        print(json.dumps({name: {"ours_s": ours, "bare_s": bare} for name, (ours, bare) in medians.items()}))
        return
    print(f"{'work':36} {'ours, ms':>10} {'bare, ms':>10} {'ratio':>7}")
    for name, (ours, bare) in medians.items():
        print(f"{name:36} {ours * 1_000:10.1f} {bare * 1_000:10.1f} {ours / bare:7.2f}")


if __name__ == "__main__":
    main()
