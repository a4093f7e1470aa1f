"""Which finding wakes whom: the table of severities, as a pure function.

===============================================  ========
finding                                          severity
===============================================  ========
schema mismatch, null-rate spike                 P0
sliced accuracy drop on a protected group        P0
latency p99 regression                           P1
drift on a critical feature or of the score      P2
slow accuracy decay                              P3
===============================================  ========
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from ml_platform.monitoring.drift import DriftReport, Limits
from ml_platform.monitoring.performance import Comparison, PerformanceReport

__all__ = ["SEVERITY", "Judgement", "firing", "judge_drift", "judge_performance"]

Severity = Literal["P0", "P1", "P2", "P3"]

SEVERITY: Final[Mapping[str, Severity]] = {
    "schema": "P0",
    "null_rate": "P0",
    "group_accuracy": "P0",
    "latency_p99": "P1",
    "psi": "P2",
    "new_category": "P2",
    "score_psi": "P2",
    "accuracy": "P3",
}


@dataclass(frozen=True)
class Judgement:
    """What one rule says of one subject.

    Attributes:
        rule: a key of `SEVERITY`.
        subject: feature, protected attribute, or None for the whole.
        holds: whether there is something to raise; None where the window cannot tell, which raises and closes nothing.
        numbers: what it was judged on.
    """

    rule: str
    subject: str | None
    holds: bool | None
    numbers: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def severity(self) -> Severity:
        return SEVERITY[self.rule]

    def to_json(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "severity": self.severity,
            "subject": self.subject,
            "holds": self.holds,
            "numbers": dict(self.numbers),
        }


def judge_drift(report: DriftReport, limits: Limits | None = None) -> tuple[Judgement, ...]:
    """Schema, null rates of all features, shift and new categories of critical ones, and the score."""
    limits = limits or Limits()
    found = [_schema(report, limits)]
    for one in report.fields:
        nulls = {"reference": one.nulls.reference, "window": one.nulls.window, "effect": one.nulls.effect}
        found.append(Judgement("null_rate", one.name, one.nulls.spike, nulls))
        if one.critical:
            numbers = {"psi": one.shift.psi, "noise": one.shift.noise, "limit": limits.psi}
            found.append(Judgement("psi", one.name, one.shift.moved, numbers))
        if one.critical and one.kind == "category":
            new = {"categories": len(one.new), "rows": one.new_rows, "share": one.new_rows / report.rows}
            found.append(Judgement("new_category", one.name, one.new_rows >= limits.least_rows, new))
    if report.score.shift is not None:
        shift = report.score.shift
        numbers = {"psi": shift.psi, "noise": shift.noise, "limit": limits.psi}
        found.append(Judgement("score_psi", None, shift.moved, numbers))
    return tuple(found)


def _schema(report: DriftReport, limits: Limits) -> Judgement:
    # One client that writes nonsense is refused and recorded; nobody is woken for it.
    requests = report.rows + max(report.refused.values(), default=0)
    least = max(limits.least_rows, limits.schema_share * requests)
    numbers = {f"{one.field}:{one.rule}": one.rows for one in report.schema}
    return Judgement("schema", None, any(rows >= least for rows in numbers.values()), numbers)


def judge_performance(report: PerformanceReport) -> tuple[Judgement, ...]:
    """Accuracy of protected groups, latency, and the decay of the whole; None where there is too little to compare."""
    found = [_attribute(report, name) for name in sorted({one.attribute for one in report.groups})]
    if report.latency is not None:
        found.append(Judgement("latency_p99", None, *_worse(report.latency)))
    found.append(Judgement("accuracy", None, *_worse(report.accuracy)))
    return tuple(found)


def _attribute(report: PerformanceReport, attribute: str) -> Judgement:
    """One judgement an attribute: entries of the log name no groups, the evidence does."""
    compared = {
        one.group: one.accuracy for one in report.groups if one.attribute == attribute and one.accuracy is not None
    }
    holds = any(one.worse for one in compared.values()) if compared else None
    return Judgement("group_accuracy", attribute, holds, {group: one.to_json() for group, one in compared.items()})


def _worse(comparison: Comparison | None) -> tuple[bool | None, Mapping[str, Any]]:
    return (None, {}) if comparison is None else (comparison.worse, comparison.to_json())


def firing(judgements: Sequence[Judgement]) -> tuple[Judgement, ...]:
    """Those that hold, the gravest first."""
    return tuple(sorted((one for one in judgements if one.holds), key=lambda one: (one.severity, one.rule)))
