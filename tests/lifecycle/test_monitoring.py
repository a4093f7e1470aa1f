from __future__ import annotations

import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from ml_platform import lifecycle
from ml_platform.core.digests import canonical_json
from ml_platform.core.errors import DataError, NotEnoughData, NotFound
from ml_platform.lifecycle.window_records import monitored_window, read_window, versions_of_record, window_before
from ml_platform.profiles import WindowProfile
from ml_platform.serving import Supersede
from tests.governance.conftest import root, shared  # noqa: F401 - fixtures
from tests.lifecycle.watched import at, watched

MODEL = "small_risk"


@pytest.mark.parametrize(
    ("name", "start", "end", "before"),
    [
        ("2010-01", "2010-01-01", "2010-02-01", "2009-12"),
        ("2010-03-01", "2010-03-01", "2010-03-02", "2010-02-28"),
        ("2008-03", "2008-03-01", "2008-04-01", "2008-02"),
    ],
)
def test_a_window_is_a_month_or_a_day(name, start, end, before):
    window = monitored_window(name)
    assert (window.start, window.end) == (at(start), at(end))
    assert window_before(window).partition == before
    assert window_before(window).end == window.start


@pytest.mark.parametrize("name", ["2010", "2010-13", "2010-02-30", "May", "2010-1-1", ""])
def test_anything_else_is_no_window(shared, name):  # noqa: F811
    with pytest.raises(DataError):
        lifecycle.profile_window(shared, watched(), name)


def test_a_profile_counts_every_decision_of_the_window_once(shared):  # noqa: F811
    (found,) = lifecycle.profile_window(shared, watched(), "2010-02").versions
    rows = shared.lake.read(f"{MODEL}/predictions_personal")
    times = rows.column("request_time").to_pylist()
    inside = rows.filter(pa.array([at("2010-02-01") <= time < at("2010-03-01") for time in times]))
    profile = found.read(shared)
    assert (found.version, found.rows, profile.rows) == (1, inside.num_rows, inside.num_rows)
    amounts = inside.column("number_amount").to_numpy()
    assert profile.fields["amount"].moments.mean == pytest.approx(float(np.mean(amounts.astype(float))), rel=1e-12)
    decisions = inside.column("decision").to_pylist()
    assert profile.decisions == {name: decisions.count(name) for name in sorted(set(decisions))}


def test_days_add_up_to_the_month(shared):  # noqa: F811
    (month,) = lifecycle.profile_window(shared, watched(), "2010-02").versions
    whole = None
    for day in range(1, 29):
        window = monitored_window(f"2010-02-{day:02d}")
        for version in versions_of_record(shared, MODEL, window):
            records = read_window(shared, MODEL, window, version)
            made = WindowProfile.of(
                records.table, records.reference, scores=records.scores, decisions=records.decisions
            )
            whole = made if whole is None else whole + made
    assert whole.stored(records.reference).to_bytes() == shared.objects.get(month.profile)


def test_the_same_records_give_the_same_documents(shared):  # noqa: F811
    first = lifecycle.profile_window(shared, watched(), "2010-01")
    listed = shared.objects.list(f"monitoring/{MODEL}/2010-01")
    assert lifecycle.profile_window(shared, watched(), "2010-01") == first
    assert shared.objects.list(f"monitoring/{MODEL}/2010-01") == listed
    one, other = (lifecycle.drift_report(shared, watched(), "2010-01") for _ in range(2))
    assert one.digest == other.digest
    assert canonical_json(one.to_json()) == canonical_json(other.to_json())


def test_the_inputs_digest_is_of_the_window_and_not_of_other_windows(root):  # noqa: F811
    from tests.governance.root import land_march

    before = lifecycle.profile_window(root, watched(), "2010-02").inputs_digest
    root.replay.move(at("2010-04-01"))
    land_march(root)
    lifecycle.score_partition(root, watched(), "2010-03")
    assert lifecycle.profile_window(root, watched(), "2010-02").inputs_digest == before
    assert lifecycle.profile_window(root, watched(), "2010-03").versions[0].rows == 3


def test_another_set_of_records_has_another_digest(root):  # noqa: F811
    before = lifecycle.profile_window(root, watched(), "2010-02")
    personal = root.lake.read(f"{MODEL}/predictions_personal").to_pylist()
    gone = max(row["prediction_id"] for row in personal)
    from deltalake import DeltaTable

    DeltaTable(root.lake.uri(f"{MODEL}/predictions_personal")).delete(f"prediction_id = '{gone}'")
    after = lifecycle.profile_window(root, watched(), "2010-02")
    assert after.versions[0].rows == before.versions[0].rows - 1
    assert after.inputs_digest != before.inputs_digest


def test_a_decision_that_is_not_of_record_is_in_no_profile(root):  # noqa: F811
    before = lifecycle.profile_window(root, watched(), "2010-02")
    lifecycle.score_partition(root, watched(), "2010-02", supersede=Supersede("Another look."))
    assert root.lake.read(f"{MODEL}/predictions").num_rows > sum(
        lifecycle.profile_window(root, watched(), month).versions[0].rows for month in ("2010-01", "2010-02")
    )
    assert lifecycle.profile_window(root, watched(), "2010-02") == before


def test_a_correction_stands_in_place_of_what_it_corrects(root):  # noqa: F811
    before = lifecycle.profile_window(root, watched(), "2010-02")
    order = Supersede("A signed correction.", decision_of_record=True)
    lifecycle.score_partition(root, watched(), "2010-02", supersede=order)
    after = lifecycle.profile_window(root, watched(), "2010-02")
    assert after.versions[0].rows == before.versions[0].rows
    assert after.inputs_digest != before.inputs_digest
    assert after.versions[0].profile == before.versions[0].profile  # the same scores of the same rows


def test_refused_rows_are_in_the_report_of_their_month(shared):  # noqa: F811
    assert lifecycle.profile_window(shared, watched(), "2010-01").versions[0].refused == {"amount:range": 2}
    assert lifecycle.profile_window(shared, watched(), "2010-02").versions[0].refused == {}


def test_drift_is_measured_against_the_versions_own_reference(shared):  # noqa: F811
    found = lifecycle.drift_report(shared, watched(), "2010-02").version(1)
    purpose = found.report.field("purpose")
    boats = shared.lake.read(
        f"{MODEL}/predictions_personal",
        where=(ds.field("category_purpose") == "boat") & (ds.field("request_time") >= pa.scalar(at("2010-02-01"))),
    ).num_rows
    assert purpose.new_rows == boats > 0
    assert purpose.critical
    assert not found.report.field("amount").critical
    with pytest.raises(NotFound, match="version"):
        lifecycle.drift_report(shared, watched(), "2010-02").version(2)


def test_a_window_without_decisions_has_no_drift_and_says_what_to_do(shared):  # noqa: F811
    assert lifecycle.profile_window(shared, watched(), "2009-06").versions == ()
    with pytest.raises(NotEnoughData, match="window"):
        lifecycle.drift_report(shared, watched(), "2009-06")


def test_a_model_that_the_log_does_not_know_is_not_found(shared):  # noqa: F811
    from dataclasses import replace

    stranger = replace(watched(), name="stranger")
    for ask in (lifecycle.profile_window, lifecycle.drift_report, lifecycle.performance_report, lifecycle.watch):
        with pytest.raises(NotFound, match="model"):
            ask(shared, stranger, "2010-02")


def test_without_whylogs_drift_is_measured_and_the_absence_is_said(root, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "whylogs", None)
    monkeypatch.setitem(sys.modules, "whylogs.core", None)
    (found,) = lifecycle.profile_window(root, watched(), "2010-01-20").versions
    assert found.whylogs is None
    assert "whylogs" in found.to_json()["whylogs"]["absent"]
    assert lifecycle.drift_report(root, watched(), "2010-01-20").version(1).psi


def test_nothing_stored_holds_a_raw_category_or_a_key(root):  # noqa: F811
    (found,) = lifecycle.profile_window(root, watched(), "2010-02").versions
    drift = lifecycle.drift_report(root, watched(), "2010-02").version(1)
    for digest in (found.profile, found.document, drift.document):
        if not root.objects.has(digest):
            continue
        text = root.objects.get(digest)
        for word in (b"boat", b'"home"', b'"other":{', b"loan_id"):
            assert word not in text
    sketches = root.objects.get(found.whylogs)
    assert b"boat" not in sketches
    assert json.loads(canonical_json(found.to_json()))["whylogs"] == found.whylogs


def test_performance_counts_mature_labels_once_an_entity_and_says_how_many_wait(root):  # noqa: F811
    (early,) = lifecycle.performance_report(root, watched(), "2010-02").versions
    assert (early.report.rows, early.report.measured) == (0, None)
    root.replay.move(at("2010-06-01"))
    (found,) = lifecycle.performance_report(root, watched(), "2010-02").versions
    assert (found.report.rows, found.report.waiting) == (early.report.waiting, 0)
    outcomes = {row["loan_id"]: row for row in root.lake.read("sources/loan_outcomes").to_pylist()}
    rows = root.lake.read(
        f"{MODEL}/predictions_personal", where=ds.field("request_time") >= pa.scalar(at("2010-02-01"))
    ).to_pylist()
    months = {row["key_loan_id"]: row["request_time"] for row in rows}
    positives = sum(
        bool(outcomes[loan]["defaulted"]) and (outcomes[loan]["known_at"] - time).days <= 58  # surely within two months
        for loan, time in months.items()
    )
    assert positives <= found.report.measured["positives"] <= positives + 12
    assert found.report.accuracy.then == pytest.approx(
        json.loads(root.objects.get(found.evaluation))["metrics"]["auc"]["point"]
    )
