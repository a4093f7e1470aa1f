"""What an object store, and a lake on it, must do: run it on a store before you trust it with a root."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pyarrow as pa
import pyarrow.dataset as ds

from ml_platform.core.delta import Lake
from ml_platform.core.errors import ArtifactCorrupt, Conflict, NotFound
from ml_platform.core.objects import ObjectStore

__all__ = ["check_lake", "check_object_store"]

_THREADS: Final = 20
_BROKEN: Final = "A store's promise is broken: {}."
_LARGE: Final = bytes(range(256)) * 50_000  # 12.8 MB: three parts of an upload


def check_object_store(open_store: Callable[[], ObjectStore]) -> None:
    """Holds a store against the promises of `ObjectStore`; it must be empty at first.

    Args:
        open_store: opens it; called more than once.

    Raises:
        AssertionError: names the promise that is broken.
    """
    store = open_store()
    _require(not store.any_below(""), "it is empty at first")
    digest = store.put(b"abc")
    _require(store.put(b"abc") == digest and open_store().get(digest) == b"abc", "bytes come back under their digest")
    _require(store.has(digest) and not store.has(digest[:-1] + "0"), "it knows what it has")
    store.upload(store.path_of(digest), io.BytesIO(b"abd"))
    _refuses(lambda: store.get(digest), ArtifactCorrupt, "changed bytes are not returned")
    _require(store.create("a/b.json", b"1") and not store.create("a/b.json", b"2"), "a document is created once")
    _require(store.read("a/b.json") == b"1", "what was created is never replaced")
    store.create_same("a/b.json", b"1")
    _refuses(lambda: store.create_same("a/b.json", b"2"), Conflict, "other content under a path is a conflict")
    _refuses(lambda: store.read("nothing"), NotFound, "what is not there is not found")
    for path in ("a/z", "a/c/d", "ab"):
        store.create(path, path.encode())
    _require(store.list("a") == ["a/b.json", "a/c/d", "a/z"], "a listing is whole, sorted, and of whole names")
    store.upload("large", io.BytesIO(_LARGE))
    store.upload("large", io.BytesIO(_LARGE[:-1]))
    _require(store.read("large") == _LARGE[:-1], "a file of several parts comes back whole, and is replaced whole")
    store.delete("large")
    store.delete("large")
    _require(not store.exists("large"), "what was deleted is gone")
    _one_of_many_creates(open_store)


def _one_of_many_creates(open_store: Callable[[], ObjectStore]) -> None:
    stores = [open_store() for _ in range(4)]

    def create(number: int) -> bool:
        return stores[number % len(stores)].create("race", bytes([number]) * 100_000)

    with ThreadPoolExecutor(_THREADS) as pool:
        won = [number for number, mine in enumerate(pool.map(create, range(_THREADS))) if mine]
    _require(len(won) == 1, "of many that create one document at once exactly one is told that it did")
    _require(stores[0].read("race") == bytes(won) * 100_000, "and its bytes are there, whole")


def check_lake(open_lake: Callable[[], Lake]) -> None:
    """Holds a lake against the promises of `Lake`; it must be empty at first.

    Args:
        open_lake: opens it; called more than once, and by several threads.

    Raises:
        AssertionError: names the promise that is broken.
    """
    lake, rows = open_lake(), pa.table({"a": [1, 2], "month": ["2010-01", "2010-02"]})
    _require(not lake.exists("m/t") and lake.version("m/t") is None, "it is empty at first")
    _refuses(lambda: lake.read("m/t"), NotFound, "a table that is not there is not found")
    first = lake.append("m/t", rows, partition_by=["month"], app_id="w", txn_version=1, metadata={"rows": 2})
    _require(lake.append("m/t", rows, app_id="w", txn_version=1) == first, "a transaction happens once")
    second = lake.append("m/t", rows, app_id="w", txn_version=2)
    _require(open_lake().append("m/t", rows, app_id="w", txn_version=1) == first, "an older one happened before")
    _require((lake.txn("m/t", "w"), lake.txn("m/t", "nobody")) == (2, None), "it knows the last of a writer")
    _require(lake.read("m/t", version=first).num_rows == 2, "old versions stay")
    _refuses(lambda: lake.read("m/t", version=second + 99), NotFound, "a version that is not there is not found")
    _require(lake.history("m/t")[1]["ml_platform"] == {"rows": 2}, "metadata of a commit comes back")
    some = lake.read("m/t", columns=["a"], where=ds.field("month") == "2010-02")
    _require(some.to_pydict() == {"a": [2, 2]}, "columns and rows are selected")
    _many_commit(open_lake)


def _many_commit(open_lake: Callable[[], Lake]) -> None:
    def commit(order: tuple[int, int]) -> int:
        writer, number = order
        rows = pa.table({"writer": [writer], "number": [number]})
        # Each order is given twice: only one of the two may count.
        return open_lake().append("race", rows, app_id=f"w{writer}", txn_version=number + 1)

    orders = [(writer, number) for number in range(3) for writer in range(4)]
    for number in range(3):
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(commit, [order for order in orders if order[1] == number] * 2))
        _require(made[:4] == made[4:], "who repeats a transaction is told the version that holds it")
    found: Any = open_lake().read("race").to_pylist()
    found = sorted((row["writer"], row["number"]) for row in found)
    _require(found == sorted(orders), "many that commit at once each have their rows there exactly once")


def _require(holds: bool, promise: str) -> None:  # noqa: FBT001 - a condition, as in assert
    if not holds:
        raise AssertionError(_BROKEN.format(promise))


def _refuses(act: Callable[[], object], kind: type[Exception], promise: str) -> None:
    try:
        act()
    except kind:
        return
    raise AssertionError(_BROKEN.format(promise))
