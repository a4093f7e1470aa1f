from __future__ import annotations

import numpy as np
import pytest

from ml_platform.monitoring.drift import Limits
from ml_platform.monitoring.performance import Comparison, GroupAccuracy, PerformanceReport
from ml_platform.monitoring.severity import SEVERITY, firing, judge_drift, judge_performance
from ml_platform.stats import Interval
from tests.monitoring.drifting import rows
from tests.monitoring.test_drift import drift

WORSE = Comparison(0.6, 0.7, Interval(-0.1, -0.15, -0.05, method="test"), worse=True)
SAME = Comparison(0.7, 0.7, Interval(0.0, -0.05, 0.05, method="test"), worse=False)


def held(judgements):
    return [(one.severity, one.rule, one.subject) for one in firing(judgements)]


def report(**parts):
    default = {"rows": 10, "waiting": 0, "measured": None, "accuracy": None, "groups": (), "latency_us": {}}
    return PerformanceReport(**(default | parts))


def test_the_table_is_the_designs():
    assert SEVERITY == {
        "schema": "P0",
        "null_rate": "P0",
        "group_accuracy": "P0",
        "latency_p99": "P1",
        "psi": "P2",
        "new_category": "P2",
        "score_psi": "P2",
        "accuracy": "P3",
    }


def test_a_quiet_window_raises_nothing_and_judges_every_rule():
    judged = judge_drift(drift(rows(500, 1)))
    assert held(judged) == []
    assert {one.rule for one in judged} == {"schema", "null_rate", "psi", "new_category", "score_psi"}
    assert all(one.holds is False for one in judged)


def test_drift_of_a_critical_feature_is_p2_and_of_another_nobodys():
    table = rows(500, 1, shift=4.0)
    assert held(judge_drift(drift(table, critical=("dti",)))) == [("P2", "psi", "dti")]
    assert held(judge_drift(drift(table, critical=("term",)))) == []


def test_a_new_category_is_raised_from_ten_rows_on():
    import pyarrow as pa

    for extra, wanted in ((9, []), (10, [("P2", "new_category", "term")])):
        table = pa.concat_tables([rows(50_000, 1), rows(extra, 2, terms=("60",))])
        assert held(judge_drift(drift(table))) == wanted


def test_a_null_rate_spike_is_p0_for_any_feature():
    assert ("P0", "null_rate", "dti") in held(judge_drift(drift(rows(500, 1, nulls=0.3), critical=())))


@pytest.mark.parametrize(("refused", "raised"), [(9, False), (10, True)])
def test_a_few_malformed_requests_wake_nobody(refused, raised):
    judged = judge_drift(drift(rows(500, 1), refused={"dti:type": refused}))
    assert (("P0", "schema", None) in held(judged)) is raised


@pytest.mark.parametrize(("refused", "raised"), [(20, False), (21, True)])
def test_schema_refusals_are_judged_by_their_share(refused, raised):
    judged = judge_drift(drift(rows(2_000, 1), refused={"dti:type": refused}))
    assert (("P0", "schema", None) in held(judged)) is raised


def test_predictions_that_move_are_p2():
    assert ("P2", "score_psi", None) in held(judge_drift(drift(rows(500, 1), score_shift=0.3)))
    assert judge_drift(drift(rows(500, 1)), Limits(psi=0.3))[-1].numbers["limit"] == 0.3


def test_a_protected_group_is_p0_and_judged_once_an_attribute():
    groups = (
        GroupAccuracy("sex", "a", 500, SAME),
        GroupAccuracy("sex", "b", 500, WORSE),
        GroupAccuracy("age", "x", 9, None),
    )
    judged = judge_performance(report(groups=groups))
    assert held(judged) == [("P0", "group_accuracy", "sex")]
    by = {one.subject: one.holds for one in judged if one.rule == "group_accuracy"}
    assert by == {"sex": True, "age": None}


def test_latency_is_p1_decay_p3_and_what_cannot_be_told_is_neither():
    assert held(judge_performance(report(latency=WORSE, accuracy=WORSE))) == [
        ("P1", "latency_p99", None),
        ("P3", "accuracy", None),
    ]
    assert [one.holds for one in judge_performance(report())] == [None]
    assert [one.holds for one in judge_performance(report(latency=SAME, accuracy=SAME))] == [False, False]
    assert np.isfinite(judge_performance(report(accuracy=WORSE))[0].numbers["now"])


def test_a_new_category_of_a_feature_that_is_not_critical_wakes_nobody():
    judged = judge_drift(drift(rows(500, 1, grades=("A", "B", "C", "Z")), critical=("term", "dti")))
    assert held(judged) == []
    assert [one.subject for one in judged if one.rule == "new_category"] == ["term"]
