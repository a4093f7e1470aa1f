"""Entities: what features and predictions are about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ml_platform.core.errors import DeclarationError
from ml_platform.core.fields import check_name
from ml_platform.features.declaration import Declaration, name_tuple

__all__ = ["Entity"]


@dataclass(frozen=True, eq=False)
class Entity(Declaration):
    """A thing with a key: a loan, a customer, a purpose.

    ``keys`` are column names; their order is the order of the key's row bytes. ``personal`` entities are people, or
    can be traced to one: their rows are salted with a seed of their own, so that erasing a person is possible.

    >>> Entity("loan", keys=("loan_id",), personal=True).keys
    ('loan_id',)

    Raises:
        DeclarationError: no key, a key twice, or a name that is none.
    """

    name: str
    keys: tuple[str, ...]
    personal: bool = False

    kind: ClassVar[str] = "entity"

    def __post_init__(self) -> None:
        check_name(self.name, field="name")
        object.__setattr__(self, "keys", name_tuple(self.keys, field="keys"))
        if not self.keys:
            raise DeclarationError("An entity needs a key.", field="keys", next_step="Name at least one key column.")
        for key in self.keys:
            check_name(key, field="keys")

    def document(self) -> dict[str, Any]:
        return {"keys": list(self.keys), "personal": self.personal}
