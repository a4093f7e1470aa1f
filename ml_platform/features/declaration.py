"""What all declarations share: a canonical form, and a digest that is their identity."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cached_property
from typing import Any, ClassVar, Final

from ml_platform.core.digests import document_digest, short
from ml_platform.core.errors import DeclarationError
from ml_platform.core.fields import check_name

__all__ = ["DEFINITION_FORMAT", "Declaration", "check_known", "check_path_name", "check_unique", "name_tuple"]

DEFINITION_FORMAT: Final = "ml-platform/definition/1"


class Declaration(ABC):
    """A frozen value, validated when built. Equal digest means equal thing: that is how declarations compare.

    Subclasses are frozen dataclasses with ``eq=False`` and a ``name``.
    """

    kind: ClassVar[str]
    name: str

    @abstractmethod
    def document(self) -> dict[str, Any]:
        """What changes a result, and nothing else: no owner, description, location or order without meaning."""

    def spec(self) -> dict[str, Any]:
        """The canonical form (``ml-platform/definition/1``): what is digested, stored, and rebuilt from."""
        return {"format": DEFINITION_FORMAT, "kind": self.kind, "name": self.name, **self.document()}

    @cached_property
    def digest(self) -> str:
        return document_digest("definition", self.spec())

    @property
    def reference(self) -> str:
        """``<name>@sha256:…``: how contracts and other teams' code name this definition."""
        return f"{self.name}@{self.digest}"

    @property
    def short_digest(self) -> str:
        return short(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Declaration) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


def check_path_name(name: str, *, field: str) -> str:
    """A name of dotted parts, each a plain name: ``application.defaulted.matured``."""
    for part in name.split("."):
        check_name(part, field=field)
    return name


def check_known(name: str, choices: Iterable[str], *, field: str, what: str = "column") -> str:
    """Refuses a name that is not among the choices, and lists them.

    Raises:
        DeclarationError: names the field and every choice.
    """
    known = sorted(choices)
    if name not in known:
        raise DeclarationError(
            f"There is no {what} {name!r}.",
            field=field,
            next_step=f"Choose one of {', '.join(known)}." if known else f"Declare a {what} first.",
        )
    return name


def check_unique(names: Iterable[str], *, field: str) -> None:
    """Refuses a name that stands twice.

    Raises:
        DeclarationError: names the doubled ones.
    """
    listed = list(names)
    doubled = sorted({name for name in listed if listed.count(name) > 1})
    if doubled:
        raise DeclarationError(
            f"Declared twice: {', '.join(doubled)}.", field=field, next_step="Declare each name once."
        )


def name_tuple(names: Any, *, field: str) -> tuple[str, ...]:
    """Column names as a tuple, each once; one text in their place is a mistake, not a list of letters.

    Raises:
        DeclarationError: a text, or a name that stands twice.
    """
    if isinstance(names, str):
        raise DeclarationError(
            "A text is no list of columns.", field=field, next_step='Write a tuple of column names: ("loan_id",).'
        )
    check_unique(names, field=field)
    return tuple(names)
