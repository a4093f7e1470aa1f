from __future__ import annotations

import pytest

from ml_platform import lifecycle
from tests.governance.conftest import root, shared  # noqa: F401 - fixtures
from tests.lifecycle.watched import at, watched


def test_psi_over_windows_has_the_farthest_moved_first_and_gaps_where_nothing_was_decided(shared):  # noqa: F811
    lines = lifecycle.psi_lines(shared, watched(), ["2009-06", "2010-01", "2010-02"])
    assert {line.feature for line in lines} == {"amount", "amount_root", "purpose", "defaulted_mean_360d"}
    heights = [max(psi for psi in line.psi if psi is not None) for line in lines]
    assert heights == sorted(heights, reverse=True)
    purpose = next(line for line in lines if line.feature == "purpose")
    known = lifecycle.drift_report(shared, watched(), "2010-02").version(1).psi["purpose"]
    assert purpose.psi[0] is None
    assert purpose.psi[2] == known
    assert purpose.critical
    assert len(purpose.noise) == len(purpose.windows) == 3


def test_the_histogram_of_scores_holds_shares_over_the_references_bins(shared):  # noqa: F811
    (found,) = lifecycle.score_histogram(shared, lifecycle.drift_report(shared, watched(), "2010-02"))
    assert found.version == 1
    assert len(found.reference) == len(found.window) == len(found.edges) + 1
    assert sum(found.reference) == pytest.approx(1) == sum(found.window)


def test_calibration_is_told_where_labels_are_mature(root):  # noqa: F811
    assert lifecycle.calibration_bins(lifecycle.performance_report(root, watched(), "2010-02")) == {}
    root.replay.move(at("2010-06-01"))
    (bins,) = lifecycle.calibration_bins(lifecycle.performance_report(root, watched(), "2010-02")).values()
    assert sum(one["rows"] for one in bins) > 50
    assert {"mean_probability", "observed", "rows"} == set(bins[0])
