from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from ml_platform.core.digests import canonical_json
from ml_platform.monitoring.performance import Harm, compare_latency, measure_performance
from ml_platform.stats import auc, brier
from ml_platform.training import EvaluationTable, GateContext

CONTEXT = GateContext(training_base_rate=0.2, seed=1, decision_above=0.3)


def leaves(n, start=0):
    return [(start + row).to_bytes(32, "big") for row in range(n)]


def table(n=2_000, seed=0, signal=2.0, groups=None):
    random = np.random.default_rng(seed)
    label = (random.random(n) < 0.2).astype(np.int64)
    logit = -1.4 + signal * (label - 0.2) + random.normal(0, 1, n)
    score = (1 / (1 + np.exp(-logit))).astype(np.float32)
    return EvaluationTable.build(leaves(n), score=score, native_score=score.astype(float), label=label, groups=groups)


def test_figures_are_those_of_an_evaluation_and_of_the_formulas():
    rows = table()
    found = measure_performance(rows, table(seed=1), CONTEXT, waiting=7)
    assert (found.rows, found.waiting) == (2_000, 7)
    assert found.measured["metrics"]["auc"]["point"] == pytest.approx(auc(rows.scores, rows.labels))
    assert found.measured["brier"] == pytest.approx(brier(rows.scores, rows.labels))
    assert sum(one["rows"] for one in found.measured["calibration"]) == 2_000
    assert not found.accuracy.worse
    canonical_json(found.to_json())


def test_a_decayed_model_is_worse_and_one_of_few_rows_is_not_said_to_be():
    registered = table(seed=1)
    assert measure_performance(table(signal=0.5), registered, CONTEXT).accuracy.worse
    few = measure_performance(table(40, signal=1.6), registered, CONTEXT).accuracy
    assert few.change.point < -0.02  # a drop in this sample, and no more than that
    assert few.change.high > 0
    assert not few.worse


def test_a_drop_within_the_harm_is_no_alert():
    registered, rows = table(20_000, seed=1), table(20_000, signal=1.8)
    found = measure_performance(rows, registered, CONTEXT).accuracy
    drop = -found.change.point
    assert found.change.high < 0
    assert not measure_performance(rows, registered, CONTEXT, harm=Harm(auc=drop * 1.01)).accuracy.worse
    assert measure_performance(rows, registered, CONTEXT, harm=Harm(auc=drop * 0.99)).accuracy.worse


def test_without_mature_labels_only_latency_is_told():
    found = measure_performance(None, table(), CONTEXT, waiting=3, latency_us=np.arange(1, 1_001))
    assert (found.rows, found.waiting, found.measured, found.accuracy, found.groups) == (0, 3, None, None, ())
    assert found.latency_us["p50"] == pytest.approx(500.5)
    assert set(found.latency_us) == {"p50", "p95", "p99"}


def test_labels_of_one_class_cannot_be_compared():
    rows = EvaluationTable.build(
        leaves(50), score=np.linspace(0, 1, 50), native_score=np.linspace(0, 1, 50), label=np.zeros(50, int)
    )
    assert measure_performance(rows, table(), CONTEXT).accuracy is None


def grouped(n, right_share, seed):
    """A group 'b' whose decisions are right this often, and a group 'a' that is always right."""
    random = np.random.default_rng(seed)
    label = (random.random(n) < 0.5).astype(np.int64)
    group = ["a" if row % 2 else "b" for row in range(n)]
    right = np.array([one == "a" for one in group]) | (random.random(n) < right_share)
    score = np.where(right == (label == 1), 0.9, 0.1).astype(np.float32)
    return EvaluationTable.build(
        leaves(n), score=score, native_score=score.astype(float), label=label, groups={"sex": group}
    )


def accuracy(found):
    return {one.group: one.accuracy for one in found.groups}


def test_a_protected_group_that_is_decided_worse_than_at_registration_is_found():
    found = accuracy(measure_performance(grouped(2_000, 0.7, 1), grouped(2_000, 0.9, 2), CONTEXT))
    assert found["b"].worse
    assert found["b"].now == pytest.approx(0.7, abs=0.05)
    assert not found["a"].worse
    better = accuracy(measure_performance(grouped(2_000, 0.9, 1), grouped(2_000, 0.7, 2), CONTEXT))
    assert not better["b"].worse


@pytest.mark.parametrize(("n", "told"), [(198, False), (200, True)])
def test_a_group_below_a_hundred_rows_is_reported_and_not_judged(n, told):
    found = measure_performance(grouped(n, 0.2, 1), grouped(2_000, 0.9, 2), CONTEXT).groups
    assert {one.group: one.rows for one in found} == {"a": n // 2, "b": n // 2}
    assert all((one.accuracy is not None) is told for one in found)


def test_a_model_that_only_scores_has_no_group_accuracy():
    plain = GateContext(training_base_rate=0.2, seed=1)
    assert measure_performance(grouped(400, 0.5, 1), grouped(400, 0.9, 2), plain).groups == ()


def test_latency_is_worse_by_its_ratio_and_beyond_its_noise():
    random = np.random.default_rng(0)
    before = random.lognormal(6, 0.5, 5_000).astype(np.int64) + 1
    assert not compare_latency(before, before).worse
    assert compare_latency(before * 2, before).worse
    assert not compare_latency((before * 1.1).astype(np.int64), before).worse
    found = compare_latency(random.lognormal(6, 0.5, 600).astype(np.int64) + 1, before)
    assert found.change.low < 1 < found.change.high  # as it was: whatever the point says, nobody is woken
    assert not found.worse
    assert compare_latency(before[:50], before) is None
    assert compare_latency(np.empty(0, np.int64), before) is None


def test_slices_come_from_what_is_passed():
    rows = table(400)
    slices = pa.table({"grade": ["A"] * 300 + ["B"] * 100, "row_leaf": pa.array(leaves(400), pa.binary(32))})
    found = measure_performance(rows, table(), CONTEXT, slices=slices).measured["slices"]
    assert [(one["value"], one["rows"]) for one in found] == [("A", 300), ("B", 100)]


def test_a_group_drop_must_be_large_and_beyond_noise():
    many = grouped(2_000, 0.9, 2)
    found = (accuracy(measure_performance(grouped(200, 0.85, seed), many, CONTEXT))["b"] for seed in range(50))
    one = next(one for one in found if one.change.point < -0.05 and one.change.high > 0)  # large, and perhaps chance
    assert not one.worse
    sure = measure_performance(grouped(20_000, 0.87, 1), grouped(20_000, 0.9, 2), CONTEXT)
    assert accuracy(sure)["b"].change.high < 0
    assert not accuracy(sure)["b"].worse  # beyond noise, and small


def test_the_report_says_in_json_what_it_holds():
    told = measure_performance(grouped(400, 0.8, 1), grouped(2_000, 0.9, 2), CONTEXT).to_json()
    assert told["measured"]["rows"] == 400
    assert told["accuracy"]["worse"] in (True, False)
    assert {one["group"]: one["accuracy"]["now"] for one in told["groups"]}["a"] == 1.0
    empty = measure_performance(None, table(), CONTEXT).to_json()
    assert (empty["measured"], empty["accuracy"], empty["latency"]) == (None, None, None)
