from __future__ import annotations

import numpy as np
import pytest

from ml_platform.core.errors import DeclarationError
from ml_platform.training.decision import Decline

REASONS = {"income": "Income", "debt": "Debt too high", "late": "Debt too high"}


def test_a_score_at_the_limit_is_not_declined():
    limit = 0.25  # exact in float32 and float64
    scores = np.array(
        [np.nextafter(np.float32(limit), np.float32(0)), limit, np.nextafter(np.float32(limit), np.float32(1))],
        np.float32,
    )
    assert Decline(limit, REASONS).declined(scores).tolist() == [False, False, True]


def test_a_float32_score_is_compared_with_the_limit_itself():
    limit = 0.06  # the nearest float32 is below it, its successor above
    nearest = np.float32(limit)
    assert float(nearest) < limit
    scores = np.array([nearest, np.nextafter(nearest, np.float32(1))], np.float32)
    assert Decline(limit, REASONS).declined(scores).tolist() == [False, True]
    assert float(np.float32(0.3)) > 0.3
    assert Decline(0.3, REASONS).declined(np.array([0.3], np.float32)).tolist() == [True]


@pytest.mark.parametrize("above", [0, 1, -0.1, 1.5, float("nan"), "0.5", True])
def test_the_limit_is_a_probability(above):
    with pytest.raises(DeclarationError, match="above"):
        Decline(above, REASONS)


def test_an_empty_reason_is_refused():
    with pytest.raises(DeclarationError, match="income"):
        Decline(0.1, {"income": " "})


def test_every_feature_needs_a_reason_and_every_reason_a_feature():
    decision = Decline(0.1, REASONS)
    decision.check_features(["debt", "income", "late"])
    with pytest.raises(DeclarationError, match="term"):
        decision.check_features(["debt", "income", "late", "term"])
    with pytest.raises(DeclarationError, match="late"):
        decision.check_features(["debt", "income"])


def test_a_decision_survives_its_stored_form():
    decision = Decline(0.06, REASONS)
    assert Decline.from_bytes(decision.to_bytes()) == decision
    assert Decline.from_spec(decision.spec()) == decision
    assert decision.to_bytes() == Decline(0.06, dict(reversed(REASONS.items()))).to_bytes()
    with pytest.raises(DeclarationError):
        Decline.from_bytes(b'{"above":0.06}')
    with pytest.raises(DeclarationError):
        Decline.from_spec({**decision.spec(), "baseline": "another"})
