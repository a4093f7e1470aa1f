"""``mlp retrain``, ``mlp rollout`` and ``mlp shadow``, on the shop whose clock stands in July 2010."""

from __future__ import annotations

import pytest

from tests.cli.support import MODELS, Shop


@pytest.fixture
def asked(live: Shop) -> str:
    """A request by hand; the same one for every test that rejects nothing."""
    made = live.must("retrain", "request", "small", "--reason", "A new product", "--principal", "alice", *MODELS)
    assert made["outcome"] in {"requested", "merged"}
    return str(made["request"])


def test_a_request_is_listed_with_who_asked_and_how_far_it_is(live: Shop, asked: str) -> None:
    (found,) = live.must("retrain", "list", "small", *MODELS)["retrains"]
    assert (found["request"], found["requested_by"], found["status"]) == (asked, "alice", "waiting for approval")
    shown = live.mlp("retrain", "list", "small", *MODELS)
    assert asked in shown.out
    assert "by_hand" in shown.out


def test_nothing_runs_before_a_person_agrees(live: Shop, asked: str) -> None:
    assert live.must("retrain", "run", "small", *MODELS)["finished"] == []
    ran = live.mlp("retrain", "run", "small", *MODELS)
    assert (ran.code, "No request is ready." in ran.out) == (0, True)


def test_a_reason_is_needed_and_an_unknown_request_or_alert_is_named(live: Shop, asked: str) -> None:
    assert live.mlp("retrain", "request", "small", "--reason", " ", *MODELS).code == 7
    assert live.mlp("retrain", "approve", "small", asked, "--reason", "  ").code == 7
    ran = live.mlp("retrain", "approve", "small", "retrain-9-000000000000", "--reason", "Yes")
    assert (ran.code, "request" in ran.problem) == (4, True)
    ran = live.mlp("retrain", "request", "small", "--reason", "?", "--alert", "never", *MODELS)
    assert (ran.code, "alert" in ran.problem) == (4, True)


def test_a_rejected_request_stays_rejected(live: Shop, asked: str) -> None:
    made = live.must("retrain", "reject", "small", asked, "--reason", "Not now", "--principal", "bob")
    assert made["decision"] == "rejected"
    assert live.must("retrain", "reject", "small", asked, "--reason", "Not now", "--principal", "bob") == made
    assert live.mlp("retrain", "approve", "small", asked, "--reason", "After all").code == 6
    assert live.must("retrain", "list", "small", *MODELS)["retrains"][0]["status"] == "rejected"


def test_without_a_canary_there_is_nothing_to_advance(live: Shop) -> None:
    for command in ("status", "advance"):
        ran = live.mlp("rollout", command, "small")
        assert (ran.code, "canary" in ran.problem) == (7, True)
    assert live.mlp("rollout", "status", "stranger").code == 4


def test_a_shadow_of_nobody_says_what_is_missing(live: Shop) -> None:
    ran = live.mlp("shadow", "small")
    assert (ran.code, "staging or canary" in ran.problem) == (4, True)
    assert live.mlp("shadow", "small", "--report").code == 2
    assert live.mlp("shadow", "small", "--once", "--follow").code == 2


def test_the_version_in_production_is_no_shadow_of_itself(live: Shop) -> None:
    made = live.must("shadow", "small", "--version", 1, "--since", "2010-01-01")
    assert made["pairs"] == 0
    assert made["own"] == made["taken"] > 0
    shown = live.mlp("shadow", "small", "--version", 1, "--report")
    assert shown.code == 0
    assert "pairs" in shown.out
