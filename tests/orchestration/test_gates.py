from __future__ import annotations

import dagster as dg
import pytest

from assets.credit_risk import credit_risk
from ml_platform.orchestration.gates import check_name, check_result, check_results, gate_specs
from ml_platform.stats import Interval
from ml_platform.training import ONNX_PARITY, Verdict

KEY = dg.AssetKey(["credit_risk", "evaluation"])
WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR


def verdict(text: str, *, gate: str = "calibrated", asks: bool = False, metric: Interval | None = None) -> Verdict:
    return Verdict(
        gate=gate,
        kind=gate.split(".", maxsplit=1)[0],
        verdict=text,
        on_inconclusive="ask" if asks else "refuse",
        metric=metric,
        threshold=0.02,
        reason="There are only 40 positives.",
    )


@pytest.mark.parametrize(
    ("text", "asks", "excused", "passed", "severity"),
    [
        ("pass", False, False, True, ERROR),
        ("fail", False, False, False, ERROR),
        ("fail", True, True, False, ERROR),
        ("inconclusive", False, False, False, ERROR),
        ("inconclusive", False, True, False, ERROR),
        ("inconclusive", True, False, False, WARN),
        ("not_evaluated", False, False, False, ERROR),
        ("not_evaluated", True, False, False, ERROR),
        ("not_evaluated", False, True, False, WARN),
    ],
)
def test_a_check_is_red_exactly_where_the_registry_refuses(
    text: str, asks: bool, excused: bool, passed: bool, severity: dg.AssetCheckSeverity
) -> None:
    result = check_result(KEY, verdict(text, asks=asks), excused=excused)
    assert result.passed is passed
    if not passed:
        assert result.severity is severity


def test_a_check_shows_interval_threshold_verdict_and_reason() -> None:
    metric = Interval(0.03, 0.01, 0.05, method="bootstrap")
    result = check_result(KEY, verdict("inconclusive", metric=metric), excused=False)
    facts = {name: value.value for name, value in result.metadata.items()}
    assert facts["ml/verdict"] == "inconclusive"
    assert (facts["ml/point"], facts["ml/low"], facts["ml/high"], facts["ml/threshold"]) == (0.03, 0.01, 0.05, 0.02)
    assert facts["ml/reason"] == "There are only 40 positives."
    assert facts["ml/on_inconclusive"] == "refuse"
    assert facts["ml/interval"]["method"] == "bootstrap"
    assert result.description == "Inconclusive. There are only 40 positives."


def test_a_gate_that_was_not_measured_shows_no_number() -> None:
    result = check_result(KEY, verdict("not_evaluated"), excused=True)
    assert "ml/point" not in result.metadata


def test_only_a_written_reason_excuses_a_missing_attribute() -> None:
    gate = "group_ratio.approval_rate.applicant_group"
    missing = [verdict("not_evaluated", gate=gate)]
    (red,) = check_results(credit_risk, missing, {})
    (other,) = check_results(credit_risk, missing, {"gender": "not collected"})
    (excused,) = check_results(credit_risk, missing, {"applicant_group": "not collected"})
    assert (red.severity, other.severity, excused.severity) == (ERROR, ERROR, WARN)


def test_each_result_bears_the_name_of_its_check() -> None:
    names = {gate.name for gate in (*credit_risk.gates, ONNX_PARITY)}
    declared = {spec.name for spec in gate_specs(credit_risk)}
    results = check_results(credit_risk, [verdict("pass", gate=name) for name in names], {})
    assert {result.check_name for result in results} == declared
    assert len(declared) == len(names)


def test_names_are_what_dagster_takes() -> None:
    assert check_name("group_ratio.approval_rate.applicant_group") == "group_ratio_approval_rate_applicant_group"
    assert check_name("onnx_parity") == "onnx_parity"
