"""The keyed hashes of whole columns: equal to ``core.digests.keyed`` and ``serving.record``, a third of the price.

HMAC (RFC 2104) is written out over plain SHA-256 objects: one-shot ``hmac`` costs more in set-up than in hashing when
messages are short, and one key for many rows needs its two padded blocks only once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Protocol

from ml_platform.core.errors import DeclarationError

__all__ = ["Keys", "OneKey", "RowKeys", "hash_tails", "sized"]

_BLOCK: Final = 64
_KEY: Final = 32
_INNER: Final = bytes(value ^ 0x36 for value in range(256))
_OUTER: Final = bytes(value ^ 0x5C for value in range(256))
_INNER_PAD: Final = b"\x36" * (_BLOCK - _KEY)
_OUTER_PAD: Final = b"\x5c" * (_BLOCK - _KEY)


def _checked(key: bytes) -> bytes:
    if len(key) != _KEY:
        raise DeclarationError("A key is not 32 bytes long.", field="key", next_step="Pass seeds or salts.")
    return key


class Keys(Protocol):
    """The HMAC keys of the rows of a chunk."""

    def macs(self, prefix: bytes, tails: Sequence[bytes]) -> list[bytes]:
        """HMAC-SHA-256(key of the row, prefix + tail of the row), 32 bytes each."""
        ...


@dataclass(frozen=True, repr=False)
class OneKey:
    """One 32-byte key for all rows."""

    key: bytes

    def macs(self, prefix: bytes, tails: Sequence[bytes]) -> list[bytes]:
        key = _checked(self.key)
        inner = sha256(key.translate(_INNER) + _INNER_PAD + prefix)
        outer = sha256(key.translate(_OUTER) + _OUTER_PAD)
        return _absorbed(outer, _absorbed(inner, tails))


@dataclass(frozen=True, repr=False)
class RowKeys:
    """A 32-byte key for each row."""

    keys: Sequence[bytes]

    def macs(self, prefix: bytes, tails: Sequence[bytes]) -> list[bytes]:
        if any(len(key) != _KEY for key in self.keys):
            _checked(b"")
        start = _INNER_PAD + prefix
        inner = [
            sha256(key.translate(_INNER) + start + tail).digest() for key, tail in zip(self.keys, tails, strict=True)
        ]
        return [
            sha256(key.translate(_OUTER) + _OUTER_PAD + digest).digest()
            for key, digest in zip(self.keys, inner, strict=True)
        ]


def hash_tails(prefix: bytes, tails: Iterable[bytes]) -> list[bytes]:
    """SHA-256(prefix + tail) of each tail, 32 bytes each; the prefix is hashed once."""
    return _absorbed(sha256(prefix), tails)


def sized(values: Sequence[bytes], after: bytes = b"") -> list[bytes]:
    """Each value as a ``bytes`` field of ``row/1``, with the same bytes after each."""
    before = {length: b"\x01" + length.to_bytes(4, "little") for length in set(map(len, values))}
    return [before[len(value)] + value + after for value in values]


def _absorbed(start: object, tails: Iterable[bytes]) -> list[bytes]:
    copy = start.copy  # type: ignore[attr-defined]  # hashlib's class has no public name
    digests: list[bytes] = []
    for tail in tails:
        state = copy()
        state.update(tail)
        digests.append(state.digest())
    return digests
