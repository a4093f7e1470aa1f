"""How versions do on decisions whose labels have matured, and how fast they answer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml_platform.core.digests import canonical_json, document_digest, parse_canonical
from ml_platform.core.rows import encode_table, micros
from ml_platform.datasets import label_rows
from ml_platform.lifecycle.evaluating import attribute_groups
from ml_platform.lifecycle.scoring import Window
from ml_platform.lifecycle.sources import read_source
from ml_platform.lifecycle.window_records import (
    WindowRecords,
    monitored_window,
    read_latency_us,
    read_window,
    versions_of_record,
    window_before,
)
from ml_platform.model import Model
from ml_platform.monitoring.performance import PerformanceReport, measure_performance
from ml_platform.monitoring.severity import Judgement, judge_performance
from ml_platform.platform import Platform
from ml_platform.training import EvaluationTable, GateContext, seed_of

__all__ = ["PerformanceResult", "VersionPerformance", "performance_document", "performance_report"]

PERFORMANCE_FORMAT: Final = "ml-platform/performance-report/1"


@dataclass(frozen=True)
class VersionPerformance:
    """One version in a window."""

    version: int
    evaluation: str
    report: PerformanceReport
    judgements: tuple[Judgement, ...]
    document: str

    def to_json(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "evaluation": self.evaluation,
            **self.report.to_json(),
            "judgements": [one.to_json() for one in self.judgements],
            "document": self.document,
        }


@dataclass(frozen=True)
class PerformanceResult:
    """The performance of a window, by the version that decided."""

    model: str
    window: str
    versions: tuple[VersionPerformance, ...]

    @property
    def digest(self) -> str:
        return document_digest("performance-result", {"versions": [one.document for one in self.versions]})

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "window": self.window,
            "digest": self.digest,
            "versions": [one.to_json() for one in self.versions],
        }


def performance_report(platform: Platform, model: Model, window: str) -> PerformanceResult:
    """Measures each version on its decisions of record of a window, on labels that are mature now.

    One decision an entity counts, its first; a decision whose label is not mature is counted as waiting.

    Raises:
        DataError: the window is neither a month nor a day.
        NotFound: the log knows no such model.
    """
    platform.registry.state().model(model.name)
    span = monitored_window(window)
    labels = _Labels.known_now(platform, model)
    found = [
        _performance(platform, model, span, labels, version)
        for version in versions_of_record(platform, model.name, span)
    ]
    return PerformanceResult(model.name, window, tuple(found))


@dataclass(frozen=True)
class _Labels:
    """Mature labels by request: by entity and time, and by entity where it has one request only."""

    exact: dict[bytes, int]
    alone: dict[bytes, int]

    @classmethod
    def known_now(cls, platform: Platform, model: Model) -> _Labels:
        now = platform.clock.now()
        until = micros(now)
        rows = read_source(platform, model.request.source, known_until_us=until)
        outcomes = read_source(platform, model.label.outcome, known_until_us=until)
        mature = label_rows(model.label, rows, outcomes, now).mature
        keys = list(model.entity.keys)
        values = [int(str(value)) for value in mature.column(model.label.column).to_pylist()]
        single = encode_table(mature, keys)
        alone: dict[bytes, int] = {}
        seen: set[bytes] = set()
        for key, value in zip(single, values, strict=True):
            alone[key] = value
            if key in seen:
                del alone[key]
            seen.add(key)
        return cls(dict(zip(encode_table(mature, [*keys, model.request.time]), values, strict=True)), alone)

    def of(self, records: WindowRecords, model: Model) -> list[int | None]:
        """Of each record; online, the request's time is often that of the decision, not of the source."""
        keys = list(model.entity.keys)
        full, single = encode_table(records.table, [*keys, "request_time"]), encode_table(records.table, keys)
        return [self.exact.get(one, self.alone.get(key)) for one, key in zip(full, single, strict=True)]


def _performance(platform: Platform, model: Model, span: Window, labels: _Labels, version: int) -> VersionPerformance:
    records = read_window(platform, model.name, span, version)
    found = labels.of(records, model)
    kept = _first_of_each(records, model, found)
    evaluation = records.version.digests.evaluation
    registered = parse_canonical(platform.objects.get(evaluation))
    table = _table(platform, model, records, found, kept) if len(kept) else None
    report = measure_performance(
        table,
        EvaluationTable.from_parquet(platform.objects.get(registered["table"])),
        GateContext(
            training_base_rate=registered["context"]["training_base_rate"],
            seed=seed_of(records.inputs_digest),
            decision_above=registered["context"]["decision_above"],
        ),
        waiting=sum(one is None for one in found),
        slices=_slices(records, kept) if len(kept) else None,
        latency_us=records.latency_us,
        latency_before_us=read_latency_us(platform, model.name, window_before(span)),
    )
    judgements = judge_performance(report)
    about = {
        "model": model.name,
        "version": version,
        "window": span.partition,
        "inputs": records.inputs_digest,
        "table": None if table is None else table.digest,
        "evaluation": evaluation,
    }
    digest = platform.objects.put(canonical_json(performance_document(about, report, judgements)))
    return VersionPerformance(version, evaluation, report, judgements, digest)


def performance_document(
    about: Mapping[str, Any], report: PerformanceReport, judgements: Sequence[Judgement]
) -> dict[str, Any]:
    """The stored document of a report."""
    return {
        "format": PERFORMANCE_FORMAT,
        **about,
        "report": report.to_json(),
        "judgements": [one.to_json() for one in judgements],
    }


def _first_of_each(records: WindowRecords, model: Model, labels: Sequence[int | None]) -> npt.NDArray[np.int64]:
    """The first labelled decision of each entity."""
    ids = records.table.column("prediction_id").to_pylist()
    keys = encode_table(records.table, list(model.entity.keys))
    first: dict[bytes, int] = {}
    for row in sorted(range(len(ids)), key=lambda row: str(ids[row])):  # ids begin with the time of the decision
        if labels[row] is not None:
            first.setdefault(keys[row], row)
    return np.array(sorted(first.values()), np.int64)


def _leaves(records: WindowRecords, kept: npt.NDArray[np.int64]) -> list[bytes]:
    ids = records.table.column("prediction_id").take(kept).to_pylist()
    return [hashlib.sha256(str(one).encode()).digest() for one in ids]


def _table(
    platform: Platform,
    model: Model,
    records: WindowRecords,
    labels: Sequence[int | None],
    kept: npt.NDArray[np.int64],
) -> EvaluationTable:
    rows = records.table.take(pa.array(kept, pa.int64()))
    scores = records.scores[kept]
    return EvaluationTable.build(
        _leaves(records, kept),
        score=scores,
        native_score=scores.astype(np.float64),
        label=np.array([labels[row] for row in kept], np.int64),
        groups=attribute_groups(platform, model, platform.clock.now(), rows),
    )


def _slices(records: WindowRecords, kept: npt.NDArray[np.int64]) -> pa.Table:
    """Public categories only: a report is read by more people than the records are."""
    names = [item.name for item in records.contract.inputs if item.kind == "category" and item.public]
    columns: dict[str, Any] = {name: records.table.column(name) for name in names if name in records.table.column_names}
    taken = {name: column.take(pa.array(kept, pa.int64())) for name, column in columns.items()}
    return pa.table({**taken, "row_leaf": pa.array(_leaves(records, kept), pa.binary(32))})
