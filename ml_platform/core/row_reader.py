"""``row/1`` read back: typed fields from the bytes that ``core.rows.encode_row`` wrote, and from no others."""

from __future__ import annotations

import math
import struct
from typing import Any, Final

from ml_platform.core.errors import IntegrityError
from ml_platform.core.rows import FieldType

__all__ = ["RowReader"]

_U32: Final = struct.Struct("<I")
_STRUCTS: Final[dict[FieldType, struct.Struct]] = {
    "i64": struct.Struct("<q"),
    "us": struct.Struct("<q"),
    "f32": struct.Struct("<f"),
    "f64": struct.Struct("<d"),
}
_FLOATS: Final = frozenset({"f32", "f64"})


class RowReader:
    """Reads one row, field by field; the caller knows the types. Times come as int64 microseconds UTC.

    >>> reader = RowReader(bytes.fromhex("010200000061620101000000000000000000"))
    >>> reader.take("text"), reader.take("i64"), reader.take("f32")
    ('ab', 1, None)
    """

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def take(self, kind: FieldType) -> Any:
        """The next field: bool, i64, us, f32, f64, text, bytes or texts; None where it is null.

        Raises:
            IntegrityError: the bytes are not those of such a field.
        """
        try:
            presence = self._raw[self._at]
            self._at += 1
            if presence == 0:
                return None
            if presence == 1:
                return self._value(kind)
        except (IndexError, struct.error, UnicodeDecodeError) as error:
            raise _broken(kind) from error
        raise _broken(kind)

    def end(self) -> None:
        """Nothing may be left.

        Raises:
            IntegrityError: there are more bytes than fields.
        """
        if self._at != len(self._raw):
            raise _broken("end")

    def _value(self, kind: FieldType) -> Any:
        packer = _STRUCTS.get(kind)
        if packer is not None:
            return self._number(packer, kind)
        if kind == "texts":
            return tuple(self.take("text") for _ in range(self._count()))
        if kind == "bool":
            return self._bool()
        raw = self._sized()
        return raw.decode() if kind == "text" else raw

    def _number(self, packer: struct.Struct, kind: FieldType) -> int | float:
        value: int | float = packer.unpack_from(self._raw, self._at)[0]
        self._at += packer.size
        if kind in _FLOATS and (math.isnan(value) or (value == 0 and math.copysign(1.0, value) < 0)):
            raise _broken(kind)
        return value

    def _count(self) -> int:
        size: int = _U32.unpack_from(self._raw, self._at)[0]
        self._at += 4
        return size

    def _sized(self) -> bytes:
        end = self._count() + self._at
        if end > len(self._raw):
            raise IndexError
        value = self._raw[self._at : end]
        self._at = end
        return value

    def _bool(self) -> bool:
        value = self._raw[self._at]
        self._at += 1
        if value > 1:
            raise IndexError
        return value == 1


def _broken(kind: str) -> IntegrityError:
    return IntegrityError(
        "Stored bytes are no row of the expected fields.",
        field=kind,
        next_step="Find out which process wrote them, and with which contract.",
    )
