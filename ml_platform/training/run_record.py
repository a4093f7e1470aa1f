"""The run record of a training: everything that could make a second run differ, and nothing left empty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from ml_platform.core.digests import canonical_json, parse_canonical, sha256_hex
from ml_platform.core.errors import DeclarationError
from ml_platform.training.absent import Absent, as_json

__all__ = ["RUN_RECORD_ITEMS", "RunRecord", "differences", "first_difference"]

FORMAT: Final = "ml-platform/run-record/1"

RUN_RECORD_ITEMS: Final = (
    "model",
    "candidate",
    "as_of",
    "spec",
    "code",
    "training_set",
    "sources",
    "features",
    "contract",
    "trainer",
    "seeds",
    "determinism",
    "image",
    "packages",
    "runtime",
    "hardware",
    "metrics",
    "artifact",
    "logs",
)
_MAY_BE_EMPTY: Final = frozenset({"features"})  # a model may have no stored features
_RESULTS: Final = frozenset({"candidate", "metrics", "artifact", "logs"})  # what a run makes, not what it takes


@dataclass(frozen=True)
class RunRecord:
    """Every item of ``RUN_RECORD_ITEMS``: a value, or an ``Absent`` with its reason.

    ``code`` holds commit, branch, dirty and tree; ``training_set`` digest and rows; ``sources`` and ``features`` the
    table versions; ``trainer`` the hyperparameters; ``hardware`` CPU, GPU, threads; ``metrics`` those of the training
    part; ``artifact`` the digest that the run made; ``logs`` the digest of the stored log.

    Raises:
        DeclarationError: an item is missing, unknown, empty or null; names it.
    """

    document: Mapping[str, Any] = field(hash=False)

    @classmethod
    def of(cls, items: Mapping[str, object]) -> Self:
        """Closes a record over its items."""
        unknown = sorted(set(items) - set(RUN_RECORD_ITEMS))
        missing = [name for name in RUN_RECORD_ITEMS if name not in items]
        if unknown or missing:
            raise DeclarationError(
                "The run record lacks items, or has unknown ones.",
                field=", ".join(missing + unknown),
                next_step='Record every item; what is absent is recorded as Absent("why").',
            )
        for name, value in items.items():
            _check(name, value, may_be_empty=name in _MAY_BE_EMPTY)
        return cls({"format": FORMAT, **{name: as_json(items[name]) for name in RUN_RECORD_ITEMS}})

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        document = parse_canonical(raw)
        if document.get("format") != FORMAT or set(document) != {"format", *RUN_RECORD_ITEMS}:
            raise DeclarationError("This is no run record of a known format.", next_step=f"Expected {FORMAT}.")
        return cls(document)

    def to_bytes(self) -> bytes:
        return canonical_json(dict(self.document))

    @property
    def digest(self) -> str:
        """The digest under which the object store holds the record."""
        return sha256_hex(self.to_bytes())

    def __getitem__(self, item: str) -> Any:
        return self.document[item]


def _check(where: str, value: object, *, may_be_empty: bool = False) -> None:
    if isinstance(value, Absent):
        return
    if value is None or (isinstance(value, str | Mapping | list | tuple) and not value and not may_be_empty):
        raise DeclarationError(
            "An item of the run record is empty.",
            field=where,
            next_step='Record its value, or its absence as Absent("why").',
        )
    if isinstance(value, Mapping):
        for name, item in value.items():
            _check(f"{where}.{name}", item)
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            _check(f"{where}.{place}", item)


def first_difference(recorded: RunRecord, now: RunRecord) -> str | None:
    """The first input that differs, as a path such as ``packages.numpy``; None when all inputs are equal.

    Inputs stand in the order of ``RUN_RECORD_ITEMS``; what a run makes (metrics, artifact, logs) is no input.
    """
    return next(differences(recorded, now), None)


def differences(recorded: RunRecord, now: RunRecord) -> Iterator[str]:
    """All inputs that differ, as paths."""
    for name in RUN_RECORD_ITEMS:
        if name not in _RESULTS:
            yield from _differences(name, recorded[name], now[name])


def _differences(where: str, left: object, right: object) -> Iterator[str]:
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        for name in sorted({*left, *right}):
            if name not in left or name not in right:
                yield f"{where}.{name}"
            else:
                yield from _differences(f"{where}.{name}", left[name], right[name])
    elif left != right:
        yield where
