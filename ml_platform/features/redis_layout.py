"""The bytes of the online store in Redis (``ml-platform/online/1``): members of sorted sets, in the order of time.

A member is key, time and value. Keys are ``row/1`` of one list of types, so none is the beginning of another; the last
member before (key, time) is the change point that holds, or belongs to another key, and then there is none. Pure.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ml_platform.core.row_reader import RowReader
from ml_platform.core.rows import FieldType, arrow_row_type, encode_table
from ml_platform.features.online import AT, EVENT, KEY, ChangePoint
from ml_platform.features.views import FeatureView

__all__ = ["BUCKETS", "ONLINE_FORMAT", "bucket_of", "kinds_of", "members_of", "point_of", "upper_bound"]

ONLINE_FORMAT: Final = "ml-platform/online/1"
BUCKETS: Final = 64  # of a view: enough to write and free it in pieces, few enough to name them all
_SIGN: Final = 1 << 63
_TIME: Final = struct.Struct(">Q")  # big-endian with the sign flipped: bytes sort as times do


def bucket_of(key: bytes) -> int:
    """The sorted set of a key: CRC-32 modulo ``BUCKETS``."""
    return zlib.crc32(key) % BUCKETS


def members_of(view: FeatureView, points: pa.Table) -> list[bytes]:
    """Of each change point the member of its sorted set: key ‖ time (8 bytes, big-endian) ‖ event time and values."""
    times = points.column(AT).combine_chunks().to_numpy().astype(np.int64).view(np.uint64) ^ np.uint64(_SIGN)
    raw = times.astype(">u8").tobytes()
    keys: Any = points.column(KEY).to_pylist()
    values: list[bytes] = encode_table(points, [EVENT, *(item.name for item in view.features)])
    return [key + raw[8 * at : 8 * at + 8] + value for at, (key, value) in enumerate(zip(keys, values, strict=True))]


def upper_bound(key: bytes, at_us: int) -> bytes:
    """What sorts after all members of a key up to a time, and before every later one."""
    return key + _TIME.pack(at_us + 1 + _SIGN)


def kinds_of(view: FeatureView, points: pa.Table) -> list[FieldType]:
    """The row types of the values of change points, in the order of the view's features."""
    return [arrow_row_type(points.schema.field(item.name).type, field=item.name) for item in view.features]


def point_of(kinds: Sequence[FieldType], key: bytes, member: bytes) -> ChangePoint | None:
    """The change point of a member, where it is one of the key's."""
    if not member.startswith(key):
        return None
    start = len(key) + _TIME.size
    reader = RowReader(member[start:])
    event_us = reader.take("i64")
    values = tuple(reader.take(kind) for kind in kinds)
    reader.end()
    return ChangePoint(_TIME.unpack(member[len(key) : start])[0] - _SIGN, event_us, values)
