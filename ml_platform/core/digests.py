"""Canonical digests: equal digest means equal thing.

Documents are RFC 8785 JSON; every hash of ours starts with the tag of what it hashes, so that bytes of one kind can
never stand for another. Files are the exception: their digest is the plain SHA-256 that ``sha256sum`` prints.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import rfc8785

from ml_platform.core.errors import DeclarationError
from ml_platform.core.rows import FieldType, encode_row

__all__ = [
    "canonical_json",
    "document_digest",
    "file_digest",
    "keyed",
    "parse_canonical",
    "sha256_hex",
    "short",
    "tagged_hash",
]

_PREFIX: Final = "sha256:"


def canonical_json(value: object) -> bytes:
    """RFC 8785 bytes.

    Raises:
        DeclarationError: a value that JSON cannot say exactly (NaN, an integer of 2^53 or more, a non-string key).
    """
    try:
        return rfc8785.dumps(value)  # type: ignore[arg-type]
    except (rfc8785.CanonicalizationError, TypeError, ValueError) as error:
        raise DeclarationError(
            f"The document has no canonical form ({type(error).__name__}).",
            next_step="Use strings, booleans, finite numbers, integers below 2^53, lists and string-keyed objects.",
        ) from error


def parse_canonical(raw: bytes) -> Any:
    """The value of stored canonical bytes; None of ours is accepted in any other form."""
    value = json.loads(raw)
    if canonical_json(value) != raw:
        raise DeclarationError("The stored document is not canonical.", next_step="Restore it from a backup.")
    return value


def tagged_hash(tag: str, *fields: tuple[FieldType, object]) -> bytes:
    """SHA-256(tag ‖ fields), 32 bytes."""
    return hashlib.sha256(encode_row([("text", tag), *fields])).digest()


def keyed(key: bytes, tag: str, *fields: tuple[FieldType, object]) -> bytes:
    """HMAC-SHA-256(key, tag ‖ fields), 32 bytes (RFC 2104)."""
    return hmac.digest(key, encode_row([("text", tag), *fields]), "sha256")


def document_digest(noun: str, document: Mapping[str, object]) -> str:
    """``sha256:…`` of a document: SHA-256("ml-platform/<noun>/1" ‖ RFC 8785 bytes)."""
    return _PREFIX + tagged_hash(f"ml-platform/{noun}/1", ("bytes", canonical_json(document))).hex()


def sha256_hex(raw: bytes) -> str:
    """``sha256:…`` of a file's bytes, as ``sha256sum`` would print them."""
    return _PREFIX + hashlib.sha256(raw).hexdigest()


def file_digest(path: Path) -> str:
    """``sha256:…`` of a file, read in blocks."""
    with path.open("rb") as stream:
        return _PREFIX + hashlib.file_digest(stream, "sha256").hexdigest()


def short(digest: str, length: int = 12) -> str:
    """The first hex characters of a digest, as used in table paths and partition keys."""
    return digest.removeprefix(_PREFIX)[:length]
