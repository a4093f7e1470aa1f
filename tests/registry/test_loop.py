"""Alerts and requests to train again in the log: said once, closed once, and never out of order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_platform.core.errors import Conflict, DeclarationError, NotFound, PlatformError
from tests.registry.world import AT, World

MODEL = "credit_risk"
EVIDENCE = "sha256:" + "e" * 64


def more(name: str) -> str:
    return "sha256:" + name.encode().hex().ljust(64, "0")[:64]


def raised(world: World, alert: str = "a1", **changes: Any) -> int:
    fields: dict[str, Any] = {
        "rule": "psi", "severity": "P2", "version": 1, "window": "2010-06", "subject": "term", "evidence": EVIDENCE,
    }  # fmt: skip
    return world.registry.raise_alert(MODEL, alert=alert, **{**fields, **changes})


def requested(world: World, request: str = "r1", **changes: Any) -> int:
    fields: dict[str, Any] = {
        "trigger": "drift", "alerts": ["a1"], "mode": "queued", "useful_from": AT, "evidence": EVIDENCE,
        "requested_by": "service",
    }  # fmt: skip
    return world.registry.request_retrain(MODEL, request=request, **{**fields, **changes})


@pytest.fixture
def known(world: World) -> World:
    """A model with version 1 and a candidate 2."""
    world.version(1)
    world.request(2)
    return world


def model(world: World) -> Any:
    return world.registry.state().model(MODEL)


def test_an_alert_lives_from_raised_to_closed(known: World) -> None:
    first = raised(known)
    assert raised(known) == first
    seen = known.registry.acknowledge_alert(MODEL, alert="a1", actor="officer:ann", reason="I look into it.")
    assert known.registry.acknowledge_alert(MODEL, alert="a1", actor="officer:bob", reason="Me too.") == seen
    assert model(known).alerts["a1"].acknowledged_by == "officer:ann"
    ended = known.registry.close_alert(MODEL, alert="a1", cause="recovered", actor="service")
    assert known.registry.close_alert(MODEL, alert="a1", cause="by_hand", actor="officer:ann") == ended
    state = model(known).alerts["a1"]
    assert (state.raised, state.acknowledged, state.closed, state.cause) == (first, seen, ended, "recovered")
    assert not state.open
    assert model(known).open_alerts == {}
    assert known.registry.verify().status == "verified"


def test_one_open_alert_is_enough_for_a_rule_subject_and_version(known: World) -> None:
    first = raised(known)
    assert raised(known, "a2", window="2010-07") == first
    assert "a2" not in model(known).alerts
    others = [raised(known, "a3", rule="js"), raised(known, "a4", subject="dti"), raised(known, "a5", version=None)]
    assert len({first, *others}) == 4
    known.registry.close_alert(MODEL, alert="a1", cause="by_hand", actor="officer:ann")
    assert raised(known, "a6") > first


@pytest.mark.parametrize(
    ("act", "error", "field"),
    [
        (lambda world: raised(world, "a1", severity="P0"), Conflict, "alert"),
        (lambda world: raised(world, "a9", version=7), NotFound, "version"),
        (lambda world: raised(world, "a9", severity="P5", rule="x"), DeclarationError, "severity"),
        (
            lambda world: world.registry.acknowledge_alert(MODEL, alert="a9", actor="officer:ann", reason="?"),
            NotFound,
            "alert",
        ),
        (lambda world: world.registry.close_alert(MODEL, alert="a9", cause="recovered", actor="x"), NotFound, "alert"),
        (
            lambda world: world.registry.acknowledge_alert(MODEL, alert="closed", actor="officer:ann", reason="?"),
            Conflict,
            "alert",
        ),
    ],
)
def test_what_contradicts_the_alerts_is_refused(
    known: World, act: Callable[[World], int], error: type[PlatformError], field: str
) -> None:
    raised(known)
    raised(known, "closed", rule="gone")
    known.registry.close_alert(MODEL, alert="closed", cause="version_replaced", actor="service")
    size = known.registry.state().size
    with pytest.raises(error) as caught:
        act(known)
    assert caught.value.field == field
    assert known.registry.state().size == size


def test_a_queued_request_goes_from_asked_to_registered(known: World) -> None:
    raised(known)
    first = requested(known)
    assert requested(known) == first
    assert model(known).retrains["r1"].status == "waiting"
    raised(known, "a2", rule="auc")
    merge = {"request": "r1", "trigger": "performance", "alerts": ["a2", "a1"], "evidence": more("m")}
    assert known.registry.merge_retrain(MODEL, **merge) == known.registry.merge_retrain(MODEL, **merge)
    assert model(known).retrains["r1"].alerts == ("a1", "a2")
    yes = {"request": "r1", "decision": "approved", "actor": "officer:ann", "reason": "Do it."}
    assert known.registry.decide_retrain(MODEL, **yes) == known.registry.decide_retrain(MODEL, **yes)
    assert model(known).retrains["r1"].status == "approved"
    start = {"request": "r1", "candidate": known.candidate(2), "actor": "service"}
    assert known.registry.start_retrain(MODEL, **start) == known.registry.start_retrain(MODEL, **start)
    assert model(known).retrains["r1"].status == "started"
    assert model(known).open_retrain == "r1"
    known.evaluate(2, known.evaluation(2))
    known.registry.register(known.registration(2))
    end = {"request": "r1", "candidate": known.candidate(2), "outcome": "registered", "version": 2}
    assert known.registry.finish_retrain(MODEL, **end) == known.registry.finish_retrain(MODEL, **end)
    assert (model(known).retrains["r1"].status, model(known).open_retrain) == ("finished", None)
    assert known.registry.verify().status == "verified"
    requested(known, "r2")


def test_an_automatic_request_needs_no_decision_but_may_be_rejected(known: World) -> None:
    requested(known, alerts=[], mode="automatic")
    assert model(known).retrains["r1"].may_start
    no = {"request": "r1", "decision": "rejected", "actor": "officer:ann", "reason": "The source is broken."}
    known.registry.decide_retrain(MODEL, **no)
    assert not model(known).retrains["r1"].may_start
    assert model(known).open_retrain is None
    with pytest.raises(Conflict, match="request"):
        known.registry.start_retrain(MODEL, request="r1", candidate=known.candidate(2), actor="service")


def start(world: World, **changes: Any) -> int:
    fields = {"request": "r1", "candidate": world.candidate(2), "actor": "service"}
    return world.registry.start_retrain(MODEL, **{**fields, **changes})


def decided(world: World, decision: str = "approved") -> int:
    return world.registry.decide_retrain(
        MODEL, request="r1", decision=decision, actor="officer:ann", reason="As measured."
    )


@pytest.mark.parametrize(
    ("act", "error", "field"),
    [
        (lambda world: requested(world, "r2"), Conflict, "request"),
        (lambda world: requested(world, evidence=more("other")), Conflict, "request"),
        (start, DeclarationError, "request"),
        (lambda world: start(world, request="r9"), NotFound, "request"),
        (lambda world: (decided(world), start(world, candidate=world.candidate(8))), NotFound, "candidate"),
        (lambda world: (decided(world), decided(world, "rejected")), Conflict, "request"),
        (lambda world: (decided(world), start(world), decided(world, "rejected")), Conflict, "request"),
        (
            lambda world: (decided(world), start(world), start(world, candidate=world.candidate(1))),
            Conflict,
            "request",
        ),
        (
            lambda world: world.registry.merge_retrain(
                MODEL, request="r1", trigger="drift", alerts=["a9"], evidence=more("x")
            ),
            NotFound,
            "alerts",
        ),
    ],
)
def test_what_contradicts_a_request_is_refused(
    known: World, act: Callable[[World], int], error: type[PlatformError], field: str
) -> None:
    raised(known)
    requested(known)
    with pytest.raises(error) as caught:
        act(known)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("changes", "error", "field"),
    [
        ({"outcome": "failed", "version": 1}, DeclarationError, "version"),
        ({"outcome": "registered"}, DeclarationError, "version"),
        ({"outcome": "registered", "version": 1}, DeclarationError, "version"),
        ({"outcome": "failed", "candidate": "2026"}, DeclarationError, "candidate"),
    ],
)
def test_an_outcome_says_what_became_of_the_candidate(
    known: World, changes: dict[str, Any], error: type[PlatformError], field: str
) -> None:
    requested(known, alerts=[], mode="automatic")
    start(known)
    with pytest.raises(error) as caught:
        known.registry.finish_retrain(MODEL, **{"request": "r1", "candidate": known.candidate(2), **changes})
    assert caught.value.field == field
    known.registry.finish_retrain(MODEL, request="r1", candidate=known.candidate(2), outcome="failed")


def test_a_training_that_never_started_does_not_finish(known: World) -> None:
    requested(known, alerts=[], mode="automatic")
    with pytest.raises(Conflict, match="candidate"):
        known.registry.finish_retrain(MODEL, request="r1", candidate=known.candidate(2), outcome="failed")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.sampled_from(["raise", "close", "ack"]), st.integers(0, 3)), max_size=25))
def test_open_alerts_are_those_raised_and_not_closed(known: World, steps: list[tuple[str, int]]) -> None:
    """Against a dictionary: rule → id of its open alert."""
    opened = {rule: alert for (rule, _, _), alert in model(known).open_alerts.items()}
    for act, number in steps:
        rule = f"rule{number}"
        if act == "raise":
            name = f"n{len(model(known).alerts)}"
            raised(known, name, rule=rule)
            opened.setdefault(rule, name)
        elif rule in opened and act == "close":
            known.registry.close_alert(MODEL, alert=opened.pop(rule), cause="recovered", actor="service")
        elif rule in opened:
            known.registry.acknowledge_alert(MODEL, alert=opened[rule], actor="officer:ann", reason="Seen.")
        assert {rule: alert for (rule, _, _), alert in model(known).open_alerts.items()} == opened
        assert {name for name, alert in model(known).alerts.items() if alert.open} == set(opened.values())
