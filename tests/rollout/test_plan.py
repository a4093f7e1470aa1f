"""What a rollout declares, and what of it is in the model's digest."""

from __future__ import annotations

from typing import Any

import pytest

from ml_platform.core.digests import canonical_json
from ml_platform.core.errors import DeclarationError
from ml_platform.rollout import Guardrails, Rollout


def test_the_canonical_form_of_a_plan_without_guardrails_is_what_it_was_before_there_were_any() -> None:
    plan = Rollout(shadow="1d", canary=[5, 25])
    assert canonical_json(plan.spec()) == b'{"canary":[5,25],"max_hold":"14d","shadow":"1d"}'
    assert Rollout(shadow="1d", canary=[5, 25], guardrails=Guardrails()).spec() == plan.spec()


def test_other_guardrails_are_in_the_canonical_form() -> None:
    plan = Rollout(canary=[5], guardrails=Guardrails(errors=0.02, min_units=50))
    assert plan.spec()["guardrails"] == {
        "errors": 0.02,
        "latency_p50_ms": 5.0,
        "latency_p99_ms": 25.0,
        "decision_rate": 0.05,
        "score_shift": 0.25,
        "alpha": 0.05,
        "min_units": 50,
        "min_time": "1h",
    }


@pytest.mark.parametrize("plan", [Rollout(), Rollout(canary=[1, 99], guardrails=Guardrails(alpha=0.1, min_time="2d"))])
def test_a_plan_comes_back_from_its_canonical_form(plan: Rollout) -> None:
    assert Rollout.from_spec(plan.spec()) == plan


@pytest.mark.parametrize(
    ("share", "after"), [(0, 500), (499, 500), (500, 2500), (2500, 5000), (2600, 5000), (5000, 10_000), (9999, 10_000)]
)
def test_the_next_share_is_the_next_step_and_then_all(share: int, after: int) -> None:
    assert Rollout(canary=[5, 25, 50]).share_after(share) == after


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("errors", 0),
        ("errors", 1.0),
        ("errors", float("nan")),
        ("errors", True),
        ("latency_p50_ms", -1),
        ("latency_p99_ms", float("inf")),
        ("decision_rate", 1.0),
        ("score_shift", "0.1"),
        ("alpha", 0),
        ("alpha", 0.5),
        ("min_units", 1),
        ("min_units", 2.5),
        ("min_time", "soon"),
    ],
)
def test_a_margin_that_means_nothing_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(DeclarationError) as caught:
        Guardrails(**{field: value})
    assert caught.value.field == field


def test_margins_just_inside_their_limits_are_accepted() -> None:
    assert Guardrails(errors=0.999, decision_rate=0.999, alpha=0.499, min_units=2, latency_p50_ms=1000).min_units == 2
