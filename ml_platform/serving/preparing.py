"""From the rows of a chunk to what the model sees, through the contract; refused rows stay behind with their reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml_platform.core.columns import category_texts, float64_and_null
from ml_platform.core.contract import Contract, Flag, Refusal
from ml_platform.core.errors import DataError, SchemaMismatch
from ml_platform.core.rows import encode_value
from ml_platform.features import Expression
from ml_platform.serving.encoding import Coded, Part, arrow_part, row_bytes
from ml_platform.serving.tables import age_column, feature_column, key_column

__all__ = ["FeatureReader", "Prepared", "Preparer", "TextLists"]

FeatureReader = Callable[[Contract, pa.Table], pa.Table]
"""Stored features of rows, in their order: a column of each stored field's name, and ``age_<name>``: T minus the
value's event time in int64 microseconds, null where there was no value."""


@dataclass(frozen=True)
class TextLists:
    """A list of texts for each row, of which few are different."""

    codes: npt.NDArray[np.int64]
    lists: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, rows: int, found: dict[int, tuple[str, ...]]) -> TextLists:
        """``found`` has the rows with a list that is not empty."""
        numbers: dict[tuple[str, ...], int] = {(): 0}
        codes = np.zeros(rows, np.int64)
        for row, texts in found.items():
            codes[row] = numbers.setdefault(texts, len(numbers))
        return cls(codes, tuple(numbers))

    def part(self) -> Part:
        return Coded(self.codes, [encode_value("texts", texts) for texts in self.lists])

    def arrow(self) -> pa.Array[Any]:
        return pa.array([list(texts) for texts in self.lists], pa.list_(pa.string())).take(self.codes)


@dataclass(frozen=True)
class Prepared:
    """The accepted rows of a chunk, and why the others were refused.

    Args:
        columns: personal columns known before scoring, by their name in the table: keys, features, ages.
        matrix: float32 [n, f] in contract order.
        entity_keys, row_keys: ``row/1`` bytes of the entity key, and of entity key and T.
        refusals: ``row`` counts from the start of the chunk.
        refused_keys: row number → ``row/1`` bytes of entity key and T.
    """

    times: pa.ChunkedArray[Any]
    columns: dict[str, pa.ChunkedArray[Any]]
    matrix: npt.NDArray[np.float32]
    flags: TextLists
    flagged: tuple[Flag, ...]
    entity_keys: list[bytes]
    row_keys: list[bytes]
    refusals: tuple[Refusal, ...]
    refused_keys: dict[int, bytes]

    @property
    def rows(self) -> int:
        return len(self.row_keys)


class Preparer:
    """Applies one contract to chunks of a window.

    Args:
        window_us: request times lie in [start, end).
        features: reads stored features; needed where the contract has any.
    """

    def __init__(self, contract: Contract, window_us: tuple[int, int], features: FeatureReader | None) -> None:
        self._contract = contract
        self._window = window_us
        self._features = features
        kinds = {item.name: item.kind for item in contract.inputs}
        self._derived = {
            item.name: Expression.from_spec(item.expression, kinds)
            for item in contract.derived
            if item.expression is not None
        }

    def prepare(self, table: pa.Table) -> Prepared:
        """Raises ``SchemaMismatch`` or ``DataError`` for what is wrong with the partition, never for one row."""
        contract = self._contract
        contract.check_schema(table.schema)
        self._check_identity(table)
        entity_keys, row_keys = self._keys(table)
        first = contract.admit(table)
        kept = np.flatnonzero(first.accepted)
        rows = self._complete(_rows(table, kept))
        second = contract.admit(rows, ("derived", "stored"))
        inner = np.flatnonzero(second.accepted)
        final = kept[inner]
        matrix = contract.encode(
            {name: values[final] for name, values in first.columns.items()}
            | {name: values[inner] for name, values in second.columns.items()}
        )
        refusals = (*first.refusals, *(Refusal(int(kept[r.row]), r.field, r.rule, r.kind) for r in second.refusals))
        flagged = _moved(first.flags, final) + _moved(
            tuple(Flag(int(kept[flag.row]), flag.field, flag.rule) for flag in second.flags), final
        )
        rows = _rows(rows, inner)
        return Prepared(
            times=rows.column(contract.time),
            columns=self._columns(rows, matrix),
            matrix=matrix,
            flags=self._flag_lists(len(final), flagged),
            flagged=flagged,
            entity_keys=_taken(entity_keys, final),
            row_keys=_taken(row_keys, final),
            refusals=tuple(sorted(refusals, key=lambda refusal: refusal.row)),
            refused_keys={refusal.row: row_keys[refusal.row] for refusal in refusals},
        )

    def _check_identity(self, table: pa.Table) -> None:
        for name in (*(name for name, _ in self._contract.entity_keys), self._contract.time):
            if table.column(name).null_count:
                raise SchemaMismatch(
                    "A key or request time is null.", field=name, next_step="Every row says what it is about, and when."
                )
        times = table.column(self._contract.time).cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
        start, end = self._window
        if len(times) and (times.min() < start or times.max() >= end):
            raise DataError(
                "A row's request time lies outside the partition's window.",
                field=self._contract.time,
                next_step="Deliver the rows of [start, end) only.",
            )

    def _keys(self, table: pa.Table) -> tuple[list[bytes], list[bytes]]:
        parts = [arrow_part(table.column(name), field=name) for name, _ in self._contract.entity_keys]
        time = arrow_part(table.column(self._contract.time), field=self._contract.time)
        return row_bytes(parts, table.num_rows), row_bytes([*parts, time], table.num_rows)

    def _complete(self, rows: pa.Table) -> pa.Table:
        """The rows with derived columns and stored ones."""
        for name, values in self._derive(rows).items():
            rows = rows.append_column(name, pa.array(values, pa.float64(), mask=np.isnan(values)))
        if not self._contract.stored:
            return rows
        if self._features is None:
            raise SchemaMismatch(
                "The version reads stored features, and no reader was given.",
                field=self._contract.stored[0].name,
                next_step="Pass a feature reader.",
            )
        stored = self._features(self._contract, rows)
        if stored.num_rows != rows.num_rows:
            raise DataError("Stored features came for another number of rows.", next_step="Mend the feature reader.")
        for item in self._contract.stored:
            age = stored.column(age_column(item)).cast(pa.int64())
            if (age.fill_null(pa.scalar(0, pa.int64())).to_numpy() < 0).any():
                raise DataError(
                    "A stored feature is younger than the request that uses it.",
                    field=item.name,
                    next_step="Mend the point-in-time join: this is a leak.",
                )
            rows = rows.append_column(item.name, stored.column(item.name)).append_column(age_column(item), age)
        return rows

    def _derive(self, rows: pa.Table) -> dict[str, npt.NDArray[np.float64]]:
        """Derived values from the columns as received, as in training."""
        if not self._derived:
            return {}
        wanted = {name for expression in self._derived.values() for name in expression.columns()}
        received: dict[str, npt.NDArray[Any]] = {}
        for item in self._contract.inputs:
            if item.name not in wanted:
                continue
            column = rows.column(item.name)
            if item.kind == "category":
                received[item.name] = np.array(category_texts(column).to_pylist(), object)
            else:
                values, null = float64_and_null(column)
                received[item.name] = np.where(null, np.nan, values)
        return {name: expression.evaluate(received) for name, expression in self._derived.items()}

    def _columns(self, rows: pa.Table, matrix: npt.NDArray[np.float32]) -> dict[str, pa.ChunkedArray[Any]]:
        columns: dict[str, pa.ChunkedArray[Any]] = {
            key_column(name): rows.column(name) for name, _ in self._contract.entity_keys
        }
        for place, item in enumerate(self._contract.fields):
            if item.kind == "category":
                columns[feature_column(item)] = category_texts(rows.column(item.name))
            else:
                values = np.ascontiguousarray(matrix[:, place])
                missing = np.isnan(values)
                array = pa.array(values, pa.float32(), mask=missing) if missing.any() else pa.array(values)
                columns[feature_column(item)] = pa.chunked_array([array])
        for item in self._contract.stored:
            columns[age_column(item)] = rows.column(age_column(item))
        return columns

    def _flag_lists(self, rows: int, flags: tuple[Flag, ...]) -> TextLists:
        """Flags of a row in contract order, so that the bytes do not depend on the order of checks."""
        place = {name: number for number, name in enumerate(self._contract.names)}
        by_row: dict[int, list[Flag]] = {}
        for flag in flags:
            by_row.setdefault(flag.row, []).append(flag)
        return TextLists.of(
            rows,
            {
                row: tuple(
                    f"{flag.field}:{flag.rule}" for flag in sorted(found, key=lambda f: (place[f.field], f.rule))
                )
                for row, found in by_row.items()
            },
        )


def _rows(table: pa.Table, kept: npt.NDArray[np.int64]) -> pa.Table:
    return table if len(kept) == table.num_rows else table.take(kept)


def _taken(values: list[bytes], kept: npt.NDArray[np.int64]) -> list[bytes]:
    return values if len(kept) == len(values) else [values[row] for row in kept.tolist()]


def _moved(flags: tuple[Flag, ...], kept: npt.NDArray[np.int64]) -> tuple[Flag, ...]:
    """Flags of the rows that stay, counted from the first of them."""
    if not flags:
        return ()
    at = {row: number for number, row in enumerate(kept.tolist())}
    return tuple(Flag(at[flag.row], flag.field, flag.rule) for flag in flags if flag.row in at)
