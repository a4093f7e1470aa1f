"""The reference profile of a training part (``ml-platform/profile/1``), and how far a window is from it.

Exact and deterministic: moments by exact summation, edges at exact quantiles, nothing sketched, so that equal inputs
give equal bytes whatever the order of rows. It names no row's own value: edges lie between values, minimum and maximum
are not in it, each bin holds at least ten rows, and categories are hashed unless their field is public.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml_platform.core.columns import category_texts, float64_and_null
from ml_platform.core.digests import canonical_json, document_digest, keyed
from ml_platform.core.errors import DataError, SchemaMismatch
from ml_platform.stats import divergence

__all__ = [
    "MIN_ROWS",
    "PROFILE_FORMAT",
    "CategoryProfile",
    "NumberProfile",
    "ReferenceProfile",
    "category_counts",
    "column_of",
    "hashed_category",
    "psi",
    "score_psi",
]

PROFILE_FORMAT: Final = "ml-platform/profile/1"
MIN_ROWS: Final = 10
BINS: Final = 10
_HASH_CHARACTERS: Final = 32


class ProfiledField(Protocol):
    """What a profile needs to know of a field; ``core.Field`` and ``core.ResolvedField`` both say it."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def public(self) -> bool: ...


@dataclass(frozen=True)
class NumberProfile:
    """A number column, as the model sees it (float32).

    Attributes:
        rows: all rows, nulls included.
        nulls: rows without a value.
        mean: of the values; None where there are none.
        variance: of the sample (n − 1); None below two values.
        edges: interior edges of the bins, strictly between minimum and maximum.
        counts: values a bin, one more than edges; bin i holds edges[i − 1] ≤ value < edges[i].
    """

    rows: int
    nulls: int
    mean: float | None
    variance: float | None
    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, column: npt.NDArray[np.float64]) -> Self:
        """Of float64 values, NaN where null.

        Raises:
            DataError: an infinite value.
        """
        values = column[~np.isnan(column)]
        if not np.isfinite(values).all():
            raise DataError("A value is infinite.", field="values", next_step="Refuse it at the contract.")
        edges = divergence.quantile_edges(values, bins=BINS, min_rows=MIN_ROWS) if len(values) else np.empty(0)
        counted = divergence.bin_counts(values, edges)
        mean, variance = _moments(values)
        nulls = len(column) - len(values)
        return cls(len(column), nulls, mean, variance, tuple(float(edge) for edge in edges), counted.counts)

    def psi(self, column: npt.NDArray[np.float64]) -> float:
        """The PSI of a window's values, with a bin for nulls."""
        counted = divergence.bin_counts(column, np.asarray(self.edges))
        return _psi([*self.counts, self.nulls], [*counted.counts, counted.nulls])

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "number",
            "rows": self.rows,
            "nulls": self.nulls,
            "mean": self.mean,
            "variance": self.variance,
            "edges": list(self.edges),
            "counts": list(self.counts),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        mean, variance = (None if document[name] is None else float(document[name]) for name in ("mean", "variance"))
        edges = tuple(float(edge) for edge in document["edges"])
        return cls(document["rows"], document["nulls"], mean, variance, edges, tuple(document["counts"]))


@dataclass(frozen=True)
class CategoryProfile:
    """A category column.

    Attributes:
        rows: all rows, nulls included.
        nulls: rows without a value.
        public: whether ``counts`` names categories in the clear.
        counts: rows a category of at least ten rows; by hash unless public.
        other: rows of rarer categories, which are not named; in a window, also those of unseen ones.
    """

    rows: int
    nulls: int
    public: bool
    counts: Mapping[str, int]
    other: int

    def psi(self, counts: Mapping[str, int], nulls: int) -> float:
        """The PSI of a window, whose counts are named as ours are, with bins for nulls and for other categories."""
        names = sorted(self.counts)
        other = sum(count for name, count in counts.items() if name not in self.counts)
        expected = [self.counts[name] for name in names]
        actual = [counts.get(name, 0) for name in names]
        return _psi([*expected, self.other, self.nulls], [*actual, other, nulls])

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "category",
            "rows": self.rows,
            "nulls": self.nulls,
            "public": self.public,
            "counts": dict(self.counts),
            "other": self.other,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(document["rows"], document["nulls"], document["public"], dict(document["counts"]), document["other"])


@dataclass(frozen=True)
class ReferenceProfile:
    """What a version's training part looked like; evidence, stored beside the version.

    Attributes:
        inputs_digest: digest of what was profiled (the snapshot's). It keys the hashes of categories, so that those of
            two training sets cannot be joined; it is no secret, so a guessed category can be confirmed.
        rows: rows profiled.
        fields: by name.
        score: the scores of the profiled rows, where given.
    """

    inputs_digest: str
    rows: int
    fields: Mapping[str, NumberProfile | CategoryProfile]
    score: NumberProfile | None = None

    @classmethod
    def of(
        cls,
        table: pa.Table,
        fields: Sequence[ProfiledField],
        *,
        inputs_digest: str,
        scores: npt.NDArray[Any] | None = None,
    ) -> Self:
        """Profiles the columns of the fields; other columns are ignored.

        Raises:
            SchemaMismatch: a column is missing.
            DataError: an infinite value.
        """
        profiles = {field.name: _profile(table, field, inputs_digest) for field in fields}
        score = None if scores is None else NumberProfile.of(_as_model_sees(scores))
        return cls(inputs_digest, table.num_rows, profiles, score)

    def to_json(self) -> dict[str, Any]:
        return {
            "format": PROFILE_FORMAT,
            "inputs_digest": self.inputs_digest,
            "rows": self.rows,
            "fields": {name: profile.to_json() for name, profile in self.fields.items()},
            "score": None if self.score is None else self.score.to_json(),
        }

    def to_bytes(self) -> bytes:
        """The canonical form, as stored."""
        return canonical_json(self.to_json())

    @cached_property
    def digest(self) -> str:
        return document_digest("profile", self.to_json())

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """The profile of a stored document.

        Raises:
            DataError: it has another format.
        """
        if document.get("format") != PROFILE_FORMAT:
            raise DataError("This is no profile.", field="format", next_step=f"Expected {PROFILE_FORMAT}.")
        fields: dict[str, NumberProfile | CategoryProfile] = {
            name: NumberProfile.from_json(item) if item["kind"] == "number" else CategoryProfile.from_json(item)
            for name, item in document["fields"].items()
        }
        score = None if document["score"] is None else NumberProfile.from_json(document["score"])
        return cls(document["inputs_digest"], document["rows"], fields, score)


def psi(reference: ReferenceProfile, window: pa.Table) -> dict[str, float]:
    """The PSI of each field of the reference, over its own bins, against a window of rows (`stats.psi`).

    Raises:
        SchemaMismatch: the window lacks a column.
        NotEnoughData: the window, or the reference, has no rows.
    """
    return {
        name: profile.psi(_numbers(window, name))
        if isinstance(profile, NumberProfile)
        else profile.psi(*category_counts(window, name, public=profile.public, key=reference.inputs_digest))
        for name, profile in reference.fields.items()
    }


def score_psi(reference: ReferenceProfile, scores: npt.NDArray[Any]) -> float:
    """The PSI of a window's scores.

    Raises:
        DataError: the reference holds no scores.
        NotEnoughData: there are no scores.
    """
    if reference.score is None:
        raise DataError(
            "The reference has no scores.", field="score", next_step="Profile the training part with its scores."
        )
    return reference.score.psi(_as_model_sees(scores))


def _as_model_sees(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    with np.errstate(over="ignore"):
        return values.astype(np.float32).astype(np.float64)


def column_of(table: pa.Table, name: str) -> pa.ChunkedArray[Any]:
    """A profiled column; raises `SchemaMismatch` where it is missing."""
    if name not in table.column_names:
        raise SchemaMismatch("A profiled column is missing.", field=name, next_step="Deliver it.")
    return table.column(name)


def _numbers(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    values, null = float64_and_null(column_of(table, name))
    return np.where(null, np.nan, _as_model_sees(values))


def category_counts(table: pa.Table, name: str, *, public: bool, key: str) -> tuple[dict[str, int], int]:
    """Rows a category, named as the profile whose inputs digest is ``key`` names them, and rows without a value."""
    column = category_texts(column_of(table, name))
    tally: Any = column.value_counts()
    counted = {item["values"]: item["counts"] for item in tally.to_pylist()}
    nulls = counted.pop(None, 0)
    return {text if public else hashed_category(key, name, text): count for text, count in counted.items()}, nulls


def hashed_category(key: str, field: str, text: str) -> str:
    """The name of a category in a profile whose inputs digest is ``key``, where the field is not public."""
    raw = keyed(key.encode(), "ml-platform/category/1", ("text", field), ("text", text))
    return raw.hex()[:_HASH_CHARACTERS]


def _profile(table: pa.Table, field: ProfiledField, key: str) -> NumberProfile | CategoryProfile:
    if field.kind == "number":
        return NumberProfile.of(_numbers(table, field.name))
    counts, nulls = category_counts(table, field.name, public=field.public, key=key)
    named = {name: count for name, count in sorted(counts.items()) if count >= MIN_ROWS}
    other = sum(counts.values()) - sum(named.values())
    return CategoryProfile(table.num_rows, nulls, field.public, named, other)


def _moments(values: npt.NDArray[np.float64]) -> tuple[float | None, float | None]:
    # fsum is exact before its one rounding, so the order of rows does not matter.
    if not len(values):
        return None, None
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, None
    return mean, math.fsum((values - mean) ** 2) / (len(values) - 1)


def _psi(expected: Sequence[int], actual: Sequence[int]) -> float:
    # A bin that neither side has would only add smoothing.
    held = [(e, a) for e, a in zip(expected, actual, strict=True) if e or a]
    return divergence.psi([e for e, _ in held], [a for _, a in held])
