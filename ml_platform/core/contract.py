"""The contract: what a version accepts, by name, and what it does with everything else.

The same object checks training data, online requests, batch partitions and stream events. It is made at training
(``training.contract.build``), stored with the version (``ml-platform/contract/1``), and holds no value of a person.
Numbers cross the model's boundary as float32, rounded exactly once (after derivation); categories as their index in
the sorted list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml_platform.core import columns as cols
from ml_platform.core.digests import canonical_json, document_digest
from ml_platform.core.errors import DeclarationError, NotFound, SchemaMismatch
from ml_platform.core.fields import Kind, Policy

__all__ = ["Admission", "Contract", "Flag", "Output", "Refusal", "ResolvedField"]

FORMAT: Final = "ml-platform/contract/1"
Origin = Literal["input", "derived", "stored"]


@dataclass(frozen=True)
class ResolvedField:
    """One feature of a version: where it comes from, its type, and its policies with everything resolved.

    ``reference`` names the definition that it comes from, ``view@sha256:…:feature``; ``type`` is the Arrow-like type of
    the column that carries it; ``expression`` is the normalised tree of a derived field.
    """

    name: str
    reference: str
    origin: Origin
    kind: Kind
    type: str
    nullable: bool = False
    range: tuple[float | None, float | None] | None = None
    categories: tuple[str, ...] | None = None
    on_unknown: Policy = "reject"
    on_null: Policy = "reject"
    on_range: Policy = "reject"
    default: float | str | None = None
    public: bool = False
    expression: dict[str, Any] | None = field(default=None, hash=False)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "reference": self.reference,
            "origin": self.origin,
            "kind": self.kind,
            "type": self.type,
            "nullable": self.nullable,
            "range": None if self.range is None else list(self.range),
            "categories": None if self.categories is None else list(self.categories),
            "on_unknown": self.on_unknown,
            "on_null": self.on_null,
            "on_range": self.on_range,
            "default": self.default,
            "public": self.public,
            "expression": self.expression,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        values = dict(document)
        values["range"] = None if values["range"] is None else tuple(values["range"])
        values["categories"] = None if values["categories"] is None else tuple(values["categories"])
        return cls(**values)


@dataclass(frozen=True)
class Output:
    """A named output tensor: a score, a list, a text."""

    name: str
    type: str
    shape: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "type": self.type, "shape": list(self.shape)}


@dataclass(frozen=True)
class Refusal:
    """Why one row was refused: field, rule, kind of value. Never the value."""

    row: int
    field: str
    rule: str
    kind: str


@dataclass(frozen=True)
class Flag:
    """A row let through with a remark; ``rule`` says which policy and encoding were used."""

    row: int
    field: str
    rule: str


@dataclass(frozen=True)
class Admission:
    """What the contract made of a table of n rows.

    ``columns``: number fields as float64 (NaN = missing), categories as int32 codes (−1 = missing), for all n rows;
    values of refused rows have no meaning.
    """

    accepted: npt.NDArray[np.bool_]
    refusals: tuple[Refusal, ...]
    flags: tuple[Flag, ...]
    columns: Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Contract:
    """Fields in model order, entity keys, the request's time, and named outputs."""

    entity_keys: tuple[tuple[str, str], ...]
    time: str
    fields: tuple[ResolvedField, ...]
    outputs: tuple[Output, ...] = (Output("score", "float32"),)

    def __post_init__(self) -> None:
        names = self.names
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise DeclarationError(
                "Two features have the same name.",
                field=", ".join(doubled),
                next_step="Short feature names are unique within a model: rename one.",
            )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(item.name for item in self.fields)

    @property
    def inputs(self) -> tuple[ResolvedField, ...]:
        return tuple(item for item in self.fields if item.origin == "input")

    @property
    def derived(self) -> tuple[ResolvedField, ...]:
        return tuple(item for item in self.fields if item.origin == "derived")

    @property
    def stored(self) -> tuple[ResolvedField, ...]:
        return tuple(item for item in self.fields if item.origin == "stored")

    def field(self, name: str) -> ResolvedField:
        for item in self.fields:
            if item.name == name:
                return item
        raise NotFound(
            "The contract has no such field.", field=name, next_step=f"Choose one of {', '.join(self.names)}."
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "entity_keys": [list(pair) for pair in self.entity_keys],
            "time": self.time,
            "fields": [item.to_json() for item in self.fields],
            "outputs": [item.to_json() for item in self.outputs],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        if document.get("format") != FORMAT:
            raise DeclarationError("This is no contract of a known format.", next_step=f"Expected {FORMAT}.")
        return cls(
            entity_keys=tuple((name, kind) for name, kind in document["entity_keys"]),
            time=document["time"],
            fields=tuple(ResolvedField.from_json(item) for item in document["fields"]),
            outputs=tuple(Output(o["name"], o["type"], tuple(o["shape"])) for o in document["outputs"]),
        )

    def to_bytes(self) -> bytes:
        return canonical_json(self.to_json())

    @cached_property
    def digest(self) -> str:
        return document_digest("contract", self.to_json())

    def check_schema(self, schema: pa.Schema) -> None:
        """Columns by name: order means nothing, presence and type mean everything.

        Raises:
            SchemaMismatch: a column is missing, extra, of another type, or a time without zone.
        """
        expected = {**dict(self.entity_keys), self.time: "timestamp"}
        expected |= {item.name: item.type for item in self.inputs}
        cols.check_columns(schema, expected)

    def admit(self, table: pa.Table, origins: Sequence[Origin] = ("input",)) -> Admission:
        """Applies the policies of the fields with these origins to every row; never raises for a row."""
        return _Admitting(self, table).run([item for item in self.fields if item.origin in origins])

    def encode(self, columns: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """The model's matrix, float32 [n, fields] in contract order; missing is NaN.

        Raises:
            SchemaMismatch: a field of the contract has no column.
        """
        missing = [name for name in self.names if name not in columns]
        if missing:
            raise SchemaMismatch("Features are missing.", field=", ".join(missing), next_step="Compute them first.")
        rows = len(next(iter(columns.values()))) if columns else 0
        matrix = np.empty((rows, len(self.fields)), np.float32)
        for position, item in enumerate(self.fields):
            matrix[:, position] = encode_column(item, columns[item.name])
        return matrix


def encode_column(item: ResolvedField, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """One field as the model sees it: float32, rounded once; a category as its index; missing as NaN."""
    if item.kind == "category":
        return np.where(values < 0, np.nan, values).astype(np.float32)
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


class _Admitting:
    """One pass over a table, a column at a time."""

    def __init__(self, contract: Contract, table: pa.Table) -> None:
        self.table = table
        self.contract = contract
        self.accepted = np.ones(table.num_rows, np.bool_)
        self.refusals: list[Refusal] = []
        self.flags: list[Flag] = []

    def run(self, fields: Iterable[ResolvedField]) -> Admission:
        columns: dict[str, npt.NDArray[Any]] = {}
        for item in fields:
            column = self.table.column(item.name)
            columns[item.name] = self._category(item, column) if item.kind == "category" else self._number(item, column)
        self.refusals.sort(key=lambda refusal: refusal.row)
        self.flags.sort(key=lambda flag: flag.row)
        return Admission(self.accepted, tuple(self.refusals), tuple(self.flags), columns)

    def _number(self, item: ResolvedField, column: pa.ChunkedArray[Any]) -> npt.NDArray[np.float64]:
        values, null = cols.float64_and_null(column)
        self._refuse(item, ~null & ~np.isfinite(values), "finite", "not a finite number")
        with np.errstate(over="ignore"):
            too_large = np.isfinite(values) & ~np.isfinite(values.astype(np.float32))
        self._refuse(item, ~null & too_large, "float32", "a number beyond float32")
        values = self._null(item, values, null)
        if item.range is not None:
            low, high = item.range
            outside = np.zeros(len(values), np.bool_)
            with np.errstate(invalid="ignore"):
                if low is not None:
                    outside |= values < low
                if high is not None:
                    outside |= values > high
            values = self._apply(item, values, outside, "range", item.on_range, "a number out of range")
        return values

    def _null(
        self, item: ResolvedField, values: npt.NDArray[np.float64], null: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.float64]:
        values = np.where(null, np.nan, values)
        if item.nullable:
            return values
        return self._apply(item, values, null, "null", item.on_null, "null")

    def _apply(
        self,
        item: ResolvedField,
        values: npt.NDArray[Any],
        where: npt.NDArray[np.bool_],
        rule: str,
        policy: Policy,
        kind: str,
    ) -> npt.NDArray[Any]:
        if not where.any():
            return values
        if policy == "reject":
            self._refuse(item, where, rule, kind)
            return values
        self.flags += [Flag(int(row), item.name, f"{rule}:{policy}") for row in np.flatnonzero(where)]
        if policy == "default":
            return np.where(where, self._default(item), values)
        return values

    def _default(self, item: ResolvedField) -> float:
        if item.kind == "category":
            known = item.categories or ()
            return float(known.index(str(item.default))) if item.default in known else -1.0
        return float(item.default) if item.default is not None else np.nan

    def _category(self, item: ResolvedField, column: pa.ChunkedArray[Any]) -> npt.NDArray[np.int32]:
        codes, null = cols.category_codes(column, item.categories or ())
        unknown = (codes < 0) & ~null
        values: npt.NDArray[Any] = codes
        if not item.nullable:
            values = self._apply(item, values, null, "null", item.on_null, "null")
        values = self._apply(item, values, unknown, "unknown", item.on_unknown, "an unknown category")
        return values.astype(np.int32)

    def _refuse(self, item: ResolvedField, where: npt.NDArray[np.bool_], rule: str, kind: str) -> None:
        if where.any():
            self.accepted &= ~where
            self.refusals += [Refusal(int(row), item.name, rule, kind) for row in np.flatnonzero(where)]
