"""The layered mapping behaves as a dictionary of which every copy is independent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ml_platform.registry import layers
from ml_platform.registry.layers import Layers

STEPS = st.lists(st.one_of(st.none(), st.tuples(st.integers(0, 12), st.integers())), max_size=40)


@given(STEPS, st.integers(0, 4))
def test_it_is_a_dictionary_whose_copies_never_change(steps, limit: int) -> None:
    kept, before = [], layers._MAX_UPPER
    layers._MAX_UPPER = limit
    try:
        mapping, plain = Layers[int, int](), dict[int, int]()
        for step in steps:
            if step is None:
                kept.append((mapping, dict(plain)))
                mapping = mapping.copy()
            else:
                mapping[step[0]] = step[1]
                plain[step[0]] = step[1]
        kept.append((mapping, plain))
    finally:
        layers._MAX_UPPER = before
    for one, expected in kept:
        assert one == expected
        assert len(one) == len(expected)
        assert sorted(one) == sorted(expected)
        assert eval(repr(one)) == expected
        assert [key in one for key in range(13)] == [key in expected for key in range(13)]
        assert [one.get(key) for key in range(13)] == [expected.get(key) for key in range(13)]


def test_a_copy_shares_what_is_large() -> None:
    mapping = Layers[int, int]()
    for number in range(layers._MAX_UPPER + 1):
        mapping[number] = number
    large = mapping.copy()
    assert large.copy()._lower is large._lower
    assert large._upper == {}
