"""Prediction ids: UUIDs whose first 48 bits are ``decided_at`` in milliseconds, so that text order is time order.

RFC 9562: version 7 (random) for online decisions; version 8 (keyed, deterministic) for batch and stream, so that a
retry cannot write twice and nobody can guess an entity from an id.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

from ml_platform.core.digests import keyed
from ml_platform.core.errors import NotFound
from ml_platform.core.rows import _EPOCH, micros

__all__ = ["batch_id_tail", "id_bytes", "id_text", "id_time", "uuid_v7", "uuid_v8"]


def _stamp(milliseconds: int, tail: bytes, version: int) -> bytes:
    raw = bytearray(milliseconds.to_bytes(6, "big") + tail[:10])
    raw[6] = (raw[6] & 0x0F) | (version << 4)
    raw[8] = (raw[8] & 0x3F) | 0x80
    return bytes(raw)


def uuid_v7(decided_at: datetime, random: bytes) -> bytes:
    """16 bytes: time, version 7, and the first 74 free bits of ``random`` (at least 10 bytes)."""
    return _stamp(micros(decided_at) // 1000, random, 7)


def uuid_v8(decided_at: datetime, tail: bytes) -> bytes:
    """16 bytes: time, version 8, and the first 74 free bits of a keyed ``tail``."""
    return _stamp(micros(decided_at) // 1000, tail, 8)


def batch_id_tail(
    seed: bytes,
    *,
    root_id: str,
    model: str,
    version: int,
    mode: str,
    role: str,
    partition: str,
    row_key: bytes,
    revision: int,
) -> bytes:
    """HMAC(subject seed, "ml-platform/id/1" ‖ root id, model, version, mode, role, partition, row key, revision)."""
    return keyed(
        seed,
        "ml-platform/id/1",
        ("text", root_id),
        ("text", model),
        ("i64", version),
        ("text", mode),
        ("text", role),
        ("text", partition),
        ("bytes", row_key),
        ("i64", revision),
    )


def id_text(raw: bytes) -> str:
    """The usual 36 characters."""
    return str(uuid.UUID(bytes=raw))


def id_bytes(text: str) -> bytes:
    """The 16 bytes of a prediction id.

    Raises:
        NotFound: the text is no prediction id.
    """
    try:
        return uuid.UUID(text).bytes
    except (ValueError, AttributeError) as error:
        raise NotFound(
            "This is not a prediction id.",
            field="prediction_id",
            next_step="Give the 36 characters of a decision's record.",
        ) from error


def id_time(raw: bytes) -> datetime:
    """``decided_at`` of an id, to the millisecond, UTC."""
    return _EPOCH + timedelta(milliseconds=int.from_bytes(raw[:6], "big"))
