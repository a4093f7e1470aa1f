"""The event schemas that a worker can read: those of the loaded versions, and any that was ever stored."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from ml_platform.core.contract import Contract
from ml_platform.core.digests import canonical_json, parse_canonical
from ml_platform.core.errors import DataError, NotFound
from ml_platform.core.objects import ObjectStore
from ml_platform.serving.stream.events import event_schema, schema_digest
from ml_platform.serving.stream.fastavro import EventCodec

__all__ = ["EventSchemas", "schema_path"]

_LENGTH: Final = 71  # "sha256:" and 64 hex characters
_ASK_AGAIN_SECONDS: Final = 5.0


def schema_path(digest: str) -> str:
    """Where an event schema lies in the object store."""
    return f"event-schemas/{digest.removeprefix('sha256:')}.json"


class EventSchemas:
    """Finds the codec of a schema's digest. Not safe for several threads.

    Args:
        objects: where schemas are kept, so that events outlive the version that they were made for.
        model: its name.
    """

    def __init__(self, objects: ObjectStore, model: str) -> None:
        self._objects = objects
        self._model = model
        self._known: dict[bytes, EventCodec] = {}
        self._unknown: dict[bytes, float] = {}

    def keep(self, contract: Contract) -> str:
        """Stores the schema of a version's events, once; its digest.

        Raises:
            StorageFailed: the store cannot be written.
        """
        schema = event_schema(self._model, contract)
        digest = schema_digest(schema)
        if digest.encode() not in self._known:
            self._objects.create_same(schema_path(digest), canonical_json(schema))
            self._known[digest.encode()] = EventCodec(schema)
        return digest

    def codec(self, named: bytes | None) -> EventCodec:
        """The codec of the digest that an event's header names.

        Raises:
            DataError: it names none, or one that was never stored for this model.
            StorageFailed: the store cannot be read.
        """
        if named is None:
            raise _unreadable("The event names no schema.")
        found = self._known.get(named)
        if found is None:
            found = self._known[named] = self._load(named)
        return found

    def _load(self, named: bytes) -> EventCodec:
        now = time.monotonic()
        if self._unknown.get(named, 0.0) > now:
            raise _unreadable("The event names a schema that is not known.")
        try:
            document = self._stored(named)
        except (NotFound, UnicodeDecodeError, ValueError):
            document = None
        if document is None:
            if len(self._unknown) > 1_000:  # names that anybody may send
                self._unknown.clear()
            self._unknown[named] = now + _ASK_AGAIN_SECONDS
            raise _unreadable("The event names a schema that is not known.")
        return EventCodec(document)

    def _stored(self, named: bytes) -> Mapping[str, Any] | None:
        digest = named.decode("ascii")
        if len(digest) != _LENGTH or not digest.startswith("sha256:") or not digest[7:].isalnum():
            return None
        found: dict[str, Any] = parse_canonical(self._objects.read(schema_path(digest)))
        mine = found["name"] == f"{self._model}_event" and schema_digest(found) == digest
        return found if mine else None


def _unreadable(what: str) -> DataError:
    return DataError(what, field="ml-schema", next_step="Name the digest that `mlp events` prints.")
