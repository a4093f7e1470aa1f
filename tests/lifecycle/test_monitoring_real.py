"""The published loans: the 60-month term of May 2010, which version 1 has never seen, and the months before it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from assets.credit_risk import credit_risk
from ml_platform import Model, Platform, at_least, lifecycle
from ml_platform.lifecycle.scoring import month_window
from tests.governance.root import at
from tests.lifecycle.conftest import new_root

MONTHS = ("2010-02", "2010-03", "2010-04", "2010-05")


@pytest.fixture(scope="module")
def declared() -> Model:
    return replace(credit_risk, gates=[at_least("auc", 0.5)], protected=[])


@pytest.fixture(scope="module")
def real(lending_club: Path, declared: Model, tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """Version 1 of January 2010 in production, four months decided."""
    folder = tmp_path_factory.mktemp("real")
    platform = new_root(folder / "root")
    for source in declared.sources:
        lifecycle.land_source(platform, source, lending_club / f"{source.name}.parquet")
    (folder / "code").mkdir()
    (folder / "code" / "model.py").write_text("# the model\n")
    made = lifecycle.build_candidate(
        platform, declared, at("2010-01-01"), requested_by="launcher", code=folder / "code"
    )
    version = made.registered.version
    lifecycle.stage(platform, declared.name, version, principal="launcher", reason="First look.")
    for to in ("canary", "production"):
        for officer in ("ada", "bob"):
            key = platform.secrets.folder / "people" / officer
            lifecycle.approve(platform, declared.name, version, to, key=key, reason="The gates are green.")
        lifecycle.promote(platform, declared.name, version, to, principal="launcher", reason="On.")
    for month in MONTHS:
        window = month_window(month)
        platform.replay.move(window.end)
        lifecycle.score_partition(platform, declared, month)
    return platform


def test_the_new_term_of_may_shows_with_its_psi_and_is_raised(real: Platform, declared: Model) -> None:
    for month in MONTHS[:-1]:
        assert not [one for one in lifecycle.watch(real, declared, month).raised if one.subject == "term"]
        term = lifecycle.drift_report(real, declared, month).version(1).report.field("term")
        assert (term.new_rows, term.shift.psi) == (0, 0.0)
    found = lifecycle.watch(real, declared, "2010-05")
    assert {(one.rule, one.severity) for one in found.raised if one.subject == "term"} == {
        ("psi", "P2"),
        ("new_category", "P2"),
    }
    report = lifecycle.drift_report(real, declared, "2010-05").version(1).report
    term = report.field("term")
    assert (report.rows, term.new_rows) == (985, 182)
    assert term.shift.psi == pytest.approx(1.2815, abs=1e-4)
    assert term.shift.noise < 0.05


def test_critical_features_that_did_not_move_wake_nobody(real: Platform, declared: Model) -> None:
    for month in MONTHS:
        report = lifecycle.drift_report(real, declared, month).version(1).report
        assert not report.field("dti").shift.moved
        assert not report.field("revol_util").shift.moved
        assert not report.score.shift.moved
    assert {one["subject"] for one in lifecycle.list_alerts(real)["alerts"]} <= {"term", "mths_since_last_delinq"}


def test_the_change_of_recording_is_a_null_rate_spike(real: Platform, declared: Model) -> None:
    nulls = lifecycle.drift_report(real, declared, "2010-02").version(1).report.field("mths_since_last_delinq").nulls
    assert nulls.spike
    assert nulls.reference == pytest.approx(0.23, abs=0.01)
    assert nulls.window == pytest.approx(0.66, abs=0.02)
