"""The evaluation of a candidate: metrics with intervals, slices, groups, calibration, comparison, verdicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.core.digests import canonical_json, sha256_hex
from ml_platform.core.errors import DataError, NotEnoughData, Tampered
from ml_platform.stats import (
    Interval,
    auc_interval,
    brier_skill_interval,
    calibration_intercept,
    calibration_slope,
    ece_interval,
    paired_auc_difference,
    reliability,
    wilson,
)
from ml_platform.training.absent import Absent
from ml_platform.training.evaluation_table import EvaluationTable
from ml_platform.training.gates import Gate
from ml_platform.training.groups import GroupCounts, best_off, count_groups
from ml_platform.training.verdict import BaselineRef, GateContext, Verdict, verdicts

__all__ = ["Evaluation", "EvaluationSubject", "evaluate", "recompute_verdicts", "seed_of"]

FORMAT: Final = "ml-platform/evaluation/1"
_SLICE_VALUES: Final = 10
_LEAST_SLICE_ROWS: Final = 10  # fewer would say too much about single people


@dataclass(frozen=True)
class EvaluationSubject:
    """What is evaluated: names and digests that end in the document."""

    model: str
    candidate: str
    as_of: str
    training_set: str
    run_record: str
    artifact: str


@dataclass(frozen=True)
class Evaluation:
    """An evaluation: its document, the bytes of its table, and the verdicts.

    ``document["table"]`` is the digest under which the object store holds ``table_bytes``.
    """

    document: Mapping[str, Any] = field(hash=False)
    table: EvaluationTable = field(repr=False)
    table_bytes: bytes = field(repr=False)
    verdicts: tuple[Verdict, ...]

    def to_bytes(self) -> bytes:
        return canonical_json(dict(self.document))

    @property
    def digest(self) -> str:
        """The digest under which the object store holds the document."""
        return sha256_hex(self.to_bytes())


def seed_of(digest: str) -> int:
    """The seed of everything random in an evaluation: the digest of the snapshot, as a number."""
    return int(digest.removeprefix("sha256:"), 16)


def evaluate(
    subject: EvaluationSubject,
    table: EvaluationTable,
    gates: Sequence[Gate],
    context: GateContext,
    *,
    slices: pa.Table | None = None,
    refused: Mapping[str, int] | None = None,
) -> Evaluation:
    """Measures and judges. The same arguments give the same document.

    Args:
        subject: what is evaluated.
        table: its rows.
        gates: the declared ones.
        context: see ``GateContext``.
        slices: ``row_leaf`` and text columns; the ten most frequent values of each are reported.
        refused: test rows that the candidate's contract refuses, by ``field:rule``; they are in no metric.

    Raises:
        DataError: a slice row is not in the table, or a score is no probability.
        DeclarationError: see ``verdicts``.
    """
    judged = verdicts(gates, table, context)
    raw = table.to_parquet()
    document = {
        "format": FORMAT,
        "model": subject.model,
        "candidate": subject.candidate,
        "as_of": subject.as_of,
        "training_set": subject.training_set,
        "run_record": subject.run_record,
        "artifact": subject.artifact,
        "table": sha256_hex(raw),
        "table_digest": table.digest,
        "rows": table.rows,
        "positives": table.positives,
        "refused": dict(refused or {}),
        "context": {
            "training_base_rate": context.training_base_rate,
            "decision_above": context.decision_above,
            "unavailable": dict(context.unavailable),
        },
        "metrics": _metrics(table, context),
        "calibration": _calibration(table),
        "slices": _slices(table, context, slices),
        "groups": {name: _groups(table, name, context) for name in table.attributes},
        "baseline": _baseline(table, context),
        "verdicts": [one.to_json() for one in judged],
    }
    return Evaluation(document, table, raw, judged)


def recompute_verdicts(spec: Mapping[str, Any], document: Mapping[str, Any], table_bytes: bytes) -> tuple[Verdict, ...]:
    """The verdicts again, from declaration and stored table, never from what the document claims they are.

    Gates and decision come from the declaration; base rate, reasons for missing data, baseline and the snapshot's
    digest from the evaluation document.

    Args:
        spec: the model's canonical declaration, with ``gates`` and ``decision``.
        document: the evaluation document.
        table_bytes: what is stored under ``document["table"]``.

    Raises:
        Tampered: the table or a field that is needed is not what it must be.
    """
    table = EvaluationTable.from_parquet(table_bytes)
    if sha256_hex(table_bytes) != document.get("table") or table.digest != document.get("table_digest"):
        raise _forged("table")
    try:
        context, baseline, decision = document["context"], document["baseline"], spec.get("decision")
        known = GateContext(
            training_base_rate=float(context["training_base_rate"]),
            seed=seed_of(document["training_set"]),
            decision_above=None if decision is None else float(decision["above"]),
            baseline=None if baseline is None else BaselineRef(int(baseline["version"]), str(baseline["artifact"])),
            unavailable={str(name): str(reason) for name, reason in context["unavailable"].items()},
        )
        gates = [Gate.from_spec(gate) for gate in spec["gates"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _forged("context") from error
    return verdicts(gates, table, known)


def _forged(name: str) -> Tampered:
    return Tampered(
        "The evaluation document and what it names do not fit together.",
        field=name,
        next_step="Evaluate the candidate again.",
    )


def _measured(measure: Callable[[], Interval]) -> dict[str, Any]:
    """An interval, or why there is none."""
    try:
        return measure().to_json()
    except NotEnoughData as error:
        return Absent(error.what).to_json()


def _metrics(table: EvaluationTable, context: GateContext) -> dict[str, Any]:
    scores, labels = table.scores, table.labels
    return {
        "auc": _measured(lambda: auc_interval(scores, labels)),
        "brier_skill": _measured(lambda: brier_skill_interval(scores, labels, context.training_base_rate)),
        "ece": _measured(lambda: ece_interval(scores, labels, seed=context.seed)),
        "calibration_slope": _measured(lambda: calibration_slope(scores, labels)),
        "calibration_intercept": _measured(lambda: calibration_intercept(scores, labels)),
        "positive_rate": wilson(table.positives, table.rows).to_json(),
        "approval_rate": _approval_rate(scores, context),
        "largest_onnx_difference": float(np.max(np.abs(scores - table.native_scores))),
    }


def _approval_rate(scores: npt.NDArray[np.float64], context: GateContext) -> dict[str, Any]:
    limit = context.decision_above
    if limit is None:
        return Absent("The model declares no decision.").to_json()
    return wilson(int(np.count_nonzero(scores <= limit)), scores.size).to_json()


def _calibration(table: EvaluationTable) -> list[dict[str, Any]]:
    bins = reliability(table.scores, table.labels)
    return [
        {"mean_probability": mean, "observed": observed, "rows": rows}
        for mean, observed, rows in zip(bins.mean_probability, bins.observed, bins.count, strict=True)
    ]


def _slices(table: EvaluationTable, context: GateContext, slices: pa.Table | None) -> list[dict[str, Any]]:
    if slices is None:
        return []
    leaves = table.table.column("row_leaf").cast(pa.binary())
    places: Any = pc.index_in(leaves, value_set=slices.column("row_leaf").cast(pa.binary()).combine_chunks())
    if places.null_count:
        raise DataError("A row has no slice values.", field="slices", next_step="Pass slice values of all rows.")
    rows = slices.take(places.combine_chunks())
    found: list[dict[str, Any]] = []
    for name in rows.column_names:
        if name != "row_leaf":
            found += _slices_of(name, np.array(rows.column(name).to_pylist(), object), table, context)
    return found


def _slices_of(
    name: str, values: npt.NDArray[np.object_], table: EvaluationTable, context: GateContext
) -> list[dict[str, Any]]:
    present = [value for value in values if value is not None]
    distinct, counts = np.unique(np.array(present, str), return_counts=True)
    frequent = sorted(zip(distinct.tolist(), counts.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))
    found = []
    for value, count in frequent[:_SLICE_VALUES]:
        if count >= _LEAST_SLICE_ROWS:
            inside = values == value
            scores, labels = table.scores[inside], table.labels[inside]
            measured = _slice(scores, labels, context)
            found.append({"feature": name, "value": value, "rows": int(count), **measured})
    return found


def _slice(scores: npt.NDArray[np.float64], labels: npt.NDArray[np.float64], context: GateContext) -> dict[str, Any]:
    return {
        "positives": int(np.count_nonzero(labels)),
        "auc": _measured(lambda: auc_interval(scores, labels)),
        "mean_score": float(np.sort(scores).sum()) / scores.size,
        "positive_rate": wilson(int(np.count_nonzero(labels)), labels.size).to_json(),
        "approval_rate": _approval_rate(scores, context),
    }


def _groups(table: EvaluationTable, attribute: str, context: GateContext) -> dict[str, Any]:
    if context.decision_above is None:
        return Absent("The model declares no decision.").to_json()
    groups = count_groups(table, attribute, table.scores > context.decision_above)
    reference = best_off(groups)
    return {
        "reference": Absent("No group has 100 rows.").to_json() if reference is None else reference.name,
        "rows_without_group": table.rows - sum(group.rows for group in groups),
        "groups": [_group(group, reference) for group in groups],
    }


def _group(group: GroupCounts, reference: GroupCounts | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "group": group.name,
        "rows": group.rows,
        "positives": group.positives,
        "gated": group.gated,
        "approval_rate": wilson(group.approved, group.rows).to_json(),
    }
    if reference is not None and group is not reference:
        found["approval_ratio"] = _measured(lambda: group.approval_ratio(reference))
        found["true_positive_gap"] = _measured(lambda: group.true_positive_gap(reference))
        found["false_positive_gap"] = _measured(lambda: group.false_positive_gap(reference))
    return found


def _baseline(table: EvaluationTable, context: GateContext) -> dict[str, Any] | None:
    if context.baseline is None:
        return None
    scores = table.baseline_scores
    pair = ~np.isnan(scores)
    return {
        "version": context.baseline.version,
        "artifact": context.baseline.artifact,
        "rows": int(np.count_nonzero(pair)),
        "coverage": np.count_nonzero(pair) / table.rows,
        "auc": _measured(lambda: auc_interval(scores[pair], table.labels[pair])),
        "auc_difference": _measured(
            lambda: paired_auc_difference(table.scores[pair], scores[pair], table.labels[pair])
        ),
    }
