"""The assembly of a training set: mature labels, request columns, derived and stored features, one rounding.

Everything is a pure function of its arguments: tables come in, tables go out; storage is ``snapshot``'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml_platform.core.errors import DataError, NotEnoughData
from ml_platform.datasets.boundary import Refused, feature_table, refusals, rounded
from ml_platform.datasets.labels import MATURED_AT, SPLIT
from ml_platform.datasets.manifest import part_of, training_parts
from ml_platform.datasets.maturity import REASON, label_rows, left_out_rows, ordered
from ml_platform.datasets.split import Split, require_two_classes
from ml_platform.datasets.training_spec import GAP, TEST, TRAIN, TrainingSetSpec, age_column
from ml_platform.features.views import FeatureView

__all__ = ["JoinFeatures", "TrainingSet", "build_training_set"]

_UTC: Final = pa.timestamp("us", "UTC")

JoinFeatures = Callable[[pa.Table, Sequence[FeatureView]], pa.Table]
"""The point-in-time join of an engine: the rows as they are, in their order, and for each view its features and
``<view>__event_time`` (null where nothing was known at the row's time)."""


@dataclass(frozen=True)
class TrainingSet:
    """A training set in memory.

    Attributes:
        spec: its declaration.
        as_of: aware.
        table: entity keys, time, features in model order (numbers float32, categories text), per stored view
            ``<view>__age_us`` (int64, null where there was no value), the label, ``matured_at``, ``split``
            (``train`` or ``test``); ordered by (time, keys).
        left_out: entity keys, time, ``reason``: ``immature``, ``gap`` or ``refused:<field>:<rule>``; ordered likewise.
        parts: what it says of itself in the manifest.
    """

    spec: TrainingSetSpec
    as_of: datetime
    table: pa.Table
    left_out: pa.Table
    parts: Mapping[str, Any]


def build_training_set(
    spec: TrainingSetSpec,
    *,
    rows: pa.Table,
    outcomes: pa.Table,
    as_of: datetime,
    join: JoinFeatures | None = None,
) -> TrainingSet:
    """Assembles the training set as of an instant; what was known later does not exist.

    Rows that the declared policies refuse (null, range, unknown category, not finite in float32) are left out with the
    field and rule as the reason, before the split.

    Args:
        spec: the declaration.
        rows: stored rows of the request view's source.
        outcomes: stored rows of the label's outcome.
        as_of: aware.
        join: the point-in-time join over the histories of the stored views; needed where there are any.

    Raises:
        NotEnoughData: an empty part, one class only, or a request column without any value in the training part.
        LabelError: a label known before its event, or unknown at maturity.
        DataError: an integer beyond 2^24 in a number column, or rows that break their source's declaration.
    """
    label = spec.label
    labelled = label_rows(label, rows, outcomes, as_of)
    joined = _joined(spec, labelled.mature, join)
    features = feature_table(label.rows, spec.stored, joined, spec.feature_names)
    refused = refusals([field for view in spec.features for field in view.features], features)
    accepted = joined.filter(pa.array(refused.accepted))
    split = spec.split.split(_us(accepted, label.rows.time), _us(accepted, MATURED_AT))
    table = _assembled(spec, accepted, features.filter(pa.array(refused.accepted)), split)
    _check_training_part(spec, table)
    left_out = _left_out(spec, labelled.left_out, joined, refused, accepted, split)
    return TrainingSet(spec, as_of, table, left_out, training_parts(spec, table, left_out, split))


def _us(table: pa.Table, name: str) -> npt.NDArray[np.int64]:
    values: npt.NDArray[np.int64] = table.column(name).cast(_UTC).cast(pa.int64()).to_numpy()
    return values


def _joined(spec: TrainingSetSpec, mature: pa.Table, join: JoinFeatures | None) -> pa.Table:
    if not spec.stored:
        return mature
    if join is None:
        raise DataError("Stored features need a point-in-time join.", field="join", next_step="Pass the engine's join.")
    joined = join(mature, spec.stored)
    identity = list(spec.identity)
    if joined.num_rows != mature.num_rows or joined.select(identity).to_pydict() != mature.select(identity).to_pydict():
        raise DataError("The join lost, added or moved rows.", field="join", next_step="Report this engine's defect.")
    return joined


def _assembled(spec: TrainingSetSpec, rows: pa.Table, features: pa.Table, split: Split) -> pa.Table:
    label = spec.label
    columns: dict[str, Any] = {name: rows.column(name) for name in spec.identity}
    columns |= {name: rounded(features.column(name)) for name in spec.feature_names}
    start = pa.array(_us(rows, label.rows.time))
    for view in spec.stored:
        event = rows.column(f"{view.name}__event_time").cast(_UTC).cast(pa.int64()).combine_chunks()
        values, null = event.fill_null(0).to_numpy(), event.is_null().to_numpy(zero_copy_only=False)
        columns[age_column(view.name)] = pa.array(start.to_numpy() - values, mask=null)
    columns |= {name: rows.column(name) for name in (label.column, MATURED_AT)}
    columns[SPLIT] = pa.array(np.where(split.train, TRAIN, TEST))
    table = pa.table(columns).select(list(spec.columns)).filter(pa.array(split.train | split.test))
    # Nullability and metadata are the source's own business: the schema is the names and types alone.
    plain = pa.schema([pa.field(field.name, field.type) for field in table.schema])
    return table.cast(plain).combine_chunks()


def _check_training_part(spec: TrainingSetSpec, table: pa.Table) -> None:
    train = part_of(table, TRAIN)
    if spec.label.kind == "event_within":
        require_two_classes(train.column(spec.label.column).to_numpy().astype(np.float64))
    for field in spec.label.rows.features:
        if train.column(field.name).null_count == train.num_rows:
            raise NotEnoughData(
                f"The column has no value in the training part ({train.num_rows} rows).",
                field=field.name,
                next_step="Leave the column out, or mend its source: nothing can be learned from it.",
            )


def _left_out(
    spec: TrainingSetSpec, immature: pa.Table, joined: pa.Table, refused: Refused, accepted: pa.Table, split: Split
) -> pa.Table:
    keys, time = spec.label.rows.entity.keys, spec.label.rows.time
    out = joined.filter(pa.array(~refused.accepted)).select(list(spec.identity))
    out = out.append_column(REASON, pa.array(refused.reasons, pa.string()))
    between = left_out_rows(accepted.filter(pa.array(~(split.train | split.test))), spec.label, GAP)
    plain = pa.schema([pa.field(field.name, field.type) for field in immature.schema])
    return ordered(pa.concat_tables([part.cast(plain) for part in (immature, out, between)]), time, keys)
