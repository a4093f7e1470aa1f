"""Planted skew is found and named: wrong code, a store that was published too late; and nothing where there is none."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ml_platform import lifecycle
from ml_platform.lifecycle.features import feature_reader, materialize_model_views
from ml_platform.lifecycle.sealing import seal_once
from tests.governance import online
from tests.governance.conftest import root, shared  # noqa: F401 - fixtures
from tests.governance.root import at, model

WINDOW = "2010-03"
FEATURE = "defaulted_mean_360d"


@pytest.fixture
def live(root):  # noqa: F811
    root.replay.move(at("2010-04-01"))
    materialize_model_views(root, model(), end=at("2010-04-01"))
    return root


def serve(platform, ids, *, reader=None, writer=online.WRITER):
    """Answers requests with the features that a reader finds, and seals them."""
    times = [at("2010-03-10") + timedelta(minutes=one) for one in range(len(ids))]
    with pytest.MonkeyPatch.context() as patch:
        if reader is not None:
            patch.setattr(online, "feature_reader", reader)
        made = online.decide(platform, online.requests(ids, times=times), online.apply_route(platform), writer=writer)
    log = online.open_log(platform, writer)
    online.write(log, made)
    log.close()
    seal_once(platform)
    return online.ids(made)


def wrong_code(platform):
    """Online multiplies what it finds: a unit that somebody converted twice."""
    right = feature_reader(platform)

    def read(contract, rows):
        found = right(contract, rows)
        place = found.schema.get_field_index(FEATURE)
        return found.set_column(place, FEATURE, pc.multiply(found.column(FEATURE), 1.07))

    return read


def published_late(platform):
    """The online store has the state of two months before."""
    right = feature_reader(platform)

    def read(contract, rows):
        place = rows.schema.get_field_index(contract.time)
        times = rows.column(contract.time).cast(pa.timestamp("us", "UTC"))
        return right(contract, rows.set_column(place, contract.time, pc.subtract(times, pa.scalar(timedelta(days=59)))))

    return read


def test_decisions_that_used_what_held_are_all_equal(live):
    serve(live, range(5_000, 5_060))
    report = lifecycle.feature_skew(live, model(), WINDOW)
    ((one,),) = [version.features for version in report.versions]
    assert (one.feature, one.compared, one.equal, dict(one.reasons)) == (FEATURE, 60, 60, {})
    assert report.failed == []
    assert report.to_json()["passed"]


def test_batch_decisions_are_compared_too(live):
    report = lifecycle.feature_skew(live, model(), "2010-02", rows=50)
    (version,) = report.versions
    assert version.sampled == min(50, version.decisions) > 10
    assert [one.share for one in version.features] == [1.0]
    again = lifecycle.feature_skew(live, model(), "2010-02", rows=50)
    assert again == report


def test_wrong_code_is_found_and_named_with_decisions_to_trace(live):
    wrong = serve(live, range(5_000, 5_040), reader=wrong_code)
    right = serve(live, range(6_000, 6_040), writer="router-" + "0d" * 16)
    report = lifecycle.feature_skew(live, model(), WINDOW)
    (one,) = report.versions[0].features
    assert (one.compared, one.equal) == (80, 40)
    assert dict(one.reasons) == {"code": 40}
    assert set(one.examples["code"]) <= set(wrong)
    assert not set(one.examples["code"]) & set(right)
    (words,) = report.words()
    assert f"{FEATURE} (version 1): 50.0% of 80 equal. 40 × code" in words
    assert lifecycle.feature_skew(live, model(), WINDOW, least=0.5).failed == []
    assert lifecycle.feature_skew(live, model(), WINDOW, least=0.51).failed


def test_a_store_that_was_published_too_late_is_found_and_named(live):
    serve(live, range(5_000, 5_040), reader=published_late)
    (one,) = lifecycle.feature_skew(live, model(), WINDOW).versions[0].features
    assert one.share < 0.5
    assert set(one.reasons) == {"late_data"}


def test_a_window_without_decisions_has_no_skew(live):
    report = lifecycle.feature_skew(live, model(), "2009-01")
    assert (report.versions, report.failed) == ((), [])
