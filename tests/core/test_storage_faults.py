"""A store in trouble: throttled, slow, cut off, killed. A clear error or success after some tries, never half of anything."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from ml_platform.core.delta import Lake
from ml_platform.core.errors import StorageFailed
from ml_platform.core.objects import ObjectStore
from ml_platform.core.storage import StorageSettings
from tests.conftest import Bucket
from tests.services.faults import Action, FaultProxy
from tests.services.s3 import S3Server

RETRIES = 2
LARGE = bytes(range(256)) * 30_000  # 7.7 MB: two parts of an upload


@pytest.fixture
def proxy(bucket: Bucket) -> Iterator[FaultProxy]:
    with FaultProxy.before(bucket.server.port) as made:
        yield made


@pytest.fixture
def short(bucket: Bucket, proxy: FaultProxy) -> StorageSettings:
    """Through the proxy, by a client that is soon tired."""
    usual = StorageSettings(**bucket.server.storage)
    return replace(usual, endpoint=proxy.endpoint, timeout_seconds=1, retries=RETRIES, retry_seconds=8)


@pytest.fixture
def store(bucket: Bucket, short: StorageSettings) -> ObjectStore:
    return ObjectStore(f"{bucket.url}/p", short)


def test_a_throttled_write_is_tried_again_and_succeeds(store: ObjectStore, proxy: FaultProxy) -> None:
    proxy.first(RETRIES, "slow_down")
    assert store.create("a", b"1")
    assert [one.action for one in proxy.seen] == ["slow_down"] * RETRIES + ["pass"]
    assert store.read("a") == b"1"


def test_tries_are_bounded_and_the_error_says_why_and_what_to_do(store: ObjectStore, proxy: FaultProxy) -> None:
    proxy.first(99, "slow_down")
    with pytest.raises(StorageFailed, match=r"Writing a failed \(the store throttles requests\).*retries") as caught:
        store.create("a", b"1")
    assert proxy.count("slow_down") == RETRIES + 1
    assert caught.value.exit_code == 9
    proxy.first(0, "pass")
    assert not store.exists("a")


@pytest.mark.parametrize("act", ["read", "list", "exists"])
def test_a_store_that_answers_nothing_is_no_absence(store: ObjectStore, proxy: FaultProxy, act: str) -> None:
    store.create("a", b"1")
    proxy.rule = lambda _method, _path: "slow_down"
    with pytest.raises(StorageFailed, match="throttles"):
        getattr(store, act)("a")


def test_a_write_whose_answer_is_lost_is_there_whole(store: ObjectStore, proxy: FaultProxy) -> None:
    proxy.first(1, "lost_answer")
    store.create("a", b"1")  # whether it is told that it was first is not said
    assert store.read("a") == b"1"
    proxy.first(1, "lost_answer")
    assert store.get(store.put(b"bytes")) == b"bytes"
    proxy.first(1, "applied_then_503")
    store.create_same("b", b"2")
    store.create_same("b", b"2")


def test_a_read_that_breaks_off_never_gives_half_of_the_bytes(store: ObjectStore, proxy: FaultProxy) -> None:
    store.upload("large", io.BytesIO(LARGE))
    proxy.first(1, "half_answer", method="GET", path="large")
    assert store.read("large") == LARGE
    assert proxy.count("half_answer") == 1
    proxy.first(99, "half_answer", method="GET", path="large")
    with pytest.raises(StorageFailed, match="Reading large failed"):
        store.read("large")


def test_a_store_that_hangs_is_given_up_in_time(store: ObjectStore, proxy: FaultProxy) -> None:
    store.create("a", b"1")
    for method, act in (("PUT", lambda: store.create("b", b"2")), ("GET", lambda: store.read("a"))):
        proxy.first(99, "hang", method=method)
        started = time.monotonic()
        with pytest.raises(StorageFailed, match="no answer came in time"):
            act()
        assert time.monotonic() - started < 30
        assert 1 <= proxy.count("hang") <= RETRIES + 1


@pytest.mark.parametrize("action", ["slow_down", "cut_request", "lost_answer"])
def test_an_upload_in_parts_that_is_cut_off_is_whole_or_absent(
    store: ObjectStore, proxy: FaultProxy, bucket: Bucket, action: Action
) -> None:
    proxy.first(1, action, path="partNumber=2")
    store.upload("large", io.BytesIO(LARGE))
    assert proxy.count(action) == 1
    assert store.read("large") == LARGE
    for part in ("partNumber=2", "uploadId"):
        proxy.first(99, action, method="PUT" if part.startswith("part") else "POST", path=part)
        with pytest.raises(StorageFailed, match="nothing half-written is visible"):
            store.upload("other", io.BytesIO(LARGE))
        assert proxy.count(action) <= RETRIES + 1
        proxy.first(0, "pass")
        if action != "lost_answer":  # whose last step the server did take: then it is there, whole
            assert not store.exists("other")
        elif store.exists("other"):
            assert store.read("other") == LARGE
    assert store.read("large") == LARGE


# -- tables --------------------------------------------------------------------------------------------------------


def rows(number: int) -> pa.Table:
    return pa.table({"number": [number]})


def numbers(lake: Lake) -> list[int]:
    return sorted(lake.read("t").column("number").to_pylist())


ACTIONS: tuple[Action, ...] = ("slow_down", "applied_then_503", "lost_answer", "cut_request", "hang")


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("times", [1, 99])
def test_a_commit_is_whole_or_absent_and_its_rerun_happens_once(
    bucket: Bucket, short: StorageSettings, proxy: FaultProxy, action: Action, times: int
) -> None:
    lake = Lake(f"{bucket.url}/lake", short)
    lake.append("t", rows(0), app_id="w", txn_version=1)
    proxy.first(times, action, path="_delta_log")
    told, said = None, ""
    try:
        told = lake.append("t", rows(1), app_id="w", txn_version=2)
    except StorageFailed as error:
        said = error.what
    failed = told is None
    assert ("it is as before" in said) == failed
    assert 1 <= proxy.count(action) <= RETRIES + 1
    proxy.first(0, "pass")
    other = Lake(f"{bucket.url}/lake", short)
    # What was said is true: success means that it is there, failure that it is not.
    assert numbers(other) == ([0] if failed else [0, 1])
    assert failed == (action == "hang" or (times == 99 and action in {"slow_down", "cut_request"}))
    again = other.append("t", rows(1), app_id="w", txn_version=2)
    assert numbers(other) == [0, 1]
    assert failed or again == told
    assert other.history("t")[0]["version"] == other.version("t") == again


@pytest.mark.parametrize("action", ["slow_down", "cut_request", "lost_answer"])
def test_a_data_file_that_does_not_arrive_is_no_commit(
    bucket: Bucket, short: StorageSettings, proxy: FaultProxy, action: Action
) -> None:
    lake = Lake(f"{bucket.url}/lake", short)
    lake.append("t", rows(0), app_id="w", txn_version=1)
    proxy.first(99, action, path=".parquet")
    with pytest.raises(StorageFailed, match="it is as before"):
        lake.append("t", rows(1), app_id="w", txn_version=2)
    proxy.first(1, action, path=".parquet")
    lake.append("t", rows(1), app_id="w", txn_version=2)
    assert numbers(lake) == [0, 1]


def test_who_cannot_even_ask_afterwards_says_that_it_is_not_known(
    bucket: Bucket, short: StorageSettings, proxy: FaultProxy
) -> None:
    lake = Lake(f"{bucket.url}/lake", short)
    lake.append("t", rows(0), app_id="w", txn_version=1)
    committed = threading.Event()

    def rule(method: str, path: str) -> Action:
        if method == "PUT" and "_delta_log" in path:
            committed.set()
            return "lost_answer"
        return "slow_down" if committed.is_set() else "pass"

    proxy.rule = rule
    with pytest.raises(StorageFailed, match="whether it was committed is seen when the store answers: run again"):
        lake.append("t", rows(1), app_id="w", txn_version=2)
    proxy.first(0, "pass")
    lake.append("t", rows(1), app_id="w", txn_version=2)
    assert numbers(lake) == [0, 1]


def test_a_table_that_cannot_be_read_is_no_absent_table(
    bucket: Bucket, short: StorageSettings, proxy: FaultProxy
) -> None:
    lake = Lake(f"{bucket.url}/lake", short)
    lake.append("t", rows(0), app_id="w", txn_version=1)
    proxy.rule = lambda _method, path: "slow_down" if ".parquet" in path else "pass"
    with pytest.raises(StorageFailed, match="Reading the table t failed"):
        lake.read("t")
    proxy.rule = lambda _method, _path: "slow_down"
    for act in (lake.exists, lake.version, lake.read, Lake(f"{bucket.url}/lake", short).table):
        with pytest.raises(StorageFailed, match="throttles"):
            act("t")


@pytest.fixture
def own_server(bucket: Bucket, tmp_path: Path) -> Iterator[S3Server]:
    """One that may be killed; credentials as of the shared one."""
    server = S3Server(tmp_path / "own")
    server.start()
    server.bucket("mine")
    yield server
    server.stop()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_server_killed_in_mid_commit_loses_and_doubles_nothing(own_server: S3Server, when: str) -> None:
    """Killed before or after it took a log entry, five times; the writer tries on, and the server comes back."""
    with FaultProxy.before(own_server.port) as proxy:
        deaths = iter([2, 5, 6, 9, 11])
        state = {"next": next(deaths), "commits": 0}

        def rule(method: str, path: str) -> Action:
            if method != "PUT" or "_delta_log" not in path:
                return "pass"
            state["commits"] += 1
            if state["commits"] != state["next"]:
                return "pass"
            state["next"] = next(deaths, -1)
            if when == "before":
                own_server.kill()
            threading.Timer(0.3 if when == "before" else 0.1, restart).start()
            return "pass" if when == "before" else "lost_answer"

        def restart() -> None:
            own_server.kill()
            own_server.start()

        proxy.rule = rule
        usual = StorageSettings(**own_server.storage)
        lake = Lake("s3://mine/lake", replace(usual, endpoint=proxy.endpoint, timeout_seconds=5, retries=1))
        failures = 0
        for number in range(8):
            while True:
                try:
                    lake.append("t", rows(number), app_id="w", txn_version=number + 1)
                    break
                except StorageFailed:
                    failures += 1
                    assert failures < 200
                    time.sleep(0.05)
        assert state["next"] == -1
        assert numbers(Lake("s3://mine/lake", usual)) == list(range(8))
