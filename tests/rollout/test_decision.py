"""What is done with a canary, and in which order the reasons count."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core.errors import DataError
from ml_platform.rollout import ArmEvidence, Evidence, Guardrails, Rollout, StepState, decide

START = datetime(2011, 8, 1, tzinfo=UTC)
PLAN = Rollout(canary=[5, 25, 50])
STEP = StepState(2500, START)
LATER = START + timedelta(days=2)
MUCH_LATER = START + timedelta(days=15)


def arm(version: int, n: int, *, seed: int = 0, refused: int = 0, declined: float = 0.2, ms: float = 2.0,
        shift: float = 0.0) -> ArmEvidence:  # fmt: skip
    rng = np.random.Generator(np.random.PCG64([seed, version]))
    return ArmEvidence(
        version=version,
        units=n + refused,
        answered=n,
        refused=refused,
        decided=n,
        declined=round(declined * n),
        latency_ms=rng.gamma(4.0, ms / 4, n),
        scores=np.clip(rng.normal(0.1 + shift, 0.05, n), 0, 1),
    )


def both(n: int = 8000, **canary: float) -> Evidence:
    return Evidence(arm(1, 3 * n), arm(2, n, **canary))  # type: ignore[arg-type]


def test_a_harmless_canary_with_much_evidence_advances_to_the_next_share() -> None:
    found = decide(PLAN, STEP, both(), LATER)
    assert (found.decision, found.share_bp) == ("advance", 5000)
    assert [one.excluded for one in found.readings] == [True] * 5


def test_after_the_last_step_the_canary_may_have_all_units() -> None:
    evidence = Evidence(arm(1, 8000), arm(2, 8000))
    assert decide(PLAN, StepState(5000, START), evidence, LATER).share_bp == 10_000


@pytest.mark.parametrize(
    ("guardrail", "harm"),
    [
        ("errors", {"refused": 300}),
        ("latency_p50", {"ms": 12.0}),
        ("latency_p99", {"ms": 20.0}),
        ("decision_rate", {"declined": 0.3}),
        ("decision_rate", {"declined": 0.1}),
        ("score_shift", {"shift": 0.03}),
        ("score_shift", {"shift": -0.03}),
    ],
)
def test_each_guardrail_alone_rolls_back_when_harm_is_shown(guardrail: str, harm: dict[str, float]) -> None:
    found = decide(PLAN, STEP, both(**harm), LATER)
    assert (found.decision, found.share_bp) == ("rollback", 0)
    assert guardrail in {one.name for one in found.readings if one.harmful}
    assert any(reason.startswith(guardrail) for reason in found.reasons)


def test_harm_rolls_back_before_the_minimum_of_units_and_time() -> None:
    plan = replace(PLAN, guardrails=Guardrails(min_units=10_000, min_time="30d"))
    evidence = Evidence(arm(1, 300), arm(2, 20, refused=80))
    assert decide(plan, STEP, evidence, START).decision == "rollback"


def test_few_units_hold_although_nothing_bad_was_seen() -> None:
    found = decide(PLAN, STEP, both(n=150), LATER)
    assert (found.decision, found.share_bp) == ("hold", 2500)
    assert any("150 of 200 units" in reason for reason in found.reasons)
    assert any(reason.startswith("errors") for reason in found.reasons)


def test_the_minimum_of_units_and_of_time_is_met_exactly_at_its_value() -> None:
    plan = replace(PLAN, guardrails=Guardrails(min_units=8000, min_time="2d"))
    assert decide(plan, STEP, both(n=8000), LATER).decision == "advance"
    assert decide(plan, STEP, both(n=7999), LATER).decision == "hold"
    assert decide(plan, STEP, both(n=8000), LATER - timedelta(microseconds=1)).decision == "hold"


def test_without_an_answer_a_person_is_asked_from_max_hold_on() -> None:
    few = both(n=150)
    assert decide(PLAN, STEP, few, START + timedelta(days=14) - timedelta(microseconds=1)).decision == "hold"
    found = decide(PLAN, STEP, few, START + timedelta(days=14))
    assert (found.decision, found.share_bp) == ("ask", 2500)


def test_max_hold_stops_neither_an_advance_nor_a_rollback() -> None:
    assert decide(PLAN, STEP, both(), MUCH_LATER).decision == "advance"
    assert decide(PLAN, STEP, both(refused=300), MUCH_LATER).decision == "rollback"


def test_a_broken_sample_ratio_comes_before_everything_else() -> None:
    harmful = Evidence(arm(1, 8000), arm(2, 8000, refused=4000))
    found = decide(PLAN, STEP, harmful, LATER)
    assert (found.decision, found.share_bp) == ("ask", 2500)
    assert found.reasons[0].startswith("sample ratio")


def test_no_evidence_at_all_holds_and_then_asks() -> None:
    empty = Evidence(arm(1, 0), arm(2, 0))
    assert decide(PLAN, STEP, empty, LATER).decision == "hold"
    assert decide(PLAN, STEP, empty, MUCH_LATER).decision == "ask"


def test_a_primary_that_always_says_the_same_gives_no_measure_of_a_shift() -> None:
    constant = replace(arm(1, 24_000), scores=np.full(24_000, 0.1))
    found = decide(PLAN, STEP, Evidence(constant, arm(2, 8000)), LATER)
    assert found.decision == "hold"
    same = decide(PLAN, STEP, Evidence(constant, replace(arm(2, 8000), scores=np.full(8000, 0.1))), LATER)
    assert same.decision == "advance"


@pytest.mark.parametrize("share", [0, 10_000, -1])
def test_a_canary_without_a_share_is_no_canary(share: int) -> None:
    with pytest.raises(DataError, match="share_bp"):
        decide(PLAN, StepState(share, START), both(n=10), LATER)


def test_a_step_of_the_future_is_refused() -> None:
    with pytest.raises(DataError, match="now"):
        decide(PLAN, STEP, both(n=10), START - timedelta(seconds=1))


def test_counts_that_contradict_each_other_are_refused() -> None:
    for wrong in ({"declined": 11}, {"decided": 21}, {"units": -1}, {"scores": np.array([np.nan])}):
        with pytest.raises(DataError):
            replace(arm(1, 10), **wrong)


def test_the_document_holds_no_infinity() -> None:
    from ml_platform.core.digests import canonical_json

    document = decide(PLAN, STEP, both(n=20), LATER).to_json()
    assert canonical_json(document)
    assert document["guardrails"][2]["high"] is None


ORDER = {"rollback": 0, "ask": 1, "hold": 1, "advance": 2}


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(50, 3000),
    refused=st.integers(0, 30),
    more=st.integers(1, 300),
    declined=st.floats(0.1, 0.4),
    slower=st.floats(0, 60),
)
def test_more_harm_never_makes_a_better_decision(
    n: int, refused: int, more: int, declined: float, slower: float
) -> None:
    """More refused requests of the same units, slower answers: the decision moves towards rollback or stays."""
    primary, canary = arm(1, 3 * n), replace(arm(2, n, declined=declined), refused=refused)
    worse = replace(canary, refused=refused + more, latency_ms=canary.latency_ms + slower)
    before = decide(PLAN, STEP, Evidence(primary, canary), LATER)
    after = decide(PLAN, STEP, Evidence(primary, worse), LATER)
    assert ORDER[after.decision] <= ORDER[before.decision]


@settings(max_examples=60, deadline=None)
@given(n=st.integers(50, 3000), refused=st.integers(0, 60), by=st.floats(1, 5), shift=st.floats(-0.05, 0.05))
def test_a_wider_margin_never_makes_a_worse_decision(n: int, refused: int, by: float, shift: float) -> None:
    evidence = Evidence(arm(1, 3 * n), replace(arm(2, n, shift=shift), refused=refused))
    narrow = Guardrails()
    wide = replace(
        narrow,
        errors=narrow.errors * by,
        score_shift=narrow.score_shift * by,
        latency_p99_ms=narrow.latency_p99_ms * by,
    )
    strict, lax = (decide(replace(PLAN, guardrails=rails), STEP, evidence, LATER) for rails in (narrow, wide))
    assert ORDER[strict.decision] <= ORDER[lax.decision]


@settings(max_examples=40, deadline=None)
@given(n=st.integers(50, 2000), refused=st.integers(0, 30), hours=st.integers(0, 500), more=st.integers(0, 500))
def test_time_alone_never_rolls_back_and_never_takes_an_advance_away(
    n: int, refused: int, hours: int, more: int
) -> None:
    evidence = Evidence(arm(1, 3 * n), replace(arm(2, n), refused=refused))
    early = decide(PLAN, STEP, evidence, START + timedelta(hours=hours))
    late = decide(PLAN, STEP, evidence, START + timedelta(hours=hours + more))
    assert (early.decision == "rollback") == (late.decision == "rollback")
    assert early.decision != "advance" or late.decision == "advance"


def requests(rng: np.random.Generator, n: int, errors: float, adverse: float, ms: float) -> tuple[np.ndarray, ...]:
    return rng.random(n) < errors, rng.random(n) < adverse, rng.gamma(4.0, ms / 4, n), rng.beta(2, 18, n)


def grown(version: int, seen: tuple[np.ndarray, ...], n: int) -> ArmEvidence:
    failed, adverse, ms, scores = (values[:n] for values in seen)
    answered = ~failed
    return ArmEvidence(version, n, int(answered.sum()), int(failed.sum()), int(answered.sum()),
                       int((adverse & answered).sum()), ms[answered], scores[answered])  # fmt: skip


def last_word(rng: np.random.Generator, plan: Rollout, *, errors: float, adverse: float, ms: float) -> str:
    """Looks again whenever the evidence has grown by a quarter, until something is done."""
    primary = requests(rng, 6000, 0.02, 0.2, 2.0)
    canary = requests(rng, 2000, errors, adverse, ms)
    n, looks = 40, 0
    while n <= 2000:
        evidence = Evidence(grown(1, primary, 3 * n), grown(2, canary, n))
        found = decide(plan, StepState(2500, START, looks), evidence, LATER)
        if found.decision in {"rollback", "advance"}:
            return found.decision
        n, looks = n * 5 // 4, looks + 1
    return "hold"


# No margin to speak of: the hardest case, in which every noise may look like harm.
TIGHT = replace(
    PLAN,
    guardrails=Guardrails(errors=1e-9, latency_p50_ms=1e-9, latency_p99_ms=1e-9, decision_rate=1e-9, score_shift=1e-9),
)


def test_two_equal_arms_are_rolled_back_no_more_often_than_alpha_over_all_looks() -> None:
    rng = np.random.Generator(np.random.PCG64(11))
    runs = 200
    false = sum(last_word(rng, TIGHT, errors=0.02, adverse=0.2, ms=2.0) == "rollback" for _ in range(runs))
    # 0.05 allowed; three standard errors of a share of 200 runs.
    assert false / runs <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5


def test_harm_at_the_margin_is_let_through_no_more_often_than_alpha_over_all_looks() -> None:
    rng = np.random.Generator(np.random.PCG64(12))
    runs = 100
    let = sum(last_word(rng, PLAN, errors=0.03, adverse=0.2, ms=2.0) == "advance" for _ in range(runs))
    assert let / runs <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5


@pytest.mark.parametrize(
    "harm", [{"errors": 0.10}, {"adverse": 0.35}, {"ms": 15.0}], ids=["errors", "decisions", "latency"]
)
def test_plain_harm_is_found_almost_always(harm: dict[str, float]) -> None:
    rng = np.random.Generator(np.random.PCG64(13))
    words = [last_word(rng, PLAN, **({"errors": 0.02, "adverse": 0.2, "ms": 2.0} | harm)) for _ in range(40)]
    assert words.count("rollback") >= 38


def test_a_harmless_canary_does_not_wait_for_ever() -> None:
    rng = np.random.Generator(np.random.PCG64(14))
    plan = replace(PLAN, guardrails=Guardrails(errors=0.03, decision_rate=0.1, score_shift=0.4))
    words = [last_word(rng, plan, errors=0.02, adverse=0.2, ms=2.0) for _ in range(40)]
    assert words.count("advance") >= 36
