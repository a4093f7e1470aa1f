from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from ml_platform.core.subjects import Subjects, salt

KEYS = [i.to_bytes(8, "big") for i in range(1_000)]


def test_seeds_are_random_in_a_wall_root_and_stay(tmp_path: Path) -> None:
    first = Subjects(tmp_path / "s.sqlite", root_seed=None).seeds("loan", KEYS)
    assert Subjects(tmp_path / "s.sqlite", root_seed=None).seeds("loan", KEYS) == first
    assert len(set(first)) == len(KEYS)
    assert all(len(seed) == 32 for seed in first)
    assert Subjects(tmp_path / "other.sqlite", root_seed=None).seeds("loan", KEYS) != first


def test_seeds_are_equal_on_every_machine_in_a_replay_root(tmp_path: Path) -> None:
    here = Subjects(tmp_path / "a.sqlite", root_seed=b"\1" * 32)
    there = Subjects(tmp_path / "b.sqlite", root_seed=b"\1" * 32)
    assert here.seeds("loan", KEYS) == there.seeds("loan", list(reversed(KEYS)))[::-1]
    assert here.seeds("loan", KEYS[:1]) != here.seeds("person", KEYS[:1])
    assert Subjects(tmp_path / "c.sqlite", root_seed=b"\2" * 32).seeds("loan", KEYS[:1]) != here.seeds("loan", KEYS[:1])


def test_repeated_subjects_have_one_seed_and_unknown_ones_none(tmp_path: Path) -> None:
    subjects = Subjects(tmp_path / "s.sqlite", root_seed=None)
    assert subjects.find("loan", b"x") is None
    one, two = subjects.seeds("loan", [b"x", b"x"])
    assert one == two == subjects.find("loan", b"x")
    assert subjects.find("loan", b"y") is None


def test_a_salt_depends_on_seed_noun_and_row_and_nothing_else() -> None:
    base = salt(b"s" * 32, "training_row", b"k")
    assert base == salt(b"s" * 32, "training_row", b"k")
    assert (
        len(
            {
                base,
                salt(b"t" * 32, "training_row", b"k"),
                salt(b"s" * 32, "prediction", b"k"),
                salt(b"s" * 32, "training_row", b"l"),
            }
        )
        == 4
    )


def _seeds(path: str, results: multiprocessing.Queue[list[bytes]]) -> None:
    results.put(Subjects(Path(path), root_seed=None).seeds("loan", KEYS))


def test_processes_that_meet_a_subject_at_once_get_one_seed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[list[bytes]] = context.Queue()
    workers = [context.Process(target=_seeds, args=(str(tmp_path / "s.sqlite"), results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    seen = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.parametrize("root_seed", [None, b"\1" * 32])
def test_the_seeds_are_not_shown(tmp_path: Path, root_seed: bytes | None) -> None:
    assert "seed" not in repr(Subjects(tmp_path / "s.sqlite", root_seed=root_seed)).lower()
