"""How a version does on matured labels and in time, beside what its evaluation said when it was registered: pure.

The rows are decisions of record of the version that decided, one an entity, whose labels have matured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml_platform.core.errors import DataError, NotEnoughData
from ml_platform.stats import (
    Interval,
    auc_interval,
    brier,
    interval_difference,
    interval_ratio,
    quantile_interval,
    rate_difference,
)
from ml_platform.training import EvaluationSubject, EvaluationTable, GateContext, evaluate
from ml_platform.training.groups import LEAST_GROUP_ROWS

__all__ = ["Comparison", "GroupAccuracy", "Harm", "PerformanceReport", "compare_latency", "measure_performance"]

QUANTILES: Final = (0.5, 0.95, 0.99)


@dataclass(frozen=True)
class Harm:
    """How much worse is worth an alert; beside it the interval must exclude "no worse".

    Args:
        auc: drop of the AUC.
        accuracy: drop of the share decided right in a protected group.
        latency: ratio of the 99th percentiles.
    """

    auc: float = 0.02
    accuracy: float = 0.05
    latency: float = 1.25


@dataclass(frozen=True)
class Comparison:
    """A number now and then. ``worse``: by more than the harm, and the interval excludes no change."""

    now: float
    then: float
    change: Interval
    worse: bool

    def to_json(self) -> dict[str, Any]:
        return {"now": self.now, "then": self.then, "change": self.change.to_json(), "worse": self.worse}


@dataclass(frozen=True)
class GroupAccuracy:
    """The share decided right in a group of a protected attribute; None below 100 rows on a side."""

    attribute: str
    group: str
    rows: int
    accuracy: Comparison | None


@dataclass(frozen=True)
class PerformanceReport:
    """One version in one window.

    Attributes:
        rows: decisions with a matured label.
        waiting: decisions whose label is not mature yet.
        measured: metrics, calibration, slices and groups as an evaluation holds them; None without mature labels.
        accuracy: AUC against the evaluation; None where a side has one class only.
        groups: protected groups against the evaluation.
        latency_us: p50, p95, p99 of what it answered online.
        latency: p99 against the window before.
    """

    rows: int
    waiting: int
    measured: Mapping[str, Any] | None = field(hash=False)
    accuracy: Comparison | None
    groups: tuple[GroupAccuracy, ...]
    latency_us: Mapping[str, float] = field(hash=False)
    latency: Comparison | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "waiting": self.waiting,
            "measured": None if self.measured is None else dict(self.measured),
            "accuracy": None if self.accuracy is None else self.accuracy.to_json(),
            "groups": [
                {
                    "attribute": one.attribute,
                    "group": one.group,
                    "rows": one.rows,
                    "accuracy": None if one.accuracy is None else one.accuracy.to_json(),
                }
                for one in self.groups
            ],
            "latency_us": dict(self.latency_us),
            "latency": None if self.latency is None else self.latency.to_json(),
        }


def measure_performance(
    table: EvaluationTable | None,
    registered: EvaluationTable,
    context: GateContext,
    *,
    waiting: int = 0,
    slices: pa.Table | None = None,
    latency_us: npt.NDArray[np.int64] | None = None,
    latency_before_us: npt.NDArray[np.int64] | None = None,
    harm: Harm | None = None,
) -> PerformanceReport:
    """Measures a window.

    Args:
        table: decisions with matured labels, one an entity; None where there are none.
        registered: the table of the version's evaluation.
        context: base rate, decision and seed.
        waiting: decisions without a mature label.
        slices: ``row_leaf`` and text columns.
        latency_us: of the window's online answers.
        latency_before_us: of the window before.
        harm: how much worse is worth an alert.
    """
    harm = harm or Harm()
    none: npt.NDArray[np.int64] = np.empty(0, np.int64)
    now_us, before_us = (none if one is None else one for one in (latency_us, latency_before_us))
    return PerformanceReport(
        rows=0 if table is None else table.rows,
        waiting=waiting,
        measured=None if table is None else _measured(table, context, slices),
        accuracy=None if table is None else _decay(table, registered, harm),
        groups=() if table is None else _groups(table, registered, context, harm),
        latency_us={f"p{q * 100:g}": float(np.quantile(now_us, q)) for q in QUANTILES} if len(now_us) else {},
        latency=compare_latency(now_us, before_us, harm),
    )


def compare_latency(
    now_us: npt.NDArray[np.int64], before_us: npt.NDArray[np.int64], harm: Harm | None = None
) -> Comparison | None:
    """The ratio of the 99th percentiles; None where one of them has no interval (some hundreds of answers)."""
    harm = harm or Harm()
    try:
        now, then = (quantile_interval(one, 0.99) for one in (now_us, before_us))
        ratio = interval_ratio(now, then)
    except (NotEnoughData, DataError):
        return None
    return Comparison(now.point, then.point, ratio, ratio.point >= harm.latency and ratio.low > 1)


def _measured(table: EvaluationTable, context: GateContext, slices: pa.Table | None) -> dict[str, Any]:
    """The same figures that an evaluation holds, by the same code."""
    subject = EvaluationSubject(model="", candidate="", as_of="", training_set="", run_record="", artifact="")
    document = evaluate(subject, table, (), context, slices=slices).document
    kept = ("rows", "positives", "metrics", "calibration", "slices", "groups")
    figures = {name: document[name] for name in kept}
    return figures | {"brier": brier(table.scores, table.labels)}


def _decay(table: EvaluationTable, registered: EvaluationTable, harm: Harm) -> Comparison | None:
    try:
        now, then = (auc_interval(one.scores, one.labels) for one in (table, registered))
    except NotEnoughData:
        return None
    change = interval_difference(now, then)
    return Comparison(now.point, then.point, change, change.point <= -harm.auc and change.high < 0)


def _groups(
    table: EvaluationTable, registered: EvaluationTable, context: GateContext, harm: Harm
) -> tuple[GroupAccuracy, ...]:
    if context.decision_above is None:
        return ()
    pairs = [
        (attribute, group)
        for attribute in table.attributes
        if attribute in registered.attributes
        for group in _names(table.group(attribute))
    ]
    level = 1 - 0.05 / max(1, len(pairs))  # Bonferroni: many groups must not find one by chance
    return tuple(_group(table, registered, context.decision_above, pair, harm, level) for pair in pairs)


def _names(groups: Sequence[Any] | npt.NDArray[np.object_]) -> list[str]:
    return sorted({str(group) for group in groups if group is not None})


def _group(
    table: EvaluationTable, registered: EvaluationTable, above: float, pair: tuple[str, str], harm: Harm, level: float
) -> GroupAccuracy:
    attribute, group = pair
    (right_now, rows_now), (right_then, rows_then) = (
        _right(one, attribute, group, above) for one in (table, registered)
    )
    if min(rows_now, rows_then) < LEAST_GROUP_ROWS:
        return GroupAccuracy(attribute, group, rows_now, None)
    change = rate_difference(right_now, rows_now, right_then, rows_then, level=level)
    worse = change.point <= -harm.accuracy and change.high < 0
    compared = Comparison(right_now / rows_now, right_then / rows_then, change, worse)
    return GroupAccuracy(attribute, group, rows_now, compared)


def _right(table: EvaluationTable, attribute: str, group: str, above: float) -> tuple[int, int]:
    """(rows decided as their outcome turned out, rows) of a group."""
    inside = table.group(attribute) == group
    right = (table.scores > above) == (table.labels == 1)
    return int(np.count_nonzero(inside & right)), int(np.count_nonzero(inside))
