from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ml_platform.core import merkle
from ml_platform.core.errors import Conflict, DuplicateKeys, NotFound, Tampered
from ml_platform.core.objects import ObjectStore
from ml_platform.registry.kinds import SEGMENT
from ml_platform.serving import segment as module
from ml_platform.serving.segment import LeafTree, Segment, load_segment, load_tiles, prove, proves, store_segment


def leaves(count: int) -> np.ndarray:
    raw = b"".join(hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(count))
    return np.frombuffer(raw, np.uint8).reshape(-1, 32)


def segment(tree: LeafTree) -> Segment:
    return Segment(
        id="batch-00.0",
        model="credit_risk",
        root=f"sha256:{tree.root().hex()}",
        size=tree.size,
        first_id="0128f0ce-bc00-8005-a62b-ad18ed738170",
        last_id="0128f0ce-bc00-8ff0-85cc-d51935cf6456",
        writer="batch-00",
        first_seq=0,
        last_seq=tree.size - 1,
        counts={"accepted": tree.size, "declined": 1, "flagged": 0, "refused": 2},
        min_decided_at="2010-06-01T00:00:00.000000Z",
        max_decided_at="2010-06-01T00:00:00.000000Z",
    )


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 31, 100])
@pytest.mark.parametrize("block", [1, 4, 256])
def test_the_tree_is_that_of_the_sorted_leaves_in_blocks_or_whole(
    count: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    matrix = leaves(count)
    tree, rank = LeafTree.of(matrix)
    ordered = sorted(row.tobytes() for row in matrix)
    assert tree.root() == merkle.root(ordered)
    assert [ordered[index] for index in rank] == [row.tobytes() for row in matrix]
    for index, leaf in enumerate(ordered):
        assert tree.index(leaf) == index
        assert tree.proof(index) == merkle.inclusion_proof(ordered, index)
        assert proves(segment(tree), leaf, index, tree.proof(index))
        assert not proves(segment(tree), leaf, (index + 1) % (count + 1), tree.proof(index))


@pytest.mark.parametrize("count", [4_095, 4_096, 4_097, 4_352, 65_537, 66_000])
def test_a_large_tree_hashed_level_by_level_has_the_root_and_blocks_of_the_rfc(count: int) -> None:
    tree, _ = LeafTree.of(leaves(count))
    ordered = [tree.leaves[at : at + 32] for at in range(0, 32 * count, 32)]
    assert tree.nodes == b"".join(merkle.root(ordered[at : at + 256]) for at in range(0, count, 256))
    assert tree.root() == merkle.root(ordered)


def test_the_same_leaf_twice_is_refused() -> None:
    with pytest.raises(DuplicateKeys):
        LeafTree.of(np.concatenate([leaves(3), leaves(1)]))


def test_a_leaf_that_is_not_there_is_not_found() -> None:
    tree, _ = LeafTree.of(leaves(5))
    with pytest.raises(NotFound):
        tree.index(b"\xff" * 32)
    with pytest.raises(NotFound):
        tree.index(b"\x00" * 32)


@pytest.mark.parametrize("raw", [b"x" * 31, b"\x02" * 32 + b"\x01" * 32, b"\x01" * 64])
def test_tiles_that_are_cut_unsorted_or_doubled_are_tampered(raw: bytes) -> None:
    with pytest.raises(Tampered):
        LeafTree(raw).root()


def test_neighbours_that_share_their_first_bytes_are_compared_to_the_end() -> None:
    first, second = b"\x01" * 31 + b"\x01", b"\x01" * 31 + b"\x02"
    assert LeafTree(first + second).size == 2
    with pytest.raises(Tampered):
        LeafTree(second + first)


def test_a_stored_segment_comes_back_and_other_leaves_are_a_conflict(tmp_path: Path) -> None:
    objects = ObjectStore(tmp_path)
    tree, _ = LeafTree.of(leaves(9))
    store_segment(objects, segment(tree), tree)
    store_segment(objects, segment(tree), tree)
    held = load_segment(objects, "batch-00.0")
    assert held == segment(tree)
    assert load_tiles(objects, held).leaves == tree.leaves
    assert prove(objects, held, leaves(9)[4].tobytes()) == (
        tree.index(leaves(9)[4].tobytes()),
        tree.proof(tree.index(leaves(9)[4].tobytes())),
    )
    other, _ = LeafTree.of(leaves(8))
    with pytest.raises(Conflict):
        store_segment(objects, segment(other), other)


def test_tiles_that_do_not_give_the_root_are_tampered(tmp_path: Path) -> None:
    objects = ObjectStore(tmp_path)
    tree, _ = LeafTree.of(leaves(9))
    store_segment(objects, segment(tree), tree)
    with pytest.raises(Tampered):
        load_tiles(objects, replace(segment(tree), root="sha256:" + "0" * 64))
    with pytest.raises(Tampered):
        load_tiles(objects, replace(segment(tree), size=8))


def test_a_proof_from_stored_nodes_is_checked_against_the_root(tmp_path: Path) -> None:
    objects = ObjectStore(tmp_path)
    tree, _ = LeafTree.of(leaves(700))
    held = segment(tree)
    store_segment(objects, held, tree)
    for row in leaves(700)[::50]:
        index, proof = prove(objects, held, row.tobytes())
        assert proves(held, row.tobytes(), index, proof)
        assert proof == LeafTree(tree.leaves).proof(index)
    with pytest.raises(NotFound):
        prove(objects, held, bytes(32))
    nodes = tmp_path / module.nodes_path(held.id)
    assert len(nodes.read_bytes()) == 3 * 32
    nodes.write_bytes(bytes(32) + nodes.read_bytes()[32:])
    with pytest.raises(Tampered):
        prove(objects, held, leaves(700)[650].tobytes())


def test_the_sealed_entry_has_the_shape_that_the_log_wants() -> None:
    tree, _ = LeafTree.of(leaves(9))
    entry = segment(tree).sealed_entry()
    assert SEGMENT.first_wrong(entry) is None
    assert entry["models"] == ["credit_risk"]
