"""Seeds for workers elsewhere: the right ones, only to who holds the run's key, unreadable on the way."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.core.errors import ServerUnavailable
from ml_platform.core.subjects import Subjects
from ml_platform.serving.seed_server import RemoteSeeds, SeedServer, _packed, _unpacked


@pytest.fixture
def subjects(tmp_path: Path) -> Subjects:
    return Subjects(tmp_path / "subjects.sqlite", root_seed=None)


@pytest.fixture
def server(subjects: Subjects) -> Iterator[SeedServer]:
    with SeedServer(subjects, "loan") as running:
        yield running


@given(st.text(max_size=20), st.lists(st.binary(max_size=40), max_size=30))
def test_a_question_arrives_as_it_was_asked(entity: str, keys: list[bytes]) -> None:
    assert _unpacked(_packed(entity, keys)) == (entity, keys)


def test_the_answers_are_the_seeds_that_the_database_keeps(server: SeedServer, subjects: Subjects) -> None:
    keys = [b"b", b"a", b"", b"b" * 300, b"a"]
    remote = RemoteSeeds(server.address)
    found = remote.seeds("loan", keys)
    assert remote.seeds("loan", []) == []
    remote.close()
    assert found == subjects.seeds("loan", keys)
    assert found[1] == found[4] != found[0]
    assert {len(seed) for seed in found} == {32}


def test_workers_that_ask_at_once_for_a_new_subject_get_one_seed(server: SeedServer) -> None:
    start = threading.Barrier(8)

    def ask(_: int) -> tuple[bytes, ...]:
        remote = RemoteSeeds(server.address)
        start.wait()
        found = remote.seeds("loan", [bytes([number]) for number in range(50)])
        remote.close()
        return tuple(found)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1


def test_without_the_runs_key_nothing_is_answered_and_no_subject_is_made(
    server: SeedServer, subjects: Subjects
) -> None:
    stranger = RemoteSeeds(replace(server.address, key=secrets.token_bytes(32)))
    with pytest.raises(ServerUnavailable, match="does not answer"):
        stranger.seeds("loan", [b"a"])
    assert subjects.find("loan", b"a") is None


def test_another_entity_is_not_answered(server: SeedServer, subjects: Subjects) -> None:
    with pytest.raises(ServerUnavailable, match="Another entity"):
        RemoteSeeds(server.address).seeds("person", [b"a"])
    assert subjects.find("person", b"a") is None


def test_a_server_that_has_ended_is_named(server: SeedServer, subjects: Subjects) -> None:
    with SeedServer(subjects, "loan") as short:
        remote = RemoteSeeds(short.address)
        remote.seeds("loan", [b"a"])
    with pytest.raises(ServerUnavailable, match=r"spark\.driver\.host"):
        RemoteSeeds(short.address).seeds("loan", [b"a"])


def test_a_database_that_fails_is_said_to_the_worker(server: SeedServer, subjects: Subjects, tmp_path: Path) -> None:
    (tmp_path / "subjects.sqlite").write_bytes(b"no database" * 200)
    with pytest.raises(ServerUnavailable, match="seeds cannot be read or written"):
        RemoteSeeds(server.address).seeds("loan", [b"a"])


class Wire:
    """Carries bytes between a worker and the server, and keeps them; may change one."""

    def __init__(self, port: int, *, flip: int | None = None) -> None:
        self.seen = bytearray()
        self._flip = flip
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._carry, args=(port,), daemon=True).start()

    def _carry(self, port: int) -> None:
        near = self._listener.accept()[0]
        far = socket.create_connection(("127.0.0.1", port))
        threading.Thread(target=self._pump, args=(near, far, None), daemon=True).start()
        self._pump(far, near, self._flip)

    def _pump(self, source: socket.socket, sink: socket.socket, flip: int | None) -> None:
        while part := source.recv(65_536):
            changed = bytearray(part)
            if flip is not None:
                changed[flip] ^= 1
            self.seen += changed
            sink.sendall(changed)


def test_neither_keys_nor_seeds_can_be_read_on_the_way(server: SeedServer, subjects: Subjects) -> None:
    wire = Wire(server.address.port)
    key = b"a subject's key, long enough"
    (seed,) = RemoteSeeds(replace(server.address, port=wire.port)).seeds("loan", [key])
    assert seed == subjects.find("loan", key)
    assert len(wire.seen) > 60
    assert key not in wire.seen
    assert seed not in wire.seen


def test_an_answer_that_was_changed_on_the_way_is_not_taken(server: SeedServer) -> None:
    wire = Wire(server.address.port, flip=-1)
    with pytest.raises(ServerUnavailable, match="InvalidTag"):
        RemoteSeeds(replace(server.address, port=wire.port)).seeds("loan", [b"a"])
