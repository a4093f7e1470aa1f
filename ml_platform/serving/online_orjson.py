"""JSON objects read by orjson: fast, and only where the result is beyond doubt.

orjson keeps the last of two members of one name and reads integers beyond 64 bits as floats. So an object is taken only
if it has as many members as its text has commas, and one: then no name stands twice. Whoever gets None reads the text
with a parser that says what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["object_reader"]


def object_reader() -> Callable[[bytes], dict[str, Any] | None]:
    """Gives the members of a JSON object; None where the text is none, or has to be looked at more closely."""
    from orjson import loads

    def read(raw: bytes) -> dict[str, Any] | None:
        try:
            found = loads(raw)
        except ValueError:
            return None
        # A comma within a text only makes the number larger, so that the text is looked at more closely.
        return found if type(found) is dict and len(found) == raw.count(b",") + 1 else None

    return read
