from __future__ import annotations

import multiprocessing
import resource
from pathlib import Path

import pytest

from ml_platform.core.errors import ArtifactCorrupt, Conflict, NotFound, StorageFailed
from ml_platform.core.files import write_atomically
from ml_platform.core.objects import ObjectStore


def test_bytes_come_back_under_their_digest(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    digest = store.put(b"abc")
    assert digest == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert store.put(b"abc") == digest
    assert store.get(digest) == b"abc"
    assert store.has(digest)
    assert not store.has(digest[:-1] + "0")


def test_bytes_changed_on_disk_are_not_returned(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    digest = store.put(b"abc")
    (tmp_path / store.path_of(digest)).write_bytes(b"abd")
    with pytest.raises(ArtifactCorrupt):
        store.get(digest)


def test_a_document_is_created_once_and_never_replaced(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    assert store.create("a/b.json", b"1")
    assert not store.create("a/b.json", b"2")
    assert store.read("a/b.json") == b"1"
    store.create_same("a/b.json", b"1")
    with pytest.raises(Conflict):
        store.create_same("a/b.json", b"2")
    assert store.list("a") == ["a/b.json"]


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    with pytest.raises(NotFound):
        store.read("nothing")
    with pytest.raises(NotFound):
        store.get("sha256:" + "0" * 64)
    with pytest.raises(NotFound, match="not a digest"):
        store.get("../../etc/passwd")


def _create(folder: str, content: bytes, results: multiprocessing.Queue[bool]) -> None:
    results.put(ObjectStore(folder).create("race", content))


def test_of_many_processes_that_create_one_document_exactly_one_wins(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[bool] = context.Queue()
    workers = [context.Process(target=_create, args=(str(tmp_path), bytes([i]) * 100_000, results)) for i in range(4)]
    for worker in workers:
        worker.start()
    won = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert won.count(True) == 1
    content = ObjectStore(tmp_path).read("race")
    assert len(content) == 100_000
    assert len(set(content)) == 1


def _write_with_small_limit(folder: str, results: multiprocessing.Queue[str]) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for write in (
        lambda: ObjectStore(folder).create("big", b"x" * 100_000),
        lambda: write_atomically(Path(folder) / "small.txt", b"y" * 100_000),
    ):
        try:
            write()
            results.put("written")
        except StorageFailed as error:
            results.put(str(error))


def test_a_full_disk_is_said_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    write_atomically(tmp_path / "small.txt", b"old")
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[str] = context.Queue()
    worker = context.Process(target=_write_with_small_limit, args=(str(tmp_path), results))
    worker.start()
    said = [results.get(timeout=60), results.get(timeout=60)]
    worker.join()
    assert all("Free space" in text for text in said)
    assert not ObjectStore(tmp_path).exists("big")
    assert (tmp_path / "small.txt").read_bytes() == b"old"
    assert list(tmp_path.glob(".small*")) == []
