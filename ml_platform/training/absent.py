"""A thing that is not there, and the written reason why: never an empty field, never a null."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ml_platform.core.errors import DeclarationError

__all__ = ["Absent", "as_json"]


@dataclass(frozen=True)
class Absent:
    """Stands where a fact should stand; in documents it is ``{"absent": reason}``.

    >>> as_json({"gpu": Absent("No GPU driver is loaded.")})
    {'gpu': {'absent': 'No GPU driver is loaded.'}}

    Raises:
        DeclarationError: no reason is given.
    """

    reason: str

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise DeclarationError("An absence needs a reason.", field="reason", next_step="Write why it is absent.")

    def to_json(self) -> dict[str, str]:
        return {"absent": self.reason}


def as_json(value: Any) -> Any:
    """The JSON of a value that may hold absences at any depth."""
    if isinstance(value, Absent):
        return value.to_json()
    if isinstance(value, Mapping):
        return {str(name): as_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return value
