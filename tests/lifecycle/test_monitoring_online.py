"""What was answered online is profiled, judged and timed once it is sealed, shadows and refusals apart."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from ml_platform import lifecycle
from ml_platform.lifecycle.features import materialize_model_views
from ml_platform.lifecycle.sealing import seal_once
from ml_platform.lifecycle.window_records import monitored_window, read_window
from tests.governance import online
from tests.governance.conftest import root, shared  # noqa: F401 - fixtures
from tests.governance.root import at
from tests.lifecycle.watched import watched

WINDOW = "2010-03"


def serve(platform, ids, *, latency_us=420, day=10, **how):
    """Answers as many requests, seals them; their ids."""
    times = [at(f"2010-03-{day:02d}") + timedelta(minutes=one) for one in range(len(ids))]
    made = online.decide(
        platform, online.requests(ids, times=times), online.apply_route(platform), latency_us=latency_us, **how
    )
    log = online.open_log(platform, how.get("writer", online.WRITER))
    online.write(log, made)
    log.close()
    seal_once(platform)
    return made


@pytest.fixture
def live(root):  # noqa: F811
    root.replay.move(at("2010-04-01"))
    materialize_model_views(root, watched(), end=at("2010-04-01"))
    return root


def test_online_decisions_are_in_the_profile_of_their_month_and_their_day(live):
    serve(live, range(5_000, 5_040))
    (month,) = lifecycle.profile_window(live, watched(), WINDOW).versions
    assert (month.rows, dict(month.modes)) == (40, {"online": 40})
    (day,) = lifecycle.profile_window(live, watched(), "2010-03-10").versions
    assert day.read(live).fields["amount"] == month.read(live).fields["amount"]
    assert lifecycle.profile_window(live, watched(), "2010-03-11").versions == ()
    purpose = lifecycle.drift_report(live, watched(), WINDOW).version(1).report.field("purpose")
    assert purpose.new_rows == sum(one % 3 == 2 for one in range(5_000, 5_040))


def test_shadows_are_in_no_profile_and_refusals_are_counted(live):
    serve(live, range(5_000, 5_030))
    shadow = "shadow-" + "0b" * 16
    serve(live, range(5_000, 5_030), writer=shadow, role="shadow", decision_of_record=False)
    log = online.open_log(live, "router-" + "0c" * 16)
    online.write(log, [online.refuse(live, 1, at("2010-03-12"), writer="router-" + "0c" * 16)])
    log.close()
    seal_once(live)
    (found,) = lifecycle.profile_window(live, watched(), WINDOW).versions
    assert (found.rows, found.refused) == (30, {"amount:range": 1})


def test_latency_is_that_of_the_answers_and_is_compared_with_the_window_before(live):
    serve(live, range(5_000, 5_600), latency_us=400, day=10)
    serve(live, range(6_000, 6_600), latency_us=900, day=11, writer="router-" + "0d" * 16)
    records = read_window(live, "small_risk", monitored_window("2010-03-11"), 1)
    assert np.array_equal(np.unique(records.latency_us), [900])
    (found,) = lifecycle.performance_report(live, watched(), "2010-03-11").versions
    assert found.report.latency_us == {"p50": 900.0, "p95": 900.0, "p99": 900.0}
    assert found.report.latency.worse
    raised = lifecycle.watch(live, watched(), "2010-03-11").raised
    assert ("latency_p99", "P1") in {(one.rule, one.severity) for one in raised}
    assert lifecycle.performance_report(live, watched(), "2010-03-10").versions[0].report.latency is None


def test_a_decision_whose_time_is_not_the_requests_finds_its_label_by_its_entity(live):
    loan = 9_001
    requests = live.lake.read("sources/loan_requests")
    assert loan not in requests.column("loan_id").to_pylist()
    from tests.governance.root import land_march

    land_march(live)  # loan 9001 applied on 2010-03-02; it is answered online eight days later
    serve(live, [loan])
    live.replay.move(at("2010-07-01"))
    (found,) = lifecycle.performance_report(live, watched(), WINDOW).versions
    assert (found.report.rows, found.report.waiting) == (1, 0)
