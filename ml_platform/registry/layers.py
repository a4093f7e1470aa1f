"""A mapping that only grows, and whose copies are cheap: what the fold keeps of long logs.

A copy shares the large lower layer and duplicates only the small upper one, so that writing one entry to a log of a
million costs what it costs in a log of a thousand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Generic, TypeVar

__all__ = ["Layers"]

K = TypeVar("K")
V = TypeVar("V")

_MAX_UPPER: Final = 1_000


class Layers(Mapping[K, V], Generic[K, V]):
    """Two dictionaries, of which the lower is shared and never changed. Values are replaced, never removed."""

    __slots__ = ("_lower", "_upper")

    def __init__(self, lower: dict[K, V] | None = None, upper: dict[K, V] | None = None) -> None:
        self._lower = lower or {}
        self._upper = upper or {}

    def copy(self) -> Layers[K, V]:
        """A copy that can be written to without changing this one."""
        if len(self._upper) > _MAX_UPPER:
            return Layers({**self._lower, **self._upper})
        return Layers(self._lower, dict(self._upper))

    def __setitem__(self, key: K, value: V) -> None:
        """Only for a copy that nobody else holds yet."""
        self._upper[key] = value

    def __getitem__(self, key: K) -> V:
        return self._upper[key] if key in self._upper else self._lower[key]

    def __contains__(self, key: object) -> bool:
        return key in self._upper or key in self._lower

    def __iter__(self) -> Iterator[K]:
        yield from self._lower
        yield from (key for key in self._upper if key not in self._lower)

    def __len__(self) -> int:
        return sum(1 for _ in self) if self._upper and self._lower else len(self._upper) + len(self._lower)

    def __repr__(self) -> str:
        return repr(dict(self.items()))
