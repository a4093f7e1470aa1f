"""Declarations may only be stricter than the policy; judged by the real gates."""

from __future__ import annotations

import pytest

from ml_platform.core.errors import DeclarationError, PolicyViolation
from ml_platform.registry import policy_document
from ml_platform.registry.policy import check_declaration, check_policy
from ml_platform.training.gates import at_least, calibrated, group_ratio
from tests.registry.world import World

POLICY = policy_document(
    {
        "high": {
            "approvers": {"canary": 1, "production": 2},
            "gates": [at_least("auc", 0.55).spec(), calibrated(0.03, on_inconclusive="ask").spec()],
            "may_ask": ["calibrated"],
        }
    }
)
GATES = [at_least("auc", 0.55), calibrated(0.03, on_inconclusive="ask")]


def declared(gates=GATES, **changes) -> dict:
    return {"risk_class": "high", "gates": [gate.spec() for gate in gates], "approvals": {"production": 2}, **changes}


def violation(spec: dict) -> str:
    with pytest.raises(PolicyViolation) as caught:
        check_declaration(POLICY, spec)
    return str(caught.value.field)


def test_a_declaration_may_say_exactly_what_the_policy_says_or_more() -> None:
    check_declaration(POLICY, declared())
    more = [at_least("auc", 0.6), calibrated(0.02), group_ratio("approval_rate", by="applicant_group")]
    check_declaration(POLICY, declared(more, approvals={"canary": 3, "production": 3}))
    check_declaration(POLICY, declared(approvals={}))


def test_fewer_approvers_than_the_policy_is_refused() -> None:
    assert violation(declared(approvals={"production": 1})) == "approvals.production"


def test_a_missing_or_looser_mandatory_gate_is_refused() -> None:
    assert violation(declared(GATES[1:])) == "gates.at_least.auc"
    assert violation(declared([at_least("auc", 0.5499), GATES[1]])) == "gates.at_least.auc"
    assert violation(declared([GATES[0], calibrated(0.031)])) == "gates.calibrated"
    broken = declared()
    broken["gates"][0]["threshold"] = "none"
    assert violation(broken) == "gates.at_least.auc"


def test_asking_where_the_policy_does_not_allow_it_is_refused() -> None:
    assert violation(declared([*GATES, group_ratio("approval_rate", by="x", on_inconclusive="ask")])) == (
        "gates.group_ratio.approval_rate.x"
    )
    # A mandatory gate that must refuse cannot be declared as one that asks.
    assert violation(declared([at_least("auc", 0.9, on_inconclusive="ask"), GATES[1]])) == "gates.at_least.auc"


def test_a_risk_class_that_the_policy_does_not_know_is_refused() -> None:
    assert violation(declared(risk_class="limited")) == "risk_class"


def test_the_registry_refuses_to_register_a_laxer_declaration(tmp_path) -> None:
    demanding = policy_document({"high": {"gates": [at_least("auc", 0.55).spec()]}})
    world = World(tmp_path / "root", policy=demanding)
    with pytest.raises(PolicyViolation, match="looser"):
        world.version(1)
    assert world.registry.state().model("credit_risk").versions == {}


def test_a_policy_made_stricter_stops_promotions_of_what_was_declared_before(world: World) -> None:
    world.version(1)
    world.move(1, "stage", "staging")
    demanding = policy_document({"high": {"gates": [at_least("auc", 0.55).spec()], "may_ask": ["calibrated"]}})
    order, signatures = world.ordered("policy", {"policy": demanding}, "officer:bob")
    world.registry.set_policy(order, signatures=signatures)
    world.approve(1, "staging", "canary")
    with pytest.raises(PolicyViolation, match="looser"):
        world.move(1, "promote", "canary")


@pytest.mark.parametrize(
    "classes",
    [
        {},
        {"high": {"approvers": {"canary": 0, "production": 1}}},
        {"high": {"approvers": {"production": 1}}},
        {"high": {"gates": [{"name": "no kind"}]}},
        {"high": {"more": 1}},
        {"a class with spaces": {}},
    ],
)
def test_a_malformed_policy_is_refused(classes: dict) -> None:
    with pytest.raises(DeclarationError):
        policy_document(classes)


@pytest.mark.parametrize("document", [None, [], {"format": "ml-platform/policy/1"}, {**POLICY, "classes": {"high": 1}}])
def test_what_is_no_policy_is_refused(document: object) -> None:
    with pytest.raises(DeclarationError):
        check_policy(document)
