"""How values read on a terminal and in JSON: times in UTC, numbers with their intervals, nothing unprintable."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

__all__ = [
    "NONE",
    "clock_text",
    "count",
    "duration",
    "estimate",
    "jsonable",
    "moment",
    "number",
    "printable",
    "short",
    "value",
    "yes",
]

NONE: Final = "–"
_MICROSECOND_ZEROS: Final = ".000000"
_MINUTE_US: Final = 60_000_000
_HOUR_US: Final = 60 * _MINUTE_US
_DAY_US: Final = 24 * _HOUR_US


def printable(text: object) -> str:
    r"""Text that cannot steer a terminal or break a line: control characters become visible escapes.

    >>> printable("a" + chr(27) + "[31m")
    'a\\x1b[31m'
    """
    raw = str(text)
    if raw.isprintable():
        return raw
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in raw)


def number(figure: float | None, digits: int = 3) -> str:
    """A figure with ``digits`` decimals, small ones by their power of ten; a dash where there is none.

    >>> number(0.72345), number(12), number(0.0000004), number(None)
    ('0.723', '12', '4.00e-07', '–')
    """
    if figure is None or not math.isfinite(figure):
        return NONE
    if isinstance(figure, int):
        return f"{figure:,}"
    if figure and abs(figure) < 10**-digits:
        return f"{figure:.{max(digits - 1, 0)}e}"
    return f"{figure:.{digits}f}"


def count(rows: int | None) -> str:
    """Thousands are separated."""
    return NONE if rows is None else f"{rows:,}"


def estimate(document: Mapping[str, Any] | float | None, digits: int = 3) -> str:
    """A number with its interval, or why there is none.

    >>> estimate({"point": 0.721, "low": 0.66, "high": 0.772}, 2)
    '0.72 [0.66, 0.77]'
    """
    if not isinstance(document, Mapping):
        return number(document, digits)
    if "absent" in document:
        return value(document)
    point, low, high = (number(float(document[name]), digits) for name in ("point", "low", "high"))
    return point if low == high else f"{point} [{low}, {high}]"


def value(found: object) -> str:
    """Any value of a document: what is absent says why, lists are joined, nested objects become ``name=value``.

    >>> value({"absent": "No GPU driver is loaded."})
    'absent: No GPU driver is loaded.'
    """
    if found is None:
        return NONE
    if isinstance(found, bool):
        return yes(found)
    if isinstance(found, Mapping):
        if set(found) == {"absent"}:
            return f"absent: {printable(found['absent'])}"
        return ", ".join(f"{name}={value(item)}" for name, item in found.items()) or NONE
    if isinstance(found, list | tuple):
        return ", ".join(map(value, found)) or NONE
    return printable(found)


def moment(at: datetime | str | None) -> str:
    """A time in UTC without empty fractions; RFC 3339 text of our documents is taken as it is.

    >>> moment("2010-01-01T00:00:00.000000Z")
    '2010-01-01 00:00:00Z'
    """
    if at is None:
        return NONE
    if isinstance(at, datetime):
        from ml_platform.core.clock import format_utc

        at = format_utc(at)
    return printable(at.replace(_MICROSECOND_ZEROS, "").replace("T", " ", 1))


def clock_text(clock: Mapping[str, Any]) -> str:
    """Where a root's clock stands, and what kind of clock it is.

    >>> clock_text({"kind": "replay", "now": "2010-07-01T00:00:00.000000Z"})
    '2010-07-01 00:00:00Z (replay)'
    """
    return f"{moment(clock['now'])} ({clock['kind']})"


def duration(microseconds: int | None) -> str:
    """An age in its largest fitting unit.

    >>> duration(3 * 86_400_000_000), duration(5_400_000_000), duration(1_500_000)
    ('3 d', '1.5 h', '1.5 s')
    """
    if microseconds is None:
        return NONE
    for unit, size in (("d", _DAY_US), ("h", _HOUR_US), ("min", _MINUTE_US)):
        if abs(microseconds) >= size:
            return f"{microseconds / size:.4g} {unit}"
    return f"{microseconds / 1_000_000:.3g} s"


def short(digest: str | None, length: int = 12) -> str:
    """The first characters of a digest, for tables; ``--json`` has all of it."""
    if not digest:
        return NONE
    name, _, hexadecimal = digest.partition(":")
    return f"{name}:{hexadecimal[:length]}…" if len(hexadecimal) > length else printable(digest)


def yes(known: bool | None) -> str:
    """Yes, no, or a dash where nobody knows."""
    return NONE if known is None else ("yes" if known else "no")


def jsonable(found: object) -> Any:
    """What ``json`` can write: times as RFC 3339 UTC, bytes as hex, numbers that are none as null."""
    if isinstance(found, Mapping):
        return {str(key): jsonable(item) for key, item in found.items()}
    if isinstance(found, Sequence) and not isinstance(found, str | bytes):
        return [jsonable(item) for item in found]
    if isinstance(found, float):
        return found if math.isfinite(found) else None
    return found if found is None or isinstance(found, str | int) else _text(found)


def _text(found: object) -> Any:
    if isinstance(found, bytes):
        return found.hex()
    if isinstance(found, datetime):
        from ml_platform.core.clock import format_utc

        return format_utc(found)
    if callable(item := getattr(found, "item", None)):  # a numpy scalar
        return jsonable(item())
    return str(found)
