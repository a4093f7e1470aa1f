from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core.errors import DeclarationError
from ml_platform.core.rows import encode_row
from ml_platform.serving.hashing import OneKey, RowKeys, hash_tails, sized

KEYS = st.binary(min_size=32, max_size=32)
MESSAGES = st.binary(max_size=200)


@given(KEYS, MESSAGES, st.lists(MESSAGES, max_size=4))
@settings(max_examples=100, deadline=None)
def test_one_key_gives_the_standard_librarys_hmac(key: bytes, prefix: bytes, tails: list[bytes]) -> None:
    assert OneKey(key).macs(prefix, tails) == [hmac.digest(key, prefix + tail, "sha256") for tail in tails]


@given(MESSAGES, st.lists(st.tuples(KEYS, MESSAGES), max_size=4))
@settings(max_examples=100, deadline=None)
def test_row_keys_give_the_standard_librarys_hmac(prefix: bytes, rows: list[tuple[bytes, bytes]]) -> None:
    keys, tails = [key for key, _ in rows], [tail for _, tail in rows]
    assert RowKeys(keys).macs(prefix, tails) == [hmac.digest(key, prefix + tail, "sha256") for key, tail in rows]


@given(MESSAGES, st.lists(MESSAGES, max_size=4))
@settings(max_examples=50, deadline=None)
def test_a_prefix_is_hashed_once_for_all_tails(prefix: bytes, tails: list[bytes]) -> None:
    assert hash_tails(prefix, tails) == [hashlib.sha256(prefix + tail).digest() for tail in tails]


def test_sized_values_are_bytes_fields() -> None:
    values = [b"", b"a" * 300, b"b"]
    assert sized(values) == [encode_row([("bytes", value)]) for value in values]
    assert sized([b"a"], b"z") == [encode_row([("bytes", b"a")]) + b"z"]


@pytest.mark.parametrize("keys", [OneKey(b"short"), RowKeys([b"short"])], ids=["one", "each"])
def test_a_key_of_another_length_is_refused(keys: OneKey | RowKeys) -> None:
    with pytest.raises(DeclarationError):
        keys.macs(b"", [b"x"])


def test_a_key_for_each_row_is_demanded() -> None:
    with pytest.raises(ValueError, match="zip"):
        RowKeys([bytes(32)]).macs(b"", [b"x", b"y"])
