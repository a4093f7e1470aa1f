"""The growing tree against the plain functions of RFC 6962."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.core import merkle
from ml_platform.core.errors import NotFound
from ml_platform.registry.tree import LogTree

LEAVES = [merkle.leaf_hash(bytes([number])) for number in range(70)]


@given(st.integers(0, 70), st.data())
def test_roots_proofs_and_frontier_are_those_of_the_reference(size: int, data) -> None:
    tree = LogTree()
    cut = data.draw(st.integers(0, size))
    tree.extend(LEAVES[:cut])
    tree.extend(LEAVES[cut:size])
    assert tree.size == size
    assert tree.frontier() == merkle.Frontier().extend(LEAVES[:size])
    older = data.draw(st.integers(0, size))
    assert tree.root_at(older) == merkle.root(LEAVES[:older])
    proof = tree.consistency_proof(older, size)
    assert proof == merkle.consistency_proof(LEAVES[:size], older)
    if older:
        index = data.draw(st.integers(0, older - 1))
        assert tree.leaf(index) == LEAVES[index]
        assert tree.inclusion_proof(index, older) == merkle.inclusion_proof(LEAVES[:older], index)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 30))
def test_a_truncated_tree_grows_as_if_nothing_had_been(size: int, extra: int, more: int) -> None:
    tree = LogTree()
    tree.extend(LEAVES[:size])
    tree.extend(LEAVES[30 : 30 + extra])
    tree.truncate(size)
    tree.extend(LEAVES[size : size + more])
    assert tree.frontier() == merkle.Frontier().extend(LEAVES[: size + more])


def test_there_is_nothing_beyond_the_log() -> None:
    tree = LogTree()
    tree.extend(LEAVES[:3])
    for call in (
        lambda: tree.root_at(4),
        lambda: tree.root_at(-1),
        lambda: tree.leaf(3),
        lambda: tree.inclusion_proof(2, 2),
        lambda: tree.inclusion_proof(0, 4),
        lambda: tree.consistency_proof(2, 4),
        lambda: tree.consistency_proof(3, 2),
    ):
        with pytest.raises(NotFound):
            call()
