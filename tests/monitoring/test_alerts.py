from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.monitoring.alerts import Close, OpenAlert, alert_id, closes, raises
from ml_platform.monitoring.severity import Judgement


def said(holds, rule="psi", subject="term"):
    return Judgement(rule, subject, holds)


def opened(window="2010-05", version=1, rule="psi", subject="term", alert="al-1"):
    return OpenAlert(alert, rule, subject, version, window)


def raised(judgements, open_alerts=(), known=(), version=1, window="2010-05"):
    return raises("m", version, window, judgements, open_alerts=open_alerts, known=known)


def test_what_holds_is_raised_gravest_first():
    found = raised([said(True), said(True, "schema", None), said(False, "psi", "dti"), said(None, "accuracy", None)])
    assert [(one.judgement.rule, one.version) for one in found] == [("schema", 1), ("psi", 1)]


def test_one_open_alert_of_a_rule_a_subject_and_a_version_is_enough():
    assert raised([said(True)], [opened("2010-04")]) == ()
    assert raised([said(True)], [opened(version=2)])
    assert raised([said(True)], [opened(rule="new_category")])
    assert raised([said(True)], [opened(subject="dti")])


def test_a_rerun_of_a_window_raises_nothing_again_even_when_its_alert_was_closed():
    (first,) = raised([said(True)])
    assert raised([said(True)], known={first.alert}) == ()
    assert raised([said(True)], known={first.alert}, window="2010-06")


@given(
    st.sets(
        st.tuples(
            st.sampled_from("mn"),
            st.integers(1, 3),
            st.sampled_from(["2010-05", "2010-06"]),
            st.sampled_from(["a", "b"]),
            st.sampled_from([None, "x"]),
        )
    )
)
def test_ids_differ_where_findings_do(findings):
    assert len({alert_id(*one) for one in findings}) == len(findings)


def test_an_alert_closes_when_its_condition_is_gone():
    found = closes([opened()], {1: [said(False)]}, "2010-06", serving={1})
    assert [(one.alert, one.cause) for one in found] == [("al-1", "recovered")]
    assert found[0].judgement == said(False)


@pytest.mark.parametrize(
    "judgements",
    [{1: [said(True)]}, {1: [said(None)]}, {1: []}, {}, {1: [said(False, "psi", "dti")]}, {2: [said(False)]}],
)
def test_it_stays_open_where_the_window_does_not_say_that_it_is_gone(judgements):
    assert closes([opened()], judgements, "2010-06", serving={1, 2}) == ()


@pytest.mark.parametrize(
    ("window", "closed"),
    [("2010-04", False), ("2010-05", True), ("2010-06", True), ("2010-05-31", False), ("2010-07-01", False)],
)
def test_only_a_window_of_its_kind_that_is_no_older_closes_it(window, closed):
    assert bool(closes([opened()], {1: [said(False)]}, window, serving={1})) is closed


def test_a_replaced_version_closes_its_alerts_whatever_the_window_says():
    assert closes([opened()], {1: [said(True)]}, "2010-04", serving={2}) == (Close("al-1", "version_replaced"),)
    assert closes([opened()], {}, "2010-06", serving={2}, retrained={"al-1"}) == (Close("al-1", "retrained"),)
    assert closes([opened(version=None)], {}, "2010-06", serving=()) == ()
