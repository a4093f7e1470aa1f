"""What differs between two definitions of a view, and what that means for values: in words and as data. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ml_platform.features.declaration import Declaration

__all__ = ["Difference", "differences"]

_WORDS: Final[Mapping[str, str]] = {
    "refresh_us": "how often it is computed",
    "ttl_us": "how long a value holds",
    "entity": "whose features these are",
    "rows": "the rows that it reads",
    "aggregations": "windowed features",
    "columns": "features that are columns",
    "derived": "derived features",
    "source": "the source of its requests",
    "time": "the request time",
}
_ABSENT: Final = object()


@dataclass(frozen=True)
class Difference:
    """One place at which two canonical forms differ.

    Attributes:
        path: names from the outermost to the place, such as ``("aggregations", "late_mean_20d", "over")``.
        kind: ``added``, ``removed`` or ``changed``, from the first definition to the second.
        before: the value in the first; None where it was added.
        after: the value in the second; None where it was removed.
    """

    path: tuple[str, ...]
    kind: str
    before: Any
    after: Any

    def words(self) -> str:
        """One line: the place, and what it was and is."""
        place = ".".join(self.path)
        about = _WORDS.get(self.path[0])
        place += f" ({about})" if about else ""
        if self.kind == "added":
            return f"{place}: added, {_text(self.after)}"
        if self.kind == "removed":
            return f"{place}: removed, was {_text(self.before)}"
        return f"{place}: {_text(self.before)} → {_text(self.after)}"

    def to_json(self) -> dict[str, Any]:
        return {"path": list(self.path), "kind": self.kind, "before": self.before, "after": self.after}


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_text(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return "nothing" if value is None else str(value)


def differences(before: Declaration, after: Declaration) -> list[Difference]:
    """Every place at which the canonical forms differ, in the order of paths; none for equal definitions.

    Descriptions, owners and what else is in no digest make no difference.
    """
    return list(_between((), before.spec(), after.spec()))


def _between(path: tuple[str, ...], before: Any, after: Any) -> Iterator[Difference]:
    if before is _ABSENT:
        yield Difference(path, "added", None, after)
    elif after is _ABSENT:
        yield Difference(path, "removed", before, None)
    elif isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted({*before, *after}):
            yield from _between((*path, name), before.get(name, _ABSENT), after.get(name, _ABSENT))
    elif before != after or type(before) is not type(after):
        yield Difference(path, "changed", before, after)
