"""The evidence of an evaluation: for each test row its leaf, scores, label and groups. Verdicts come from it alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ml_platform.core.digests import tagged_hash
from ml_platform.core.errors import DataError, DuplicateKeys, NotEnoughData, Tampered
from ml_platform.core.rows import FieldType, encode_table

__all__ = ["EvaluationTable"]

_TAG: Final = "ml-platform/evaluation-table/1"
_GROUP: Final = "group_"
_LEAF: Final = pa.binary(32)
_COLUMNS: Final[dict[str, pa.DataType]] = {
    "row_leaf": _LEAF,
    "score": pa.float32(),
    "native_score": pa.float64(),
    "label": pa.int64(),
    "baseline_score": pa.float32(),
}


@dataclass(frozen=True)
class EvaluationTable:
    """Rows by rising leaf; make it with ``build`` or ``from_parquet``, which check what they are given.

    Columns: ``row_leaf`` (32 bytes, of the snapshot), ``score`` (float32, ONNX), ``native_score`` (float64), ``label``
    (0 or 1), ``baseline_score`` (float32, null where production's version refuses the row or there is none), and
    ``group_<attribute>`` (text, null where unknown) for each protected attribute, by name.
    """

    table: pa.Table

    @classmethod
    def build(
        cls,
        row_leaf: Sequence[Any],
        *,
        score: npt.NDArray[Any],
        native_score: npt.NDArray[Any],
        label: npt.NDArray[Any],
        groups: Mapping[str, Sequence[str | None]] | None = None,
        baseline_score: npt.NDArray[Any] | None = None,
    ) -> Self:
        """The table of rows in any order; NaN in ``baseline_score`` means that the row is outside the pair.

        Raises:
            NotEnoughData: no rows.
            DuplicateKeys: two rows have one leaf.
            DataError: lengths differ, a score is not finite, a label not binary, a leaf not 32 bytes long.
        """
        baseline = np.full(len(row_leaf), np.nan, np.float32) if baseline_score is None else baseline_score
        numbers = {"score": score, "native_score": native_score, "label": label, "baseline_score": baseline}
        names = {name: list(values) for name, values in (groups or {}).items()}
        _check_lengths(len(row_leaf), {**numbers, **names})
        _check_numbers(numbers)
        if any(not isinstance(leaf, bytes) or len(leaf) != 32 for leaf in row_leaf):
            raise DataError(
                "A row leaf is not 32 bytes long.", field="row_leaf", next_step="Pass the snapshot's leaves."
            )
        columns: dict[str, Any] = {"row_leaf": pa.array(row_leaf, _LEAF)}
        columns |= {name: pa.array(np.asarray(values), _COLUMNS[name]) for name, values in numbers.items()}
        pair = np.asarray(baseline, np.float32)
        columns["baseline_score"] = pa.array(pair, mask=np.isnan(pair))
        columns |= {_GROUP + name: pa.array(names[name], pa.string()) for name in sorted(names)}
        table = pa.table(columns)
        return cls(_by_leaf(table))

    @classmethod
    def from_parquet(cls, raw: bytes) -> Self:
        """The table of stored bytes, checked like a new one.

        Raises:
            Tampered: these are no evaluation table's bytes.
        """
        try:
            stored = pq.read_table(pa.BufferReader(raw))
            return cls.build(
                stored.column("row_leaf").to_pylist(),
                groups={
                    name.removeprefix(_GROUP): stored.column(name).to_pylist()
                    for name in stored.column_names
                    if name.startswith(_GROUP)
                },
                **{name: stored.column(name).to_numpy() for name in _COLUMNS if name != "row_leaf"},
            )
        except (pa.ArrowInvalid, KeyError, TypeError, DataError) as error:
            raise Tampered(
                "The stored evaluation table cannot be read as one.",
                field="table",
                next_step="Evaluate the candidate again.",
            ) from error

    def to_parquet(self) -> bytes:
        """Parquet bytes for the object store."""
        sink = pa.BufferOutputStream()
        pq.write_table(self.table, sink)
        return bytes(sink.getvalue())

    @cached_property
    def digest(self) -> str:
        """``sha256:…`` over column names and ``row/1`` bytes of all rows, whatever file holds them."""
        plain = self.table.set_column(0, "row_leaf", self.table.column("row_leaf").cast(pa.binary()))
        names = plain.column_names
        rows: list[tuple[FieldType, object]] = [("bytes", row) for row in encode_table(plain, names)]
        return "sha256:" + tagged_hash(_TAG, ("texts", names), ("i64", plain.num_rows), *rows).hex()

    @property
    def rows(self) -> int:
        return int(self.table.num_rows)

    @property
    def positives(self) -> int:
        return int(np.count_nonzero(self.labels))

    @property
    def scores(self) -> npt.NDArray[np.float64]:
        """The scores that decide, exactly as float64."""
        return self._numbers("score")

    @property
    def native_scores(self) -> npt.NDArray[np.float64]:
        return self._numbers("native_score")

    @property
    def labels(self) -> npt.NDArray[np.float64]:
        return self._numbers("label")

    @property
    def baseline_scores(self) -> npt.NDArray[np.float64]:
        """NaN where the row is outside the pair."""
        return self._numbers("baseline_score")

    @property
    def attributes(self) -> tuple[str, ...]:
        """The protected attributes that have a column."""
        return tuple(name.removeprefix(_GROUP) for name in self.table.column_names if name.startswith(_GROUP))

    def group(self, attribute: str) -> npt.NDArray[np.object_]:
        """Each row's group, or None."""
        return np.array(self.table.column(_GROUP + attribute).to_pylist(), object)

    def _numbers(self, name: str) -> npt.NDArray[np.float64]:
        return self.table.column(name).to_numpy().astype(np.float64)


def _check_lengths(rows: int, columns: Mapping[str, Any]) -> None:
    for name, values in columns.items():
        if len(values) != rows:
            raise DataError("The columns differ in length.", field=name, next_step="Pass one value a row.")
    if not rows:
        raise NotEnoughData("There are no rows to evaluate on.", field="rows", next_step="Wait for mature labels.")


def _check_numbers(columns: Mapping[str, npt.NDArray[Any]]) -> None:
    for name in ("score", "native_score"):
        if not np.isfinite(np.asarray(columns[name], np.float64)).all():
            raise DataError("A score is not finite.", field=name, next_step="Mend the model.")
    if np.isinf(np.asarray(columns["baseline_score"], np.float64)).any():
        raise DataError("A score is not finite.", field="baseline_score", next_step="Mend production's model.")
    if not np.isin(np.asarray(columns["label"]), (0, 1)).all():
        raise DataError("A label is neither 0 nor 1.", field="label", next_step="Pass binary labels.")


def _by_leaf(table: pa.Table) -> pa.Table:
    leaves = table.column("row_leaf").cast(pa.binary())
    if pc.count_distinct(leaves).as_py() != table.num_rows:
        raise DuplicateKeys("Two rows have one leaf.", field="row_leaf", next_step="Evaluate each row once.")
    return table.take(pc.sort_indices(leaves)).combine_chunks()
