"""Events as Avro bytes, by fastavro; the rest of the package sees dictionaries."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

from ml_platform.core.errors import DataError

__all__ = ["EventCodec"]


class EventCodec:
    """Reads and writes the events of one schema: plain binary Avro, without container and without prefix.

    Args:
        schema: an Avro schema as a document; what reads it is a variant without logical types, for times stay integers.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        import fastavro

        self._written = fastavro.parse_schema(_plain(dict(schema)))
        self._read = fastavro.schemaless_reader
        self._write = fastavro.schemaless_writer

    def decode(self, raw: bytes) -> dict[str, Any]:
        """The event of its bytes, all of them.

        Raises:
            DataError: they are no event of this schema.
        """
        stream = BytesIO(raw)
        try:
            found: Any = self._read(stream, self._written, None)
        except Exception:  # noqa: BLE001 - whatever a decoder makes of bytes that anybody may have sent
            found = None
        if not isinstance(found, dict) or stream.read(1):
            raise DataError(
                "The bytes are no event of the schema that their header names.",
                field="value",
                next_step="Encode with the schema of `mlp events`.",
            )
        return found

    def encode(self, event: Mapping[str, Any]) -> bytes:
        """The bytes of an event; for producers, tests and benchmarks.

        Raises:
            DataError: it does not fit the schema.
        """
        stream = BytesIO()
        try:
            self._write(stream, self._written, dict(event))
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise DataError(
                f"The event does not fit its schema ({type(error).__name__}).",
                field="value",
                next_step="Compare it with `mlp events`.",
            ) from None
        return stream.getvalue()


def _plain(schema: Any) -> Any:
    """The schema without logical types: the same bytes, and a time is the integer that was written."""
    if isinstance(schema, dict):
        return {name: _plain(value) for name, value in schema.items() if name != "logicalType"}
    return [_plain(one) for one in schema] if isinstance(schema, list) else schema
