"""One small root for all tests of governance; tests that spoil it get a copy."""

from __future__ import annotations

import importlib.util

import pytest

from ml_platform import Platform, governance
from tests.conftest import missing
from tests.governance.root import copy_root, make_root


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Platform:
    """Read only."""
    for vendor in ("lightgbm", "onnx"):
        if importlib.util.find_spec(vendor) is None:
            missing(f"{vendor} is not installed (extra: lightgbm)")
    return make_root(tmp_path_factory.mktemp("governance"))


@pytest.fixture
def root(shared, tmp_path) -> Platform:
    """A copy that a test may change."""
    return copy_root(shared, tmp_path)


@pytest.fixture(scope="session")
def declined(shared) -> str:
    """The id of a declined loan of February."""
    rows = shared.lake.read("small_risk/predictions_personal", columns=["prediction_id", "decision"]).to_pylist()
    return max(row["prediction_id"] for row in rows if row["decision"] == "declined")


@pytest.fixture
def loan(shared, declined) -> int:
    rows = shared.lake.read("small_risk/predictions_personal", columns=["prediction_id", "key_loan_id"]).to_pylist()
    return next(row["key_loan_id"] for row in rows if row["prediction_id"] == declined)


@pytest.fixture
def findings():
    """(status, places) of a verification."""

    def run(platform: Platform, **options) -> tuple[str, list[str]]:
        report = governance.verify(platform, **options)
        return report.status, [finding.where for finding in report.findings]

    return run
