"""Segments, proofs and what the façade promises."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core.digests import sha256_hex
from ml_platform.core.errors import Conflict, DeclarationError, NotFound
from ml_platform.registry import InclusionProof
from ml_platform.registry.fold import Fold, fold
from ml_platform.registry.state import State
from tests.registry.test_verification import segment
from tests.registry.world import World, key


def nth(number: int, writer: str = "writer-1", size: int = 10, **changes: object) -> dict:
    first = number * size
    return {
        **segment(), "id": f"{writer}-{number}", "writer": writer, "size": size,
        "first_seq": first, "last_seq": first + size - 1, **changes,
    }  # fmt: skip


def test_segments_are_sealed_once_and_a_rerun_is_a_no_op(world: World) -> None:
    parts = [nth(number) for number in range(70)]
    assert world.registry.seal_segments(parts) == [1] * 32 + [2] * 32 + [3] * 6
    assert world.registry.seal_segments(parts[60:]) == [2] * 4 + [3] * 6
    assert world.registry.seal_segments([*parts[69:], nth(70)]) == [3, 4]
    assert world.registry.seal_segments([]) == []
    assert world.registry.state().size == 5
    assert world.registry.sealed_in("writer-1-33") == 2
    assert world.registry.verify().open_writers == ("writer-1",)
    with pytest.raises(NotFound):
        world.registry.sealed_in("writer-1-71")


@pytest.mark.parametrize(
    "changes", [{"first_seq": 11, "last_seq": 20}, {"first_seq": 9, "last_seq": 18}, {"first_seq": 0, "last_seq": 9}]
)
def test_a_gap_or_overlap_in_a_writers_sequence_is_refused(world: World, changes: dict) -> None:
    world.registry.seal_segments([nth(0)])
    with pytest.raises(Conflict, match="next record is 10"):
        world.registry.seal_segments([nth(1, **changes)])
    with pytest.raises(Conflict):
        world.registry.seal_segments([nth(1), nth(3)])
    world.registry.seal_segments([nth(1), nth(0, "writer-2"), nth(2)])


def test_a_segment_id_with_other_content_is_a_conflict(world: World) -> None:
    world.registry.seal_segments([nth(0)])
    with pytest.raises(Conflict, match="other content"):
        world.registry.seal_segments([nth(0, root=sha256_hex(b"other"))])


@pytest.mark.parametrize(
    "changes",
    [{"size": 9}, {"size": 11}, {"min_decided_at": "2026-01-05T09:00:00.000001Z"}, {"models": []}, {"note": 1}],
)
def test_a_segment_that_contradicts_itself_is_refused(world: World, changes: dict) -> None:
    with pytest.raises(DeclarationError):
        world.registry.seal_segments([{**nth(0), **changes}])


def test_a_writer_closes_once_after_its_last_record(world: World) -> None:
    with pytest.raises(Conflict):
        world.registry.close_writer("writer-1", 9)
    world.registry.seal_segments([nth(0)])
    for wrong in (8, 10):
        with pytest.raises(Conflict):
            world.registry.close_writer("writer-1", wrong)
    assert world.registry.close_writer("writer-1", 9) == 2
    assert world.registry.close_writer("writer-1", 9) is None
    with pytest.raises(Conflict, match="closed"):
        world.registry.seal_segments([nth(1)])
    assert world.registry.verify().open_writers == ()


def test_every_entry_has_a_proof_that_holds_without_the_database(world: World) -> None:
    world.version(1)
    world.move(1, "stage", "staging")
    world.request(2)  # behind the newest checkpoint: asking for its proof makes a new one
    genesis = world.registry.state().genesis
    assert genesis is not None
    for index in range(world.registry.state().size):
        proof = world.registry.inclusion(index)
        assert proof.holds(genesis.log_vkey)
        assert proof.to_json()["index"] == index
        for other in (
            InclusionProof(proof.index + 1, proof.raw, proof.path, proof.checkpoint),
            InclusionProof(proof.index, proof.raw + b" ", proof.path, proof.checkpoint),
            InclusionProof(proof.index, proof.raw, proof.path[:-1], proof.checkpoint),
            InclusionProof(proof.index, proof.raw, proof.path, proof.checkpoint + b"x"),
        ):
            assert not other.holds(genesis.log_vkey)
        assert not proof.holds("nonsense")
    for index in (-1, world.registry.state().size):
        with pytest.raises(NotFound):
            world.registry.inclusion(index)
        with pytest.raises(NotFound):
            world.registry.entry(index)


def test_a_read_only_process_proves_what_a_checkpoint_covers(world: World) -> None:
    from ml_platform.core.errors import SettingsError

    world.version(1)
    world.request(2)
    reader = world.reopen(signer=None)
    assert reader.inclusion(3).index == 3
    with pytest.raises(SettingsError):
        reader.inclusion(4)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list:
    """Entries and leaf hashes of a rich log."""
    world = World(tmp_path_factory.mktemp("told") / "root")
    world.to_production(world.version(1))
    world.add_key("team:eve", "officer:bob")
    world.to_production(world.version(2, baseline=(1, world.artifact(1))))
    world.version(1, model="churn")
    world.move(1, "rollback", "production")
    world.registry.seal_segments([nth(0)])
    log = world.registry._log
    return [(entry, log.tree.leaf(entry.index)) for entry in log.entries()]


@given(st.data())
@settings(max_examples=50)
def test_the_fold_is_the_same_however_it_is_cut(told: list, data: st.DataObject) -> None:
    whole = fold(told)
    cut = data.draw(st.integers(0, len(told)))
    before = fold(told[:cut])
    copy = repr(before)
    assert fold(told[cut:], before) == whole
    assert repr(before) == copy  # a state never changes


def test_a_peek_says_what_a_state_would_say(told: list) -> None:
    folding = Fold()
    assert folding.peek() == State()
    for place, (entry, leaf) in enumerate(told):
        folding.add(entry, leaf)
        assert folding.peek() == fold(told[: place + 1])


def test_nothing_secret_or_personal_is_in_the_log_or_in_messages(world: World) -> None:
    world.to_production(world.version(1))
    text = world.database.read_bytes() + b"".join(path.read_bytes() for path in world.folder.glob("registry.sqlite-*"))
    for word in (b"example.org", b"It is time", b"Looks right", key("log").private_bytes_raw(), b"PRIVATE"):
        assert word not in text
