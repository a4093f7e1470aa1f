"""Processes that are killed, and processes that run side by side, on real files."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.registry.world import World

REPOSITORY = Path(__file__).resolve().parent.parent.parent
TO_PRODUCTION = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from ml_platform.core.errors import IllegalTransition
    from tests.registry.world import World
    world = World(Path(sys.argv[1]))
    print("ready", flush=True)
    for number in range(1, 4):
        world.version(number, baseline=None)
        print(number, flush=True)
        state = world.registry.state().model("credit_risk")
        if state.versions[number].stage == "trained":
            world.move(number, "stage", "staging")
        world.registry.seal_segments([{
            "id": f"w-{number}", "size": 1, "root": "sha256:" + "0" * 64, "models": ["credit_risk"],
            "first_id": "a", "last_id": "a", "writer": f"w{number}", "first_seq": 0, "last_seq": 0, "counts": {},
            "min_decided_at": "2026-01-01T00:00:00.000000Z", "max_decided_at": "2026-01-01T00:00:00.000000Z"}])
    """
)


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", TO_PRODUCTION, str(folder)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_moment_of_registration_nothing_is_half_done_and_the_rerun_completes(
    tmp_path: Path, seed: int
) -> None:
    folder = tmp_path / "root"
    chance = random.Random(seed)
    for _ in range(4):
        process = start(folder)
        assert process.stdout is not None
        if seed % 2:  # half of the runs die while the database and genesis are made
            process.stdout.readline()
            time.sleep(chance.uniform(0, 0.12))
        else:
            time.sleep(chance.uniform(0.5, 1.0))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if (folder / "registry.sqlite").exists() and seed % 2:
            report = World(folder).registry.verify()
            assert report.ok, report
    process = start(folder)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    world = World(folder)
    versions = world.registry.state().model("credit_risk").versions
    assert {number: version.candidate for number, version in versions.items()} == {
        number: world.candidate(number) for number in (1, 2, 3)
    }
    kinds = [entry.kind for entry in world.registry.entries()]
    assert kinds.count("registered") == kinds.count("candidate_evaluated") == 3
    assert kinds.count("segments_sealed") == 3
    report = world.registry.verify()
    assert report.ok, report


def write_and_sign(folder: Path, first: int, barrier) -> None:
    world = World(folder)
    barrier.wait()
    for number in range(first, first + 15):
        world.request(number)
        world.registry.checkpoint()


def test_writers_signers_and_readers_side_by_side_never_take_each_other_for_tampering(tmp_path: Path) -> None:
    world = World(tmp_path / "root")
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    work = [context.Process(target=write_and_sign, args=(world.folder, first, barrier)) for first in (1, 101)]
    for process in work:
        process.start()
    barrier.wait()
    while any(process.is_alive() for process in work):
        reader = World(world.folder)
        reader.registry.state()
        reader.registry.inclusion(reader.registry.state().size - 1)
        report = reader.registry.verify()
        assert report.ok, report
        reader.registry.close()
    assert [process.exitcode for process in work] == [0, 0]
    state = world.registry.state()
    assert (state.size, len(state.model("credit_risk").candidates)) == (31, 30)
    assert world.registry.checkpoint().size == 31


@pytest.fixture
def side_by_side(world: World, monkeypatch: pytest.MonkeyPatch):
    """Lets another process write and sign at the moment before a method of this one's checkpoints runs."""
    other = World(world.folder)
    numbers = iter(range(100, 200))

    def before(name: str) -> None:
        checkpoints = world.registry._checkpoints
        plain = getattr(checkpoints, name)

        def interleaved(*arguments):
            other.request(next(numbers))
            other.registry.checkpoint()
            return plain(*arguments)

        monkeypatch.setattr(checkpoints, name, interleaved)

    other.request(1)  # something that this process has not read yet
    return before


def test_a_checkpoint_signed_while_we_read_is_not_taken_for_a_rollback(world: World, side_by_side) -> None:
    side_by_side("claims")
    assert world.registry.state().size == 3


def test_a_checkpoint_signed_while_we_verify_is_not_taken_for_a_rollback(world: World, side_by_side) -> None:
    side_by_side("sizes")
    report = world.registry.verify()
    assert report.ok, report


def test_a_mark_set_while_we_sign_is_not_taken_for_a_rollback(world: World, side_by_side) -> None:
    side_by_side("publish")
    assert world.registry.checkpoint().size == 2
    assert world.registry.state().size == 3


def test_a_checkpoint_signed_while_we_prove_is_not_beyond_our_tree(world: World, side_by_side) -> None:
    world.registry.state()
    side_by_side("sizes")
    proof = world.registry.inclusion(0)
    assert proof.holds(world.signer.key.verifier.vkey)
