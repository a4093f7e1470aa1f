"""The keyed hashes of whole columns: equal to ``core.digests.keyed`` and ``serving.record``, a third of the price.

HMAC (RFC 2104) is written out over plain SHA-256 objects: one-shot ``hmac`` costs more in set-up than in hashing when
messages are short, and one key for many rows needs its two padded blocks only once. From some thousand rows on
(``…_rows``) the engine of ``serving.delta_hashing`` gives the same bits, cheaper and beside the interpreter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from ml_platform.core.errors import DeclarationError
from ml_platform.serving import delta_hashing
from ml_platform.serving.encoding import Messages

__all__ = ["Keys", "OneKey", "RowKeys", "hash_rows", "hash_tails", "mac_rows", "sized", "sized_messages"]

Bytes2D = npt.NDArray[np.uint8]

_BLOCK: Final = 64
_KEY: Final = 32
_INNER: Final = bytes(value ^ 0x36 for value in range(256))
_OUTER: Final = bytes(value ^ 0x5C for value in range(256))
_INNER_PAD: Final = b"\x36" * (_BLOCK - _KEY)
_OUTER_PAD: Final = b"\x5c" * (_BLOCK - _KEY)
_MANY: Final = 2_048  # rows from which the engine is worth its start


def _checked(key: bytes) -> bytes:
    if len(key) != _KEY:
        raise DeclarationError("A key is not 32 bytes long.", field="key", next_step="Pass seeds or salts.")
    return key


class Keys(Protocol):
    """The HMAC keys of the rows of a chunk."""

    def macs(self, prefix: bytes, tails: Sequence[bytes]) -> list[bytes]:
        """HMAC-SHA-256(key of the row, prefix + tail of the row), 32 bytes each."""
        ...

    def mac_rows(self, prefix: bytes, tails: Messages) -> Bytes2D:
        """The same of many rows, [n, 32]."""
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

    def mac_rows(self, prefix: bytes, tails: Messages) -> Bytes2D:
        key = _checked(self.key)
        inner = _literal(key.translate(_INNER) + _INNER_PAD + prefix)
        outer = _literal(key.translate(_OUTER) + _OUTER_PAD)
        found = _engine(f"sha256({outer} || sha256({inner} || tail))", tail=tails)
        return _matrix(self.macs(prefix, tails.split())) if found is None else found


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

    def mac_rows(self, prefix: bytes, tails: Messages) -> Bytes2D:
        if any(len(key) != _KEY for key in self.keys):
            _checked(b"")
        return mac_rows(_matrix(self.keys), prefix, tails)


def mac_rows(keys: Bytes2D, prefix: bytes, tails: Messages) -> Bytes2D:
    """HMAC-SHA-256(key of the row, prefix + tail of the row) for keys [n, 32]: [n, 32]."""
    if len(keys) == len(tails):
        inner, outer = Messages.of_matrix(keys ^ np.uint8(0x36)), Messages.of_matrix(keys ^ np.uint8(0x5C))
        after, pad = _literal(_INNER_PAD + prefix), _literal(_OUTER_PAD)
        found = _engine(
            f"sha256(outer_key || {pad} || sha256(inner_key || {after} || tail))",
            tail=tails,
            inner_key=inner,
            outer_key=outer,
        )
        if found is not None:
            return found
    return _matrix(RowKeys(Messages.of_matrix(keys).split()).macs(prefix, tails.split()))


def hash_rows(prefix: bytes, tails: Messages) -> Bytes2D:
    """SHA-256(prefix + tail) of each tail, [n, 32]."""
    found = _engine(f"sha256({_literal(prefix)} || tail)", tail=tails)
    return _matrix(hash_tails(prefix, tails.split())) if found is None else found


def _literal(raw: bytes) -> str:
    return f"X'{raw.hex()}'"


def _engine(expression: str, **messages: Messages) -> Bytes2D | None:
    columns: dict[str, Any] = {}
    for name, rows in messages.items():
        if len(rows) < _MANY:
            return None
        columns[name] = delta_hashing.column(rows.raw, rows.offsets)
    return None if None in columns.values() else delta_hashing.hashed(expression, columns)


def _matrix(hashes: Sequence[bytes]) -> Bytes2D:
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, _KEY)


def hash_tails(prefix: bytes, tails: Iterable[bytes]) -> list[bytes]:
    """SHA-256(prefix + tail) of each tail, 32 bytes each; the prefix is hashed once."""
    return _absorbed(sha256(prefix), tails)


def sized(values: Sequence[bytes], after: bytes = b"") -> list[bytes]:
    """Each value as a ``bytes`` field of ``row/1``, with the same bytes after each."""
    before = {length: b"\x01" + length.to_bytes(4, "little") for length in set(map(len, values))}
    return [before[len(value)] + value + after for value in values]


def sized_messages(values: Sequence[bytes], after: bytes = b"") -> Messages:
    """What ``sized`` gives, end to end."""
    lengths = set(map(len, values))
    if len(lengths) != 1:
        return Messages.of(sized(values, after))
    (width,) = lengths
    matrix = np.empty((len(values), 5 + width + len(after)), np.uint8)
    matrix[:, :5] = np.frombuffer(b"\x01" + width.to_bytes(4, "little"), np.uint8)
    matrix[:, 5 : 5 + width] = np.frombuffer(b"".join(values), np.uint8).reshape(len(values), width)
    matrix[:, 5 + width :] = np.frombuffer(after, np.uint8)
    return Messages.of_matrix(matrix)


def _absorbed(start: object, tails: Iterable[bytes]) -> list[bytes]:
    copy = start.copy  # type: ignore[attr-defined]  # hashlib's class has no public name
    digests: list[bytes] = []
    for tail in tails:
        state = copy()
        state.update(tail)
        digests.append(state.digest())
    return digests
