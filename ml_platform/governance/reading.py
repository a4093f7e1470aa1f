"""Stored documents, each held against the digest under which something else names it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

import pyarrow as pa

from ml_platform.core.digests import document_digest, parse_canonical, sha256_hex
from ml_platform.core.errors import ArtifactCorrupt, DeclarationError, IntegrityError, NotFound, Tampered
from ml_platform.core.objects import ObjectStore
from ml_platform.features.definitions import path_of

__all__ = [
    "column_values",
    "definition",
    "digest_of",
    "equal_to",
    "evidence",
    "optional_text",
    "readable",
    "shown_float",
]

_Read = TypeVar("_Read")


def digest_of(reference: str) -> str:
    """The digest of ``name@sha256:…``."""
    return reference.rpartition("@")[2]


def definition(objects: ObjectStore, digest: str) -> dict[str, Any]:
    """The canonical form of a declaration.

    Raises:
        NotFound: nothing is stored under it.
        Tampered: the stored bytes have another digest.
    """
    return _document(lambda: objects.read(path_of(digest)), _definition_digest, digest)


def evidence(objects: ObjectStore, digest: str) -> dict[str, Any]:
    """A stored document, by the digest of its bytes.

    Raises:
        NotFound: nothing is stored under it.
        Tampered: the stored bytes have another digest, or are no document.
    """
    return _document(lambda: objects.get(digest), sha256_hex, digest)


@lru_cache(maxsize=256)
def _names(name: Callable[[bytes], str], raw: bytes, digest: str) -> bool:
    """Whether stored bytes are a canonical document of this digest; equal bytes are judged once."""
    return isinstance(parse_canonical(raw), dict) and name(raw) == digest


def _definition_digest(raw: bytes) -> str:
    return document_digest("definition", json.loads(raw))


def _document(read: Callable[[], bytes], name: Callable[[bytes], str], digest: str) -> dict[str, Any]:
    try:
        raw = read()
        if _names(name, raw, digest):
            found: dict[str, Any] = json.loads(raw)
            return found
    except (ValueError, DeclarationError, ArtifactCorrupt):
        pass
    raise Tampered(
        "A stored document is not what its digest says.", field=digest, next_step="Restore it from a backup."
    )


def optional_text(objects: ObjectStore, digest: str | None) -> str | Mapping[str, str]:
    """A written text of the evidence, or its absence: texts of people may be erased, entries stay."""
    if digest is None:
        return {"absent": "None was given."}
    try:
        return objects.get(digest).decode()
    except NotFound:
        return {"absent": "The text is not stored any more."}
    except (ArtifactCorrupt, UnicodeDecodeError):
        raise Tampered(
            "A stored text is not what its digest says.", field=digest, next_step="Restore it from a backup."
        ) from None


def readable(what: str, read: Callable[[], _Read]) -> _Read:
    """The result of reading stored columns.

    Raises:
        Tampered: the files cannot be read, or hold other columns than were written.
    """
    try:
        return read()
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise Tampered(
            f"A file of {what} cannot be read as what was written ({type(error).__name__}).",
            field=what,
            next_step="Restore the table's files from a backup; `mlp verify` says what else differs.",
        ) from error
    except Tampered:
        raise
    except IntegrityError as error:
        raise Tampered(error.what, field=error.field or what, next_step=error.next_step) from error


def column_values(table: pa.Table, name: str) -> list[Any]:
    """The Python values of a column."""
    values: list[Any] = table.column(name).to_pylist()
    return values


def equal_to(table: pa.Table, name: str, value: object) -> pa.Array[Any]:
    """Which rows have a value in a column."""
    return pa.array([one == value for one in column_values(table, name)], pa.bool_())


def shown_float(value: float | None) -> float | None:
    """A float32 as the shortest decimal that stands for it alone."""
    import numpy as np

    return None if value is None else float(str(np.float32(value)))
