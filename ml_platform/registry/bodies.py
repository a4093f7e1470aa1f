"""What the fields of a log entry may hold: ids, digests, times and counts, never a name, an e-mail or free text.

Pure. A check takes a JSON value and says whether it is of its kind; `describe` is how the documents name it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ml_platform.core.errors import DeclarationError

__all__ = [
    "ACTION",
    "BOOLEAN",
    "CANDIDATE",
    "COMMITMENT",
    "DIGEST",
    "EVIDENCE",
    "HEX32",
    "IDENTIFIER",
    "INTEGER",
    "MODEL",
    "OPEN",
    "POSITIVE",
    "PRINCIPAL",
    "PUBLIC_KEY",
    "STAGE",
    "TIME",
    "Check",
    "Kind",
    "Shape",
    "choice",
    "counts",
    "many",
    "optional",
]

_MAX_INTEGER: Final = 2**53
_MAX_ITEMS: Final = 64


@dataclass(frozen=True, slots=True)
class Check:
    """A kind of value: its name in ``docs/formats.md`` and its test."""

    describe: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Shape:
    """An object with exactly these fields."""

    fields: Mapping[str, Check]
    _tests: tuple[tuple[str, Callable[[Any], bool]], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tests = tuple((name, check.holds) for name, check in self.fields.items())
        object.__setattr__(self, "_tests", tests)

    def first_wrong(self, value: object) -> str | None:
        """The first missing, extra or wrong field; None when the object is as it must be."""
        if not isinstance(value, dict):
            return "body"
        try:
            if len(value) == len(self.fields):
                for name, holds in self._tests:
                    if not holds(value[name]):
                        return name
                return None
        except KeyError:
            pass
        return min(value.keys() ^ self.fields.keys(), key=str)

    def require(self, value: object, *, what: str) -> None:
        """Raises `DeclarationError` naming the first field that is not as it must be."""
        wrong = self.first_wrong(value)
        if wrong is not None:
            expected = self.fields[wrong].describe if wrong in self.fields else "no such field"
            raise DeclarationError(
                f"A field of {what} is missing, unknown or of the wrong kind.",
                field=str(wrong)[:64],
                next_step=f"Expected: {expected}.",
            )

    def as_check(self, describe: str) -> Check:
        """This object as one field of another."""
        return Check(describe, lambda value: self.first_wrong(value) is None)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of log entry.

    Args:
        fields: the body.
        model: whether the entry names a model.
        critical: whether a reader that does not know the kind must stop promoting.
        decimals: whether the body may hold decimal numbers (then canonical JSON takes the slow path).
    """

    fields: Mapping[str, Check]
    model: bool = True
    critical: bool = True
    decimals: bool = False
    shape: Shape = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", Shape(self.fields))


def _text(describe: str, pattern: str) -> Check:
    matches = re.compile(pattern, re.ASCII).fullmatch
    return Check(describe, lambda value: type(value) is str and matches(value) is not None)


def _integer(value: object, least: int) -> bool:
    return type(value) is int and least <= value < _MAX_INTEGER


DIGEST: Final = _text("digest `sha256:<64 hex>`", r"sha256:[0-9a-f]{64}")
EVIDENCE: Final = _text("digest of an object in the store", r"sha256:[0-9a-f]{64}")
COMMITMENT: Final = _text("salted commitment `hmac-sha256:<64 hex>`", r"hmac-sha256:[0-9a-f]{64}")
TIME: Final = _text(
    "RFC 3339, µs, Z",
    r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{6}Z",
)
HEX32: Final = _text("hex, 16–64 characters", r"[0-9a-f]{16,64}")
MODEL: Final = _text("model name", r"[a-z][a-z0-9_]{0,63}")
CANDIDATE: Final = _text("candidate key", r"[0-9]{8}T[0-9]{6}Z_[0-9a-f]{12}")
PRINCIPAL: Final = _text("principal id", r"[a-z0-9][a-z0-9_.:-]{0,63}")
IDENTIFIER: Final = _text("identifier", r"[A-Za-z0-9][A-Za-z0-9_.:/+=-]{0,191}")
PUBLIC_KEY: Final = _text("public key line without comment", r"ssh-ed25519 [A-Za-z0-9+/]{68}")
STAGE: Final = _text("stage", r"trained|staging|canary|production|archived")
ACTION: Final = _text("action of the table of transitions", r"stage|promote|rollback|restore|archive")
INTEGER: Final = Check("integer ≥ 0", lambda value: _integer(value, 0))
POSITIVE: Final = Check("integer ≥ 1", lambda value: _integer(value, 1))
BOOLEAN: Final = Check("boolean", lambda value: isinstance(value, bool))
OPEN: Final = Check("object with its own format", lambda value: isinstance(value, dict))


def optional(check: Check) -> Check:
    """The check, or null."""
    return Check(f"{check.describe}, or null", lambda value: value is None or check.holds(value))


def many(check: Check, *, least: int = 0, most: int = _MAX_ITEMS) -> Check:
    """A list of such values, each once."""
    test = check.holds

    def holds(value: object) -> bool:
        if not isinstance(value, list) or not least <= len(value) <= most:
            return False
        for item in value:
            if not test(item):
                return False
        return len(value) < 2 or all(item not in value[:place] for place, item in enumerate(value))

    return Check(f"list of {least}–{most}: {check.describe}", holds)


def choice(*values: str) -> Check:
    """One of these texts."""
    return Check(" or ".join(f"`{value}`" for value in values), lambda value: value in values)


def counts() -> Check:
    """Names with counts."""

    def holds(value: object) -> bool:
        return (
            isinstance(value, dict)
            and len(value) <= _MAX_ITEMS
            and all(IDENTIFIER.holds(name) and INTEGER.holds(count) for name, count in value.items())
        )

    return Check("object of identifier: integer ≥ 0", holds)
