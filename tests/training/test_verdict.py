"""Each comparison of the rules, at its edge."""

from __future__ import annotations

import numpy as np
import pytest

from ml_platform.core.errors import DeclarationError
from ml_platform.stats import Interval
from ml_platform.training import verdict as module
from ml_platform.training.gates import (
    at_least,
    brier_skill,
    calibrated,
    group_ratio,
    not_worse_than_production,
)
from ml_platform.training.verdict import BaselineRef, verdicts
from tests.training.cases import calibrated_scores, context, evaluation_table

PRODUCTION = BaselineRef(3, "sha256:" + "0" * 64)
AUC = at_least("auc", 0.55)


def judge(gate, table, **changes):
    return next(one for one in verdicts([gate], table, context(**changes)) if one.gate == gate.name)


def table_with(positives: int, rows: int = 400):
    """Any table with so many positives; the measure itself is replaced by the tests."""
    return evaluation_table(np.linspace(0.1, 0.9, rows), np.arange(rows) < positives)


def interval(point: float, low: float, high: float = 1.0) -> Interval:
    return Interval(point, low, high, method="test")


UP = np.nextafter(0.55, 1)
DOWN = np.nextafter(0.55, 0)


@pytest.mark.parametrize(
    ("point", "low", "positives", "expected"),
    [
        (0.7, UP, 20, "pass"),
        (0.7, 0.55, 99, "inconclusive"),  # the bound on the threshold is not beyond it
        (0.7, 0.55, 100, "fail"),
        (0.7, 0.50, 99, "inconclusive"),
        (0.7, 0.50, 100, "fail"),
        (0.55, 0.50, 99, "inconclusive"),  # the point on the threshold is on no wrong side
        (DOWN, 0.50, 99, "fail"),
        (DOWN, 0.50, 100, "fail"),
    ],
)
def test_auc_passes_on_its_bound_fails_on_its_point_or_with_enough_positives(
    monkeypatch, point, low, positives, expected
):
    monkeypatch.setattr(module, "auc_interval", lambda scores, labels: interval(point, low))
    found = judge(AUC, table_with(positives))
    assert found.verdict == expected
    assert found.metric == interval(point, low)
    assert found.threshold == 0.55


@pytest.mark.parametrize(
    ("point", "low", "positives", "expected"),
    [
        (0.1, 1e-9, 20, "pass"),
        (0.1, 0.0, 99, "inconclusive"),
        (0.1, 0.0, 100, "fail"),
        (1e-9, -0.1, 99, "inconclusive"),
        (0.0, 0.0, 99, "fail"),  # saying the base rate is no skill
        (-0.1, -0.2, 99, "fail"),
    ],
)
def test_skill_must_be_above_and_not_at_the_threshold(monkeypatch, point, low, positives, expected):
    monkeypatch.setattr(module, "brier_skill_interval", lambda scores, labels, rate: interval(point, low))
    assert judge(brier_skill(), table_with(positives)).verdict == expected


def test_skill_is_against_the_training_base_rate(monkeypatch):
    seen = []
    monkeypatch.setattr(
        module, "brier_skill_interval", lambda scores, labels, rate: seen.append(rate) or interval(0.2, 0.1)
    )
    judge(brier_skill(), table_with(50), training_base_rate=0.123)
    assert seen == [0.123]


@pytest.mark.parametrize(
    ("error", "high", "slope", "positives", "expected"),
    [
        (0.01, 0.02, (0.9, 1.1), 20, "pass"),  # at most: the threshold itself passes
        (0.01, 0.02, (1.0, 1.1), 20, "pass"),
        (0.01, 0.02, (0.9, 1.0), 20, "pass"),
        (0.01, np.nextafter(0.02, 1), (0.9, 1.1), 99, "inconclusive"),
        (0.01, np.nextafter(0.02, 1), (0.9, 1.1), 100, "fail"),
        (0.02, 0.03, (0.9, 1.1), 99, "inconclusive"),
        (np.nextafter(0.02, 1), 0.03, (0.9, 1.1), 99, "fail"),
        (0.01, 0.02, (np.nextafter(1.0, 2), 1.1), 99, "inconclusive"),
        (0.01, 0.02, (0.8, np.nextafter(1.0, 0)), 99, "inconclusive"),
        (0.01, 0.02, (0.8, np.nextafter(1.0, 0)), 100, "fail"),
    ],
)
def test_calibration_needs_a_small_error_and_one_within_the_slope(monkeypatch, error, high, slope, positives, expected):
    low, top = slope
    monkeypatch.setattr(module, "ece_interval", lambda scores, labels, seed: interval(error, 0.0, high))
    monkeypatch.setattr(module, "calibration_slope", lambda scores, labels: interval((low + top) / 2, low, top))
    found = judge(calibrated(), table_with(positives))
    assert found.verdict == expected
    assert found.also["slope"].low == low
    assert ("outside" in found.reason) == (not low <= 1 <= top)


def test_the_bootstrap_gets_the_seed_of_the_context(monkeypatch):
    seen = []
    monkeypatch.setattr(
        module, "ece_interval", lambda scores, labels, seed: seen.append(seed) or interval(0.01, 0.0, 0.02)
    )
    judge(calibrated(), table_with(50), seed=2**255 + 1)
    assert seen == [2**255 + 1]


@pytest.mark.parametrize("constant", [0.15, 0.14, 0.5])
def test_a_constant_predictor_fails(constant):
    random = np.random.default_rng(0)
    labels = (random.random(3_000) < 0.15).astype(int)
    table = evaluation_table(np.full(3_000, constant), labels)
    assert judge(calibrated(), table).verdict == "fail"
    assert judge(brier_skill(), table, training_base_rate=float(np.float32(0.15))).verdict == "fail"
    assert judge(AUC, table).verdict == "fail"


def test_a_calibrated_predictor_passes_and_an_overconfident_one_fails():
    scores, labels = calibrated_scores(20_000, seed=1)
    assert judge(calibrated(), evaluation_table(scores, labels)).verdict == "pass"
    logit = np.log(scores / (1 - scores))
    too_sure = 1 / (1 + np.exp(-(2 * logit + 2)))
    assert judge(calibrated(), evaluation_table(too_sure, labels)).verdict == "fail"


@pytest.mark.parametrize("seed", range(20))
def test_shuffled_labels_never_pass_auc_by_its_bound(seed):
    """With few positives the point often passes 0.55; the bound must not."""
    random = np.random.default_rng(seed)
    scores, labels = calibrated_scores(1_000, seed=seed, rate=-3.3)
    assert judge(AUC, evaluation_table(scores, random.permutation(labels))).verdict in {"fail", "inconclusive"}


def test_one_class_is_inconclusive():
    for gate in (AUC, calibrated(), brier_skill()):
        assert judge(gate, evaluation_table([0.1, 0.2, 0.3], [0, 0, 0])).verdict == "inconclusive"


# --- comparison with production ---------------------------------------------------------------------------------


def pair(rows: int = 400, accepted: int = 400, positives: int = 150):
    scores = np.linspace(0.1, 0.9, rows)
    baseline = np.where(np.arange(rows) < accepted, scores, np.nan)
    labels = np.arange(rows) % rows < positives
    return evaluation_table(scores, labels, baseline=baseline)


NOT_WORSE = not_worse_than_production("auc", by=0.03)


def test_without_a_production_version_there_is_nothing_to_be_worse_than():
    found = judge(NOT_WORSE, table_with(50))
    assert found.verdict == "pass"
    assert "no version is in production" in found.reason
    assert found.metric is None


@pytest.mark.parametrize(
    ("point", "low", "positives", "expected"),
    [
        (0.0, np.nextafter(-0.03, 1), 20, "pass"),
        (0.0, -0.03, 99, "inconclusive"),
        (0.0, -0.03, 100, "fail"),
        (-0.03, -0.1, 99, "inconclusive"),
        (np.nextafter(-0.03, -1), -0.1, 99, "fail"),
    ],
)
def test_a_candidate_may_be_less_than_the_margin_worse(monkeypatch, point, low, positives, expected):
    monkeypatch.setattr(module, "paired_auc_difference", lambda a, b, labels: interval(point, low))
    assert judge(NOT_WORSE, pair(positives=positives), baseline=PRODUCTION).verdict == expected


@pytest.mark.parametrize(("accepted", "expected"), [(200, "pass"), (199, "inconclusive")])
def test_under_half_the_rows_cannot_be_compared(monkeypatch, accepted, expected):
    monkeypatch.setattr(module, "paired_auc_difference", lambda a, b, labels: interval(0.1, 0.0))
    found = judge(NOT_WORSE, pair(accepted=accepted), baseline=PRODUCTION)
    assert found.verdict == expected
    assert f"{accepted / 4:.1f}%" in found.reason


def test_only_rows_that_both_accept_are_compared(monkeypatch):
    seen = {}

    def difference(ours, theirs, labels):
        seen.update(ours=ours, theirs=theirs, labels=labels)
        return interval(0.1, 0.0)

    monkeypatch.setattr(module, "paired_auc_difference", difference)
    judge(NOT_WORSE, pair(accepted=300), baseline=PRODUCTION)
    assert len(seen["ours"]) == 300
    np.testing.assert_array_equal(seen["ours"], seen["theirs"])


def test_positives_of_the_pair_decide_whether_there_are_enough(monkeypatch):
    monkeypatch.setattr(module, "paired_auc_difference", lambda a, b, labels: interval(0.0, -0.1))
    rows = np.arange(400)
    scores = np.linspace(0.1, 0.9, 400)
    labels = rows >= 250  # 150 positives, 99 of them in the pair
    table = evaluation_table(scores, labels, baseline=np.where(rows < 349, scores, np.nan))
    assert judge(NOT_WORSE, table, baseline=PRODUCTION).verdict == "inconclusive"


def test_the_same_model_is_not_worse_and_a_random_one_is():
    scores, labels = calibrated_scores(4_000, seed=3)
    assert judge(NOT_WORSE, evaluation_table(scores, labels, baseline=scores), baseline=PRODUCTION).verdict == "pass"
    noise = np.random.default_rng(0).random(4_000)
    assert judge(NOT_WORSE, evaluation_table(noise, labels, baseline=scores), baseline=PRODUCTION).verdict == "fail"


def test_scores_of_a_baseline_that_nobody_names_are_refused():
    with pytest.raises(DeclarationError, match="baseline"):
        judge(NOT_WORSE, pair())


# --- groups -----------------------------------------------------------------------------------------------------

RATIO = group_ratio("approval_rate", by="applicant_group", at_least=0.8)


def groups(**approved_of: tuple[int, int]):
    """``name=(approved, rows)``; every second row is a positive."""
    names, scores = [], []
    for name, (approved, rows) in approved_of.items():
        names += [name] * rows
        scores += [0.2] * approved + [0.8] * (rows - approved)
    return evaluation_table(scores, np.arange(len(names)) % 2, groups={"applicant_group": names})


def test_equal_groups_pass_and_a_disadvantaged_one_fails():
    assert judge(RATIO, groups(a=(900, 1000), b=(890, 1000))).verdict == "pass"
    found = judge(RATIO, groups(a=(900, 1000), b=(600, 1000)))
    assert found.verdict == "fail"
    assert found.metric.point == pytest.approx(600 / 900)
    assert "Lowest is b, against a" in found.reason


@pytest.mark.parametrize(
    ("point", "low", "approved", "expected"),
    [
        (0.9, np.nextafter(0.8, 1), 50, "pass"),
        (0.9, 0.8, 99, "inconclusive"),
        (0.9, 0.8, 100, "fail"),
        (0.8, 0.7, 99, "inconclusive"),
        (np.nextafter(0.8, 0), 0.7, 50, "fail"),
    ],
)
def test_the_ratio_passes_on_its_bound(monkeypatch, point, low, approved, expected):
    from ml_platform.training.groups import GroupCounts

    monkeypatch.setattr(GroupCounts, "approval_ratio", lambda self, reference: interval(point, low))
    assert judge(RATIO, groups(a=(1000, 1000), b=(approved, 200))).verdict == expected


def test_an_approval_is_a_score_at_or_below_the_limit():
    names = ["a"] * 200 + ["b"] * 200
    scores = [0.5] * 200 + [np.nextafter(np.float32(0.5), np.float32(1))] * 200
    table = evaluation_table(scores, np.arange(400) % 2, groups={"applicant_group": names})
    found = judge(RATIO, table, decision_above=0.5)
    assert found.verdict == "fail"
    assert found.metric.point == 0.0


@pytest.mark.parametrize(("rows", "expected"), [(100, "fail"), (99, "inconclusive")])
def test_a_group_under_a_hundred_rows_is_not_gated(rows, expected):
    assert judge(RATIO, groups(a=(900, 1000), b=(10, rows))).verdict == expected


def test_a_small_group_does_not_become_the_reference():
    found = judge(RATIO, groups(a=(500, 1000), b=(490, 1000), c=(99, 99)))
    assert found.verdict == "pass"
    assert "against a" in found.reason
    assert set(found.also) == {"b"}


def test_the_worst_group_decides():
    found = judge(RATIO, groups(a=(900, 1000), b=(890, 1000), c=(500, 1000), d=(850, 1000)))
    assert found.verdict == "fail"
    assert "Lowest is c" in found.reason
    assert set(found.also) == {"b", "c", "d"}


def test_nobody_approved_is_inconclusive():
    assert judge(RATIO, groups(a=(0, 200), b=(0, 200))).verdict == "inconclusive"


def test_rows_without_a_group_are_left_out():
    table = groups(a=(900, 1000), b=(890, 1000))
    names = [name if place % 10 else None for place, name in enumerate(table.group("applicant_group"))]
    other = evaluation_table(table.scores, table.labels.astype(int), groups={"applicant_group": names})
    assert judge(RATIO, other).verdict == "pass"


def test_an_attribute_without_data_is_not_evaluated_and_says_why():
    plain = table_with(50)
    found = judge(RATIO, plain, unavailable={"applicant_group": "The public records have none."})
    assert (found.verdict, found.reason) == ("not_evaluated", "No data: The public records have none.")
    assert judge(RATIO, plain).reason == "No data, and no written reason why."
    empty = evaluation_table([0.1, 0.9], [0, 1], groups={"applicant_group": [None, None]})
    assert judge(RATIO, empty).verdict == "not_evaluated"


def test_data_is_judged_even_where_it_was_said_to_be_unavailable():
    table = groups(a=(900, 1000), b=(600, 1000))
    assert judge(RATIO, table, unavailable={"applicant_group": "None here."}).verdict == "fail"


def test_a_gate_on_decisions_needs_a_decision():
    with pytest.raises(DeclarationError, match="decision"):
        judge(RATIO, groups(a=(900, 1000), b=(600, 1000)), decision_above=None)


# --- parity and the list ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("difference", "expected"), [(0.0, "pass"), (9.9e-7, "pass"), (1e-6, "fail"), (1e-3, "fail")])
@pytest.mark.parametrize("sign", [-1, 1])
def test_one_row_with_another_score_breaks_parity(difference, expected, sign):
    scores = np.full(300, 0.0, np.float32)
    native = scores.astype(np.float64)
    native[17] += sign * difference
    table = evaluation_table(scores, np.arange(300) % 2, native=native)
    found = verdicts([], table, context())
    assert [(one.gate, one.verdict) for one in found] == [("onnx_parity", expected)]
    assert found[0].metric.point == difference


def test_verdicts_stand_by_name_whatever_the_order_of_the_declaration():
    table = table_with(50)
    gates = [brier_skill(), AUC, calibrated(on_inconclusive="ask")]
    found = verdicts(gates, table, context())
    assert [one.gate for one in found] == ["at_least.auc", "brier_skill", "calibrated", "onnx_parity"]
    assert found == verdicts(gates[::-1], table, context())
    assert [one.on_inconclusive for one in found] == ["refuse", "refuse", "ask", "refuse"]
    assert [one.kind for one in found] == ["at_least", "brier_skill", "calibrated", "onnx_parity"]


def test_a_verdict_in_json_has_its_interval_or_null():
    measured, unmeasured = judge(AUC, table_with(50)), judge(NOT_WORSE, table_with(50))
    assert Interval.from_json(measured.to_json()["metric"]) == measured.metric
    assert unmeasured.to_json()["metric"] is None


def test_two_gates_of_one_name_are_refused():
    with pytest.raises(DeclarationError, match="one name"):
        verdicts([AUC, at_least("auc", 0.6)], table_with(50), context())


def test_the_order_of_rows_changes_no_verdict():
    from ml_platform.training.evaluation_table import EvaluationTable
    from tests.training.cases import leaf

    scores, labels = calibrated_scores(500, seed=5)
    order = np.random.default_rng(1).permutation(500)
    tables = [
        EvaluationTable.build(
            [leaf(row) for row in rows], score=scores[rows], native_score=scores[rows], label=labels[rows]
        )
        for rows in (np.arange(500), order)
    ]
    gates = [AUC, calibrated(), brier_skill()]
    assert verdicts(gates, tables[0], context()) == verdicts(gates, tables[1], context())
    assert tables[0].digest == tables[1].digest


@pytest.mark.parametrize(("positives", "expected"), [(19, "inconclusive"), (20, "pass")])
def test_with_fewer_than_twenty_positives_nothing_passes(monkeypatch, positives, expected):
    monkeypatch.setattr(module, "auc_interval", lambda scores, labels: interval(0.9, 0.8))
    assert judge(AUC, table_with(positives)).verdict == expected
