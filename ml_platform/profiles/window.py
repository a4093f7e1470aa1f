"""The profile of a window of decisions (``ml-platform/window-profile/1``), over the bins of a version's reference.

Exact and mergeable: days add up to weeks and workers to a whole, bit for bit. Stored, it names no row's own value:
bins are the reference's, categories are hashed unless their field is public, and what fewer than ten rows say is left
out (moments) or not named (categories).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml_platform.core.columns import float64_and_null
from ml_platform.core.digests import canonical_json, document_digest
from ml_platform.core.errors import Conflict, DataError
from ml_platform.profiles.moments import Moments
from ml_platform.profiles.profile import (
    MIN_ROWS,
    CategoryProfile,
    NumberProfile,
    ReferenceProfile,
    category_counts,
    column_of,
)

__all__ = ["WINDOW_FORMAT", "WindowCategory", "WindowNumber", "WindowProfile", "window_numbers"]

WINDOW_FORMAT: Final = "ml-platform/window-profile/1"


@dataclass(frozen=True)
class WindowNumber:
    """A number column.

    Attributes:
        rows: all rows, nulls included.
        nulls: rows without a value.
        counts: values a bin of the reference, left-closed.
        moments: exact sums of the values; None where a stored part was too small to tell them.
    """

    rows: int
    nulls: int
    counts: tuple[int, ...]
    moments: Moments | None

    @classmethod
    def of(cls, column: npt.NDArray[np.float32], edges: Sequence[float]) -> Self:
        """Of float32 values, NaN where null.

        Raises:
            DataError: an infinite value.
        """
        null = np.isnan(column)
        nulls = int(np.count_nonzero(null))
        values = column[~null] if nulls else column
        if not np.isfinite(values).all():
            raise DataError("A value is infinite.", field="values", next_step="Refuse it at the contract.")
        above = [int(np.count_nonzero(values >= edge)) for edge in _as_float32(edges)]
        held = [len(values), *above, 0]
        counts = tuple(here - above for here, above in pairwise(held))
        return cls(len(column), nulls, counts, Moments.of(values))

    def __add__(self, other: WindowNumber) -> WindowNumber:
        known = None if self.moments is None or other.moments is None else self.moments + other.moments
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return WindowNumber(self.rows + other.rows, self.nulls + other.nulls, counts, known)

    @property
    def values(self) -> int:
        return self.rows - self.nulls

    def to_json(self) -> dict[str, Any]:
        told = self.moments is not None and (self.values == 0 or self.values >= MIN_ROWS)
        return {
            "kind": "number",
            "rows": self.rows,
            "nulls": self.nulls,
            "counts": list(self.counts),
            "moments": self.moments.to_json() if told and self.moments is not None else None,
        }


@dataclass(frozen=True)
class WindowCategory:
    """A category column.

    Attributes:
        rows: all rows, nulls included.
        nulls: rows without a value.
        public: whether ``counts`` names categories in the clear.
        counts: rows a category, by hash unless public.
        other: rows of categories that the reference does not name and that fewer than ten rows have; only in what was
            stored and read back.
    """

    rows: int
    nulls: int
    public: bool
    counts: Mapping[str, int]
    other: int = 0

    def __add__(self, other: WindowCategory) -> WindowCategory:
        names = sorted({*self.counts, *other.counts})
        counts = {name: self.counts.get(name, 0) + other.counts.get(name, 0) for name in names}
        return WindowCategory(
            self.rows + other.rows, self.nulls + other.nulls, self.public, counts, self.other + other.other
        )

    def named(self, known: Mapping[str, int]) -> WindowCategory:
        """As it is stored: a category has a name where the reference names it, or where ten rows have it."""
        counts = {name: rows for name, rows in sorted(self.counts.items()) if name in known or rows >= MIN_ROWS}
        other = self.other + sum(self.counts.values()) - sum(counts.values())
        return WindowCategory(self.rows, self.nulls, self.public, counts, other)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "category",
            "rows": self.rows,
            "nulls": self.nulls,
            "public": self.public,
            "counts": dict(self.counts),
            "other": self.other,
        }


WindowField = WindowNumber | WindowCategory


@dataclass(frozen=True)
class WindowProfile:
    """What a version decided on, and how, in a window.

    Attributes:
        reference: digest of the reference profile whose bins and names it uses.
        rows: decisions.
        fields: by name.
        score: of the first output.
        decisions: decisions by name, such as ``declined``.
        missing: columns of the reference that no record has: the schema is another.
    """

    reference: str
    rows: int
    fields: Mapping[str, WindowField]
    score: WindowNumber | None = None
    decisions: Mapping[str, int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        table: pa.Table,
        reference: ReferenceProfile,
        *,
        scores: npt.NDArray[Any] | None = None,
        decisions: Mapping[str, int] | None = None,
    ) -> Self:
        """Profiles the reference's fields; other columns are ignored.

        Args:
            table: a row a decision, columns named as the fields.
            reference: of the version that decided.
            scores: a number a row; profiled where the reference has scores.
            decisions: rows by decision.

        Raises:
            DataError: an infinite value.
        """
        present = [name for name in reference.fields if name in table.column_names]
        score = None
        if scores is not None and reference.score is not None:
            score = WindowNumber.of(_as_model_sees(scores), reference.score.edges)
        return cls(
            reference.digest,
            table.num_rows,
            {name: _profile(table, name, reference) for name in present},
            score,
            dict(sorted((decisions or {}).items())),
            tuple(name for name in reference.fields if name not in table.column_names),
        )

    def __add__(self, other: WindowProfile) -> WindowProfile:
        """The whole of two parts without a common row.

        Raises:
            Conflict: they are over the bins of two references.
        """
        if self.reference != other.reference:
            raise Conflict(
                "The profiles are over the bins of two references.",
                field="reference",
                next_step="Merge profiles of one version; profile the others apart.",
            )
        shared = [name for name in self.fields if name in other.fields]
        names = sorted({*self.decisions, *other.decisions})
        return WindowProfile(
            self.reference,
            self.rows + other.rows,
            {name: self.fields[name] + other.fields[name] for name in shared},  # type: ignore[operator]
            None if self.score is None or other.score is None else self.score + other.score,
            {name: self.decisions.get(name, 0) + other.decisions.get(name, 0) for name in names},
            tuple(dict.fromkeys((*self.missing, *other.missing))),
        )

    def stored(self, reference: ReferenceProfile) -> WindowProfile:
        """As it is stored: rare categories that the reference does not name are counted together."""
        fields: dict[str, WindowField] = {}
        for name, found in self.fields.items():
            known = reference.fields[name]
            if isinstance(found, WindowCategory) and isinstance(known, CategoryProfile):
                fields[name] = found.named(known.counts)
            else:
                fields[name] = found
        return WindowProfile(self.reference, self.rows, fields, self.score, self.decisions, self.missing)

    def to_json(self) -> dict[str, Any]:
        return {
            "format": WINDOW_FORMAT,
            "reference": self.reference,
            "rows": self.rows,
            "fields": {name: found.to_json() for name, found in self.fields.items()},
            "score": None if self.score is None else self.score.to_json(),
            "decisions": dict(self.decisions),
            "missing": list(self.missing),
        }

    def to_bytes(self) -> bytes:
        """The canonical form; call it on what `stored` returns."""
        return canonical_json(self.to_json())

    @property
    def digest(self) -> str:
        return document_digest("window-profile", self.to_json())

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """The profile of a stored document.

        Raises:
            DataError: it has another format.
        """
        if document.get("format") != WINDOW_FORMAT:
            raise DataError("This is no window's profile.", field="format", next_step=f"Expected {WINDOW_FORMAT}.")
        score = document["score"]
        return cls(
            document["reference"],
            document["rows"],
            {name: _from_json(item) for name, item in document["fields"].items()},
            None if score is None else _number_from_json(score),
            dict(document["decisions"]),
            tuple(document["missing"]),
        )


def _number_from_json(item: Mapping[str, Any]) -> WindowNumber:
    moments = None if item["moments"] is None else Moments.from_json(item["moments"])
    return WindowNumber(item["rows"], item["nulls"], tuple(item["counts"]), moments)


def _from_json(item: Mapping[str, Any]) -> WindowField:
    if item["kind"] == "number":
        return _number_from_json(item)
    return WindowCategory(item["rows"], item["nulls"], item["public"], dict(item["counts"]), item["other"])


def _as_model_sees(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _as_float32(edges: Sequence[float]) -> list[np.float32]:
    """The least float32 that is not below each edge: a float32 is at or above the one as it is the other."""
    rounded = [np.float32(edge) for edge in edges]
    return [
        near if float(near) >= edge else np.nextafter(near, np.float32(np.inf))
        for near, edge in zip(rounded, edges, strict=True)
    ]


def _profile(table: pa.Table, name: str, reference: ReferenceProfile) -> WindowField:
    known = reference.fields[name]
    if isinstance(known, NumberProfile):
        return WindowNumber.of(window_numbers(table, name), known.edges)
    counts, nulls = category_counts(table, name, public=known.public, key=reference.inputs_digest)
    return WindowCategory(table.num_rows, nulls, known.public, counts)


def window_numbers(table: pa.Table, name: str) -> npt.NDArray[np.float32]:
    """A number column as the model sees it: float32, NaN where null."""
    column = column_of(table, name)
    if pa.types.is_float32(column.type) and not column.null_count:
        plain: npt.NDArray[np.float32] = column.to_numpy()
        return plain
    values, null = float64_and_null(column)
    numbers = _as_model_sees(values)
    if null.any():
        numbers[null] = np.nan
    return numbers
