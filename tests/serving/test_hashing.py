from __future__ import annotations

import hashlib
import hmac
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core.errors import DeclarationError
from ml_platform.core.rows import encode_row
from ml_platform.serving import delta_hashing
from ml_platform.serving.encoding import Messages
from ml_platform.serving.hashing import OneKey, RowKeys, hash_rows, hash_tails, mac_rows, sized, sized_messages

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


def messages(rows: int, longest: int = 200) -> list[bytes]:
    drawn = random.Random(7)
    return [drawn.randbytes(drawn.randrange(longest)) for _ in range(rows)]


def split(matrix: np.ndarray) -> list[bytes]:
    assert matrix.shape[1:] == (32,)
    return [row.tobytes() for row in matrix]


@pytest.mark.parametrize("rows", [0, 1, 2_047, 2_048, 10_000])
def test_many_rows_have_the_hashes_of_the_standard_library(rows: int) -> None:
    tails, key, prefix = messages(rows), bytes(range(32)), b"what they begin with"
    flat = Messages.of(tails)
    macs = [hmac.digest(key, prefix + tail, "sha256") for tail in tails]
    assert split(OneKey(key).mac_rows(prefix, flat)) == macs
    assert split(hash_rows(prefix, flat)) == [hashlib.sha256(prefix + tail).digest() for tail in tails]
    each = [hmac.digest(mac, prefix + tail, "sha256") for mac, tail in zip(macs, tails, strict=True)]
    assert split(RowKeys(macs).mac_rows(prefix, flat)) == each
    assert split(mac_rows(np.array([list(mac) for mac in macs], np.uint8).reshape(-1, 32), prefix, flat)) == each


def test_many_rows_without_the_engine_have_the_same_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    flat, keys = Messages.of(messages(3_000)), np.frombuffer(random.Random(1).randbytes(96_000), np.uint8)

    def found() -> list[list[bytes]]:
        one = OneKey(bytes(32)).mac_rows(b"p", flat), hash_rows(b"p", flat), mac_rows(keys.reshape(-1, 32), b"p", flat)
        return [split(matrix) for matrix in one]

    with_engine = found()
    monkeypatch.setattr(delta_hashing, "available", lambda: False)
    assert found() == with_engine


def test_sized_messages_are_sized_values_end_to_end() -> None:
    for values in ([], [b""], [b"a", b"b"], [b"abc", b""], [b"a" * 300] * 3):
        for after in (b"", b"z"):
            assert sized_messages(values, after).split() == sized(values, after)


@pytest.mark.parametrize("keys", [OneKey(b"short"), RowKeys([b"short"])], ids=["one", "each"])
def test_a_key_of_another_length_is_refused_for_many_rows_too(keys: OneKey | RowKeys) -> None:
    with pytest.raises(DeclarationError):
        keys.mac_rows(b"", Messages.of([b"x"]))


def test_a_key_for_each_of_many_rows_is_demanded() -> None:
    with pytest.raises(ValueError, match="zip"):
        mac_rows(np.zeros((3_000, 32), np.uint8), b"", Messages.of([b"x"] * 3_001))
