"""The manifest of a training set (``ml-platform/training-set/1``): what it was made of, and what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ml_platform.core.errors import DeclarationError
from ml_platform.core.rows import arrow_row_type, micros
from ml_platform.datasets.labels import SPLIT
from ml_platform.datasets.maturity import REASON
from ml_platform.datasets.split import Split
from ml_platform.datasets.training_spec import TEST, TRAIN, TrainingSetSpec

__all__ = ["MANIFEST_FORMAT", "Inputs", "SourceInput", "manifest_document", "part_of", "time_text", "training_parts"]

MANIFEST_FORMAT: Final = "ml-platform/training-set/1"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class SourceInput:
    """One source as it was read.

    Attributes:
        definition: the source's digest.
        table_version: version of the table, None for what has none (a file, a reader).
        location: the binding: where the settings say that it is. Never part of the snapshot's digest.
    """

    definition: str
    table_version: int | None
    location: str

    def to_json(self) -> dict[str, Any]:
        return {"definition": self.definition, "table_version": self.table_version, "location": self.location}


@dataclass(frozen=True)
class Inputs:
    """What the caller read: sources by logical name, and table versions of stored views by ``view@sha256:…``.

    The sources of requests and outcomes must be there; those that stored views were made of may be.
    """

    sources: Mapping[str, SourceInput]
    features: Mapping[str, int] = field(default_factory=dict)


def time_text(at_us: int) -> str:
    """RFC 3339 with microseconds and Z.

    >>> time_text(0)
    '1970-01-01T00:00:00.000000Z'
    """
    return (_EPOCH + timedelta(microseconds=at_us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def part_of(table: pa.Table, name: str) -> pa.Table:
    """The rows of one part, ``train`` or ``test``."""
    return table.filter(pa.array(np.asarray(table.column(SPLIT).to_pylist()) == name))


def training_parts(spec: TrainingSetSpec, table: pa.Table, left_out: pa.Table, split: Split) -> dict[str, Any]:
    """What a training set says of itself; ``manifest_document`` adds what storage knows."""
    label, entity = spec.label, spec.label.rows.entity
    reasons = Counter(left_out.column(REASON).to_pylist())
    return {
        "definition": spec.digest,
        "entity": {"name": entity.name, "keys": list(entity.keys), "personal": entity.personal},
        "time": label.rows.time,
        "columns": [[item.name, arrow_row_type(item.type, field=item.name)] for item in table.schema],
        "rows": table.num_rows,
        "label": {
            "definition": label.digest,
            "column": label.column,
            "kind": label.kind,
            "horizon": label.horizon,
            "lag": label.lag,
        },
        # A source without a known time says why not: that reason belongs to the record.
        "known_times": {source.name: source.document()["known_time"] for source in (label.rows.source, label.outcome)},
        "split": _split_part(spec, table, split),
        "left_out": {"rows": left_out.num_rows, "reasons": dict(sorted(reasons.items()))},
        "query": _query(spec),
        "reads": {
            "sources": [label.rows.source.name, label.outcome.name],
            "features": [view.reference for view in spec.stored],
        },
    }


def _split_part(spec: TrainingSetSpec, table: pa.Table, split: Split) -> dict[str, Any]:
    parts = {name: part_of(table, name) for name in (TRAIN, TEST)}
    is_event = spec.label.kind == "event_within"
    positives = {
        name: int(np.count_nonzero(part.column(spec.label.column).to_numpy())) if is_event else None
        for name, part in parts.items()
    }
    return {
        **{name: value for name, value in spec.split.spec().items() if name != "type"},
        "cut": time_text(split.cut_us),
        "train_until": time_text(split.train_until_us),
        "train_rows": parts[TRAIN].num_rows,
        "train_positives": positives[TRAIN],
        "test_rows": parts[TEST].num_rows,
        "test_positives": positives[TEST],
        "matured_after_cut": split.matured_after_cut,
    }


def _query(spec: TrainingSetSpec) -> dict[str, Any]:
    """What was asked, in full: label and derived features as SQL, stored features by definition."""
    return {
        "label": spec.label.matured.sql,
        "derived": {name: expression.spec() for name, expression in spec.label.rows.expressions.items()},
        "stored": {view.reference: [item.name for item in view.features] for view in spec.stored},
        "order": [spec.label.rows.time, *spec.label.rows.entity.keys],
    }


def manifest_document(
    *, parts: Mapping[str, Any], inputs: Inputs, digest: str, left_out_root: str, as_of: datetime
) -> dict[str, Any]:
    """The whole document; ``parts`` are those of the training set (see ``training_set``).

    It does not name run, candidate or path: equal inputs give an equal manifest, wherever and whenever it is made.

    Raises:
        DeclarationError: an input is missing or is not one of the training set.
    """
    _check_names("sources", set(parts["reads"]["sources"]), set(inputs.sources), more_allowed=True)
    _check_names("features", set(parts["reads"]["features"]), set(inputs.features), more_allowed=False)
    left_out = {**parts["left_out"], "root": left_out_root}
    return {
        "format": MANIFEST_FORMAT,
        "digest": digest,
        "as_of": time_text(micros(as_of)),
        **{name: value for name, value in parts.items() if name != "reads"},
        "left_out": left_out,
        "sources": {name: source.to_json() for name, source in inputs.sources.items()},
        "features": dict(inputs.features),
    }


def _check_names(what: str, expected: set[str], given: set[str], *, more_allowed: bool) -> None:
    wrong = expected - given if more_allowed else expected ^ given
    if wrong:
        raise DeclarationError(
            f"The inputs are not those of the training set: {', '.join(sorted(wrong))}.",
            field=what,
            next_step=f"Name {', '.join(sorted(expected)) or 'none'}.",
        )
