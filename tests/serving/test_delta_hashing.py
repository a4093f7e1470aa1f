from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import numpy as np
import pytest

from ml_platform.serving import delta_hashing
from ml_platform.serving.encoding import Messages


def column(values: list[bytes]) -> object:
    flat = Messages.of(values)
    return delta_hashing.column(flat.raw, flat.offsets)


def test_the_pinned_engine_hashes_here() -> None:
    assert delta_hashing.available() == hasattr(os, "memfd_create")


@pytest.mark.skipif(not delta_hashing.available(), reason="no anonymous memory files")
def test_hashes_stand_in_the_order_of_the_rows() -> None:
    drawn = random.Random(3)
    values = [drawn.randbytes(drawn.randrange(150)) for _ in range(20_000)]
    found = delta_hashing.hashed("sha256(x)", {"x": column(values)})
    assert found is not None
    assert found.tobytes() == b"".join(hashlib.sha256(value).digest() for value in values)


def test_what_the_engine_refuses_is_left_to_the_caller_without_its_words() -> None:
    assert delta_hashing.hashed("no_such_function(x)", {"x": column([b"a"])}) is None
    assert delta_hashing.hashed("x", {"x": column([b"not 32 bytes"])}) is None


def test_messages_beyond_what_a_column_holds_are_left_to_the_caller() -> None:
    assert delta_hashing.column(b"", np.array([0, 2**31], np.int64)) is None
    assert delta_hashing.column(b"ab", np.array([0, 2], np.int64)) is not None


def test_nothing_stays_open() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        delta_hashing.hashed("sha256(x)", {"x": column([b"a"] * 5)})
        delta_hashing.hashed("nonsense", {"x": column([b"a"])})
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
