"""The verdicts of gates, from the evaluation table alone: who has table and context gets the same verdicts.

*pass*: the bound of the 95 % interval is beyond the threshold, on 20 positives or more. *fail*: the point is on the
wrong side, or the bound is not beyond it although there are 100 positives or more. Else *inconclusive*.
*not_evaluated*: there is no data. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np

from ml_platform.core.errors import DeclarationError, NotEnoughData
from ml_platform.stats import (
    Interval,
    auc_interval,
    brier_skill_interval,
    calibration_slope,
    ece_interval,
    paired_auc_difference,
)
from ml_platform.training.evaluation_table import EvaluationTable
from ml_platform.training.gates import ONNX_PARITY, Gate, OnInconclusive
from ml_platform.training.groups import GroupCounts, best_off, count_groups

__all__ = [
    "ENOUGH_POSITIVES",
    "LEAST_COVERAGE",
    "LEAST_POSITIVES",
    "BaselineRef",
    "GateContext",
    "Verdict",
    "VerdictText",
    "verdicts",
]

VerdictText = Literal["pass", "fail", "inconclusive", "not_evaluated"]

ENOUGH_POSITIVES: Final = 100
"""With so many positives, a bound that is not beyond the threshold is a failure and no lack of data."""
LEAST_POSITIVES: Final = 20
"""With fewer positives nothing passes: normal intervals are too narrow there (2 of 60 runs on shuffled outcomes, with 6
and 8 positives, had an AUC bound above 0.55)."""
LEAST_COVERAGE: Final = 0.5
"""Of the test rows, how many both versions must accept before they can be compared."""
_SEVERITY: Final[tuple[VerdictText, ...]] = ("pass", "inconclusive", "fail")


@dataclass(frozen=True)
class BaselineRef:
    """The production version that the candidate is compared with."""

    version: int
    artifact: str


@dataclass(frozen=True)
class GateContext:
    """What the verdicts depend on beside the table.

    Attributes:
        training_base_rate: share of positives of the training part.
        seed: of the bootstraps; see ``seed_of``.
        decision_above: the limit of the declared decision; None where the model only scores.
        baseline: production's version; None where there is none.
        unavailable: protected attributes that have no data here, with the written reason.
    """

    training_base_rate: float
    seed: int
    decision_above: float | None = None
    baseline: BaselineRef | None = None
    unavailable: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Verdict:
    """What a gate says.

    Attributes:
        gate: its name.
        kind: its kind.
        verdict: ``pass``, ``fail``, ``inconclusive`` or ``not_evaluated``.
        on_inconclusive: whether a person may decide an inconclusive one.
        metric: what was held against the threshold; None where it could not be measured.
        threshold: the declared one.
        reason: one sentence.
        also: further intervals that were looked at, by name.
    """

    gate: str
    kind: str
    verdict: VerdictText
    on_inconclusive: OnInconclusive
    metric: Interval | None
    threshold: float
    reason: str
    also: Mapping[str, Interval] = field(default_factory=dict, hash=False)

    def to_json(self) -> dict[str, Any]:
        return {
            "gate": self.gate,
            "kind": self.kind,
            "verdict": self.verdict,
            "on_inconclusive": self.on_inconclusive,
            "metric": None if self.metric is None else self.metric.to_json(),
            "threshold": self.threshold,
            "reason": self.reason,
            "also": {name: interval.to_json() for name, interval in self.also.items()},
        }


@dataclass(frozen=True)
class _Judged:
    verdict: VerdictText
    reason: str
    metric: Interval | None = None
    also: Mapping[str, Interval] = field(default_factory=dict)


def verdicts(gates: Sequence[Gate], table: EvaluationTable, context: GateContext) -> tuple[Verdict, ...]:
    """Judges the gates and ``onnx_parity``, which is always among them; by gate name.

    Raises:
        DeclarationError: two gates have one name, a gate needs a decision and there is none, or the table has scores
            of a baseline that the context does not name.
    """
    names = [gate.name for gate in gates]
    if len({*names, ONNX_PARITY.name}) != len(names) + 1:
        raise DeclarationError("Two gates have one name.", field="gates", next_step="Declare each gate once.")
    if context.baseline is None and not np.isnan(table.baseline_scores).all():
        raise DeclarationError(
            "There are scores of a baseline that is not named.",
            field="baseline",
            next_step="Name its version and artifact digest.",
        )
    ordered = sorted((*gates, ONNX_PARITY), key=lambda gate: gate.name)
    return tuple(_verdict(gate, table, context) for gate in ordered)


def _verdict(gate: Gate, table: EvaluationTable, context: GateContext) -> Verdict:
    try:
        judged = _JUDGES[gate.kind](gate, table, context)
    except NotEnoughData as error:
        judged = _Judged("inconclusive", error.what)
    return Verdict(
        gate=gate.name,
        kind=gate.kind,
        verdict=judged.verdict,
        on_inconclusive=gate.on_inconclusive,
        metric=judged.metric,
        threshold=gate.threshold,
        reason=judged.reason,
        also=judged.also,
    )


def _rule(*, beyond: bool, wrong_side: bool, positives: int) -> VerdictText:
    if beyond:
        return "pass" if positives >= LEAST_POSITIVES else "inconclusive"
    return "fail" if wrong_side or positives >= ENOUGH_POSITIVES else "inconclusive"


def _said(verdict: VerdictText, positives: int) -> str:
    return {
        "pass": "The bound is beyond the threshold.",
        "fail": f"The bound is not beyond the threshold, with {positives} positives.",
        "inconclusive": f"There are only {positives} positives, too few for the interval to decide.",
        "not_evaluated": "",
    }[verdict]


def _above(interval: Interval, threshold: float, positives: int, *, strict: bool = False) -> _Judged:
    """The rule for a metric that must be above a threshold; ``strict``: a point on it is on the wrong side."""
    wrong = interval.point <= threshold if strict else interval.point < threshold
    verdict = _rule(beyond=interval.low > threshold, wrong_side=wrong, positives=positives)
    reason = "The point itself is on the wrong side." if wrong else _said(verdict, positives)
    return _Judged(verdict, reason, interval)


def _at_least(gate: Gate, table: EvaluationTable, _: GateContext) -> _Judged:
    return _above(auc_interval(table.scores, table.labels), gate.threshold, table.positives)


def _brier_skill(gate: Gate, table: EvaluationTable, context: GateContext) -> _Judged:
    skill = brier_skill_interval(table.scores, table.labels, context.training_base_rate)
    return _above(skill, gate.threshold, table.positives, strict=True)


def _calibrated(gate: Gate, table: EvaluationTable, context: GateContext) -> _Judged:
    error = ece_interval(table.scores, table.labels, seed=context.seed)
    if np.ptp(table.scores) == 0:
        return _Judged("fail", "The score is the same for all rows, so it has no calibration slope.", error)
    slope = calibration_slope(table.scores, table.labels)
    wrong = error.point > gate.threshold
    verdict = _rule(
        beyond=error.high <= gate.threshold and slope.contains(1.0), wrong_side=wrong, positives=table.positives
    )
    reason = "The error itself is above the threshold." if wrong else _said(verdict, table.positives)
    if verdict != "pass" and not slope.contains(1.0):
        reason += " 1 is outside the slope's interval."
    return _Judged(verdict, reason, error, {"slope": slope})


def _not_worse(gate: Gate, table: EvaluationTable, context: GateContext) -> _Judged:
    if context.baseline is None:
        return _Judged("pass", "There is no baseline: no version is in production.")
    baseline = table.baseline_scores
    pair = ~np.isnan(baseline)
    coverage = np.count_nonzero(pair) / table.rows
    shared = f"Both versions accept {coverage:.1%} of the rows."
    if coverage < LEAST_COVERAGE:
        return _Judged("inconclusive", f"{shared} Fewer than half cannot speak for all.")
    labels = table.labels[pair]
    difference = paired_auc_difference(table.scores[pair], baseline[pair], labels)
    judged = _above(difference, -gate.threshold, int(np.count_nonzero(labels)))
    return _Judged(judged.verdict, f"{judged.reason} {shared}", difference)


def _group_ratio(gate: Gate, table: EvaluationTable, context: GateContext) -> _Judged:
    attribute = gate.by or ""
    if attribute not in table.attributes or all(group is None for group in table.group(attribute)):
        reason = context.unavailable.get(attribute)
        said = f"No data: {reason}" if reason else "No data, and no written reason why."
        return _Judged("not_evaluated", said)
    if context.decision_above is None:
        raise DeclarationError(
            "A gate on decisions needs a decision.", field=gate.name, next_step="Declare decision=Decline(…)."
        )
    groups = count_groups(table, attribute, table.scores > context.decision_above)
    reference = best_off(groups)
    others = [group for group in groups if group.gated and group is not reference]
    if reference is None or not others:
        return _Judged("inconclusive", "Fewer than two groups have the 100 rows that can be gated.")
    judged = {group.name: _against(group, reference, gate.threshold) for group in others}
    worst = max(judged, key=lambda name: (_SEVERITY.index(judged[name].verdict), -_low(judged[name]), name))
    reason = f"Lowest is {worst}, against {reference.name}. {judged[worst].reason}"
    also = {name: one.metric for name, one in judged.items() if one.metric is not None}
    return _Judged(judged[worst].verdict, reason, judged[worst].metric, also)


def _low(judged: _Judged) -> float:
    return judged.metric.low if judged.metric else 0.0


def _against(group: GroupCounts, reference: GroupCounts, threshold: float) -> _Judged:
    # The positives of an approval rate are approvals; the group that has fewer of them limits what can be known.
    return _above(group.approval_ratio(reference), threshold, min(group.approved, reference.approved))


def _parity(gate: Gate, table: EvaluationTable, _: GateContext) -> _Judged:
    largest = float(np.max(np.abs(table.scores - table.native_scores)))
    exact = Interval(largest, largest, largest, method="exact")
    if largest < gate.threshold:
        return _Judged("pass", f"The largest difference over {table.rows} rows is below the threshold.", exact)
    return _Judged("fail", "ONNX and native model disagree on a row.", exact)


_JUDGES: Final[dict[str, Callable[[Gate, EvaluationTable, GateContext], _Judged]]] = {
    "at_least": _at_least,
    "brier_skill": _brier_skill,
    "calibrated": _calibrated,
    "group_ratio": _group_ratio,
    "not_worse_than_production": _not_worse,
    "onnx_parity": _parity,
}
