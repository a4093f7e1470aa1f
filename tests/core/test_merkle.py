from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core.errors import DeclarationError, NotFound, Tampered
from ml_platform.core.merkle import (
    EMPTY_ROOT,
    Frontier,
    TreeHashes,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root,
    verify_consistency,
    verify_inclusion,
)

# The eight leaves and roots that the certificate-transparency projects test with.
_PUBLISHED_LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
_PUBLISHED_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
_LEAVES = [leaf_hash(bytes.fromhex(raw)) for raw in _PUBLISHED_LEAVES]
_NUMBERED = [leaf_hash(str(i).encode()) for i in range(70)]
_SIZES = st.integers(0, len(_NUMBERED))


def _split_point(size: int) -> int:
    """The largest power of two below the size."""
    k = 1
    while 2 * k < size:
        k *= 2
    return k


def _textbook_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = _split_point(len(leaves))
    return sha256(b"\x01" + _textbook_root(leaves[:k]) + _textbook_root(leaves[k:])).digest()


def _textbook_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962, section 2.1.1."""
    if len(leaves) == 1:
        return []
    k = _split_point(len(leaves))
    if index < k:
        return [*_textbook_path(index, leaves[:k]), _textbook_root(leaves[k:])]
    return [*_textbook_path(index - k, leaves[k:]), _textbook_root(leaves[:k])]


def _textbook_subproof(old: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962, section 2.1.2."""
    if old == len(leaves):
        return [] if whole else [_textbook_root(leaves)]
    k = _split_point(len(leaves))
    if old <= k:
        return [*_textbook_subproof(old, leaves[:k], whole), _textbook_root(leaves[k:])]
    return [*_textbook_subproof(old - k, leaves[k:], False), _textbook_root(leaves[:k])]


@pytest.mark.parametrize("size", range(9))
def test_roots_are_the_published_ones(size: int) -> None:
    expected = _PUBLISHED_ROOTS[size]
    assert root(_LEAVES[:size]).hex() == expected
    assert Frontier().extend(_LEAVES[:size]).root().hex() == expected
    assert TreeHashes.build(b"".join(_LEAVES[:size])).root().hex() == expected


def test_proofs_are_the_published_ones() -> None:
    tail = [
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]
    path = ["bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b", *tail]
    proof = ["0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a", *tail]
    assert [one.hex() for one in inclusion_proof(_LEAVES, 5)] == path
    assert [one.hex() for one in consistency_proof(_LEAVES, 6)] == proof


def test_a_leaf_cannot_pass_as_a_node() -> None:
    left, right = _LEAVES[:2]
    assert leaf_hash(left + right) != node_hash(left, right)
    assert leaf_hash(b"x") == sha256(b"\x00x").digest()
    assert node_hash(left, right) == sha256(b"\x01" + left + right).digest()


@given(size=_SIZES)
def test_root_is_that_of_the_recursive_definition(size: int) -> None:
    leaves = _NUMBERED[:size]
    tree = TreeHashes.build(b"".join(leaves))
    assert root(leaves) == tree.root() == Frontier().extend(leaves).root() == _textbook_root(leaves)
    assert tree.size == size


@pytest.mark.parametrize("size", range(1, 34))
def test_every_inclusion_proof_is_the_textbook_one_and_verifies(size: int) -> None:
    leaves = _NUMBERED[:size]
    tree, top = TreeHashes.build(b"".join(leaves)), _textbook_root(leaves)
    for index in range(size):
        proof = inclusion_proof(leaves, index)
        assert proof == tree.inclusion_proof(index) == _textbook_path(index, leaves)
        assert tree.leaf(index) == leaves[index]
        assert verify_inclusion(leaves[index], index, size, proof, top)
        others = (other for other in range(size + 2) if other != index)
        assert not any(verify_inclusion(leaves[index], other, size, proof, top) for other in others)


@pytest.mark.parametrize("new", range(34))
def test_every_consistency_proof_is_the_textbook_one_and_verifies(new: int) -> None:
    leaves, top = _NUMBERED[:new], _textbook_root(_NUMBERED[:new])
    for old in range(new + 1):
        proof = consistency_proof(leaves, old)
        assert proof == (_textbook_subproof(old, leaves, True) if old else [])
        assert verify_consistency(old, new, _textbook_root(leaves[:old]), top, proof)


@settings(max_examples=100)
@given(data=st.data(), size=st.integers(2, 70))
def test_any_altered_inclusion_proof_is_refused(data: st.DataObject, size: int) -> None:
    leaves = _NUMBERED[:size]
    index = data.draw(st.integers(0, size - 1))
    proof, top = inclusion_proof(leaves, index), root(leaves)
    place = data.draw(st.integers(0, len(proof) - 1))
    altered = [_NUMBERED[-1] if i == place else one for i, one in enumerate(proof)]
    if altered != proof:
        assert not verify_inclusion(leaves[index], index, size, altered, top)
    shortened, lengthened = proof[:place] + proof[place + 1 :], [*proof, proof[place]]
    assert not verify_inclusion(leaves[index], index, size, shortened, top)
    assert not verify_inclusion(leaves[index], index, size, lengthened, top)
    assert not verify_inclusion(leaf_hash(b"other"), index, size, proof, top)
    assert not verify_inclusion(leaves[index], index, size, proof, leaf_hash(b"other"))


@settings(max_examples=100)
@given(data=st.data(), new=st.integers(2, 70))
def test_a_rewritten_past_has_no_consistency_proof(data: st.DataObject, new: int) -> None:
    old = data.draw(st.integers(1, new - 1))
    changed = data.draw(st.integers(0, old - 1))
    honest = _NUMBERED[:new]
    forged = [leaf_hash(b"forged") if i == changed else one for i, one in enumerate(honest)]
    old_root = root(honest[:old])
    assert not verify_consistency(old, new, old_root, root(forged), consistency_proof(forged, old))
    assert not verify_consistency(old, new, old_root, root(forged), consistency_proof(honest, old))
    proof = consistency_proof(honest, old)
    assert verify_consistency(old, new, old_root, root(honest), proof)
    assert not verify_consistency(old, new, old_root, root(honest), proof[:-1])
    assert not verify_consistency(old, new, old_root, root(honest), [*proof, proof[-1]])
    assert not verify_consistency(old, new, leaf_hash(b"other"), root(honest), proof)


def test_the_empty_tree_is_a_prefix_of_every_tree_and_of_nothing_forged() -> None:
    top = root(_LEAVES)
    assert root([]) == EMPTY_ROOT == Frontier().root()
    assert verify_consistency(0, 8, EMPTY_ROOT, top, [])
    assert verify_consistency(0, 0, EMPTY_ROOT, EMPTY_ROOT, [])
    assert not verify_consistency(0, 0, EMPTY_ROOT, top, [])
    assert not verify_consistency(0, 8, top, top, [])
    assert not verify_consistency(0, 8, EMPTY_ROOT, top, [top])


def test_equal_sizes_need_equal_roots_and_no_proof() -> None:
    top = root(_LEAVES)
    assert verify_consistency(8, 8, top, top, [])
    assert not verify_consistency(8, 8, top, _LEAVES[0], [])
    assert not verify_consistency(8, 8, top, top, [top])


def test_a_tree_never_shrinks() -> None:
    assert not verify_consistency(8, 6, root(_LEAVES), root(_LEAVES[:6]), consistency_proof(_LEAVES, 6))


_ANYTHING = st.one_of(
    st.none(), st.integers(), st.text(), st.binary(max_size=40), st.lists(st.one_of(st.none(), st.binary(max_size=33)))
)


@settings(max_examples=150)
@given(a=_ANYTHING, b=_ANYTHING, c=_ANYTHING, d=_ANYTHING, e=_ANYTHING)
def test_malformed_proofs_are_false_and_never_raise(a: object, b: object, c: object, d: object, e: object) -> None:
    assert verify_inclusion(a, b, c, d, e) is False  # type: ignore[arg-type]
    assert verify_consistency(a, b, c, d, e) is False  # type: ignore[arg-type]
    assert verify_inclusion(_LEAVES[0], 0, 8, d, root(_LEAVES)) is False  # type: ignore[arg-type]
    assert verify_consistency(6, 8, root(_LEAVES[:6]), root(_LEAVES), e) is False  # type: ignore[arg-type]


def test_sizes_and_indexes_out_of_range_are_false() -> None:
    proof, top = inclusion_proof(_LEAVES, 0), root(_LEAVES)
    assert verify_inclusion(_LEAVES[0], 0, 8, tuple(proof), top)
    for index, size in [(-1, 8), (8, 8), (0, 0), (0, -8), (0, 2**80), (False, 8), (0.0, 8)]:
        assert not verify_inclusion(_LEAVES[0], index, size, proof, top)  # type: ignore[arg-type]


@pytest.mark.parametrize("index", [-1, 8])
def test_asking_for_a_missing_leaf_is_not_found(index: int) -> None:
    with pytest.raises(NotFound):
        inclusion_proof(_LEAVES, index)


@pytest.mark.parametrize("old_size", [-1, 9])
def test_asking_for_a_size_that_never_was_is_not_found(old_size: int) -> None:
    with pytest.raises(NotFound):
        consistency_proof(_LEAVES, old_size)


@pytest.mark.parametrize("bad", [b"", b"x" * 31, b"x" * 33])
def test_leaf_hashes_of_other_lengths_are_refused(bad: bytes) -> None:
    for build in (root, Frontier().extend):
        with pytest.raises(DeclarationError):
            build([_LEAVES[0], bad])
    with pytest.raises(DeclarationError):
        TreeHashes.build(_LEAVES[0] + b"x")


@given(sizes=st.tuples(_SIZES, _SIZES))
def test_a_stored_frontier_goes_on_where_it_stopped(sizes: tuple[int, int]) -> None:
    first, last = sorted(sizes)
    stored = Frontier().extend(_NUMBERED[:first]).to_bytes()
    frontier = Frontier.from_bytes(stored)
    assert len(stored) == 8 + 32 * first.bit_count()
    for one in _NUMBERED[first:last]:
        frontier = frontier.append(one)
    assert frontier.size == last
    assert frontier.root() == _textbook_root(_NUMBERED[:last])


@settings(max_examples=100)
@given(raw=st.binary(max_size=90))
def test_bytes_that_are_no_frontier_are_refused(raw: bytes) -> None:
    try:
        frontier = Frontier.from_bytes(raw)
    except Tampered:
        return
    assert frontier.to_bytes() == raw


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00" * 7,
        b"\x00" * 7 + b"\x01",
        b"\x00" * 7 + b"\x02" + b"h" * 31,
        b"\x00" * 7 + b"\x02" + b"h" * 64,
        b"\x80" + b"\x00" * 7 + b"h" * 32,
    ],
)
def test_a_frontier_whose_hashes_do_not_fit_its_size_is_refused(raw: bytes) -> None:
    with pytest.raises(Tampered):
        Frontier.from_bytes(raw)


def test_large_trees_agree_with_each_other() -> None:
    leaves = [i.to_bytes(32, "big") for i in range(100_003)]
    tree = TreeHashes.build(b"".join(leaves))
    assert root(leaves) == tree.root() == Frontier().extend(leaves).root()
    for index in (0, 65_535, 65_536, 99_999, 100_002):
        assert verify_inclusion(leaves[index], index, tree.size, tree.inclusion_proof(index), tree.root())
    for old in (1, 65_536, 65_537, 100_002):
        assert verify_consistency(old, tree.size, root(leaves[:old]), tree.root(), tree.consistency_proof(old))
