from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core import merkle
from ml_platform.core.errors import Tampered
from ml_platform.governance.trees import inclusion_path, tree_of


def leaves(count: int) -> list[bytes]:
    return sorted(sha256(bytes([number % 256, number // 256])).digest() for number in range(count))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.data())
def test_every_leaf_is_found_with_the_path_of_the_plain_tree(count, data):
    hashes = leaves(count)
    index = data.draw(st.integers(0, count - 1))
    root = merkle.root(hashes)
    assert inclusion_path(tree_of(b"".join(hashes)), hashes[index], root, field="x") == (
        index,
        merkle.inclusion_proof(hashes, index),
    )


@pytest.mark.parametrize("wanted", [bytes(32), b"\xff" * 32, sha256(b"other").digest()])
def test_a_leaf_that_is_not_there_is_refused(wanted):
    hashes = leaves(7)
    with pytest.raises(Tampered, match="not in the tree"):
        inclusion_path(tree_of(b"".join(hashes)), wanted, merkle.root(hashes), field="record")


def test_a_tree_with_another_root_is_refused():
    hashes = leaves(7)
    with pytest.raises(Tampered, match="root"):
        inclusion_path(tree_of(b"".join(hashes)), hashes[0], bytes(32), field="record")


def test_remembering_a_tree_forgives_no_change():
    hashes = leaves(7)
    before = tree_of(b"".join(hashes))
    assert tree_of(b"".join(hashes)) is before
    assert tree_of(b"".join([bytes(32), *hashes[1:]])).root() != before.root()


def test_a_broken_length_is_refused():
    with pytest.raises(Tampered, match="length"):
        tree_of(b"x" * 33)
