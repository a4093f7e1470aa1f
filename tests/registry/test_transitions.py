"""The stage machine, with everything that a move requires."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from ml_platform.core.digests import canonical_json, sha256_hex
from ml_platform.core.errors import (
    ApprovalInvalid,
    ConcurrentTransition,
    EvaluationStale,
    IllegalTransition,
    NotFound,
    PolicyViolation,
)
from ml_platform.core.merkle import leaf_hash
from ml_platform.registry import AuthorshipClaim
from ml_platform.registry.events import Event
from ml_platform.registry.sql import Database, Head, StoredEntry
from ml_platform.registry.table import ACTIONS, STAGES, TRANSITIONS
from tests.registry.world import World, line


def stages(world: World, model: str = "credit_risk") -> dict[int, str]:
    return {number: version.stage for number, version in world.registry.state().model(model).versions.items()}


@pytest.fixture
def two(world: World) -> World:
    """Version 1 archived, version 2 in production."""
    world.to_production(world.version(1))
    world.to_production(world.version(2, baseline=(1, world.artifact(1))))
    return world


def test_the_page_shows_the_same_table(repository: Path) -> None:
    page = (repository / "docs" / "registry.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (\w+) \| (\w+) \| (\w+) \| (\w+) \|", page, flags=re.MULTILINE)
    words = {True: "yes", False: "no"}
    assert rows == [
        (rule.action, rule.source, rule.to, words[rule.checked], words[rule.approvals], words[rule.earlier])
        for rule in TRANSITIONS
    ]


@pytest.mark.parametrize(
    ("action", "to"), [pair for pair in itertools.product(ACTIONS, STAGES) if pair != ("stage", "staging")]
)
def test_from_trained_only_staging_and_archive_are_reachable(world: World, action: str, to: str) -> None:
    world.version(1)
    if (action, to) == ("archive", "archived"):
        assert world.move(1, action, to).to == "archived"
        return
    with pytest.raises(IllegalTransition, match="no "):
        world.move(1, action, to)
    assert stages(world) == {1: "trained"}


def test_a_stage_jump_is_refused_with_the_moves_that_there_are(world: World) -> None:
    world.version(1)
    with pytest.raises(IllegalTransition) as caught:
        world.move(1, "promote", "production")
    assert "stage to staging" in caught.value.next_step
    world.move(1, "stage", "staging")
    with pytest.raises(IllegalTransition):
        world.move(1, "promote", "production")


def test_unknown_model_and_version_are_named(world: World) -> None:
    with pytest.raises(NotFound, match="model"):
        world.move(1, "stage", "staging")
    world.version(1)
    for number in (0, 2):
        with pytest.raises(NotFound, match=f"version {number}"):
            world.move(number, "stage", "staging")


def test_promotion_archives_the_version_before_in_the_same_entry(two: World) -> None:
    assert stages(two) == {1: "archived", 2: "production"}
    state = two.registry.state().model("credit_risk")
    last = [state.version(number).history[-1] for number in (1, 2)]
    assert last[0].index == last[1].index
    assert (last[0].source, last[0].to) == ("production", "archived")
    assert last[0].approvals == ()
    assert len(last[1].approvals) == last[1].required == 1
    assert (state.production, state.canary, state.staging) == (2, None, None)


@pytest.mark.parametrize("stage", ["staging", "canary"])
def test_each_stage_is_held_by_one_version(world: World, stage: str) -> None:
    for number in (1, 2):
        world.version(number)
        if stage == "staging":
            world.move(number, "stage", "staging")
        else:
            world.to_canary(number)
    assert stages(world) == {1: "archived", 2: stage}
    assert world.registry.state().model("credit_risk").holder(stage) == 2


def test_rollback_goes_back_and_restore_goes_forward_without_new_approval(two: World) -> None:
    with pytest.raises(IllegalTransition, match="earlier"):
        two.move(1, "restore", "production")
    result = two.move(1, "rollback", "production")
    assert (result.displaced, stages(two)) == (2, {1: "production", 2: "archived"})
    with pytest.raises(IllegalTransition, match="later"):
        two.move(2, "rollback", "production")
    assert two.move(2, "restore", "production").displaced == 1
    assert stages(two) == {1: "archived", 2: "production"}


def test_rollback_to_a_version_that_never_held_production_is_refused(two: World) -> None:
    two.version(3, baseline=(2, two.artifact(2)))
    two.move(3, "archive", "archived")
    for action in ("rollback", "restore"):
        with pytest.raises(IllegalTransition, match="never held"):
            two.move(3, action, "production")


def revoke_approval(world: World, payload: str) -> None:
    order, signatures = world.ordered("revoke_approval", {"model": "credit_risk", "payload": payload}, "officer:bob")
    world.registry.revoke_approval(order, signatures=signatures)


def test_rollback_needs_the_approvals_of_then_to_stand(two: World) -> None:
    approvals = two.registry.state().version("credit_risk", 1).productions[-1].approvals
    revoke_approval(two, approvals[0])
    with pytest.raises(ApprovalInvalid, match="withdrawn"):
        two.move(1, "rollback", "production")


@pytest.mark.parametrize(
    ("cause", "since", "allowed"),
    [
        ("retired", None, True),
        ("compromised", "2026-01-05T09:00:00.000001Z", True),
        ("compromised", "2026-01-05T09:00:00.000000Z", False),
    ],
)
def test_a_retired_key_leaves_rollback_a_compromised_one_does_not(two: World, cause: str, since, allowed: bool) -> None:
    subject = {"public_key": line("officer:ann"), "cause": cause, "suspect_from": since}
    order, signatures = two.ordered("revoke_key", subject, "officer:bob")
    two.registry.revoke_key(order, signatures=signatures)
    if allowed:
        assert two.move(1, "rollback", "production").displaced == 2
    else:
        with pytest.raises(ApprovalInvalid):
            two.move(1, "rollback", "production")


def test_with_two_required_one_withdrawn_approval_blocks_rollback(world: World) -> None:
    world.version(1, authorship=AuthorshipClaim("unknown"))
    world.move(1, "stage", "staging")
    for source, to in (("staging", "canary"), ("canary", "production")):
        for person in ("officer:ann", "officer:bob", "team:carl"):
            world.approve(1, source, to, by=person)
        world.move(1, "promote", to)
    world.to_production(world.version(2, baseline=(1, world.artifact(1))))
    approvals = world.registry.state().version("credit_risk", 1).productions[0].approvals
    assert len(approvals) == 3
    revoke_approval(world, approvals[0])
    world.move(1, "rollback", "production")  # two of three still stand
    world.move(2, "restore", "production")
    revoke_approval(world, approvals[1])
    with pytest.raises(ApprovalInvalid):
        world.move(1, "rollback", "production")


def test_an_evaluation_against_another_version_than_productions_is_stale(world: World) -> None:
    world.version(1)
    world.version(2)  # both evaluated when nothing was in production
    world.to_production(1)
    world.move(2, "stage", "staging")
    world.approve(2, "staging", "canary")
    with pytest.raises(EvaluationStale, match="no version; version 1"):
        world.move(2, "promote", "canary")


def test_a_baseline_of_the_same_number_with_another_artifact_is_stale(world: World) -> None:
    world.to_production(world.version(1))
    world.version(2, baseline=(1, sha256_hex(b"other artifact")))
    world.move(2, "stage", "staging")
    world.approve(2, "staging", "canary")
    with pytest.raises(EvaluationStale):
        world.move(2, "promote", "canary")


def test_a_rollback_in_between_makes_the_evaluation_stale(two: World) -> None:
    two.version(3, baseline=(2, two.artifact(2)))
    two.move(3, "stage", "staging")
    two.approve(3, "staging", "canary")
    two.move(1, "rollback", "production")
    with pytest.raises(EvaluationStale):
        two.move(3, "promote", "canary")


def test_what_fails_while_warming_moves_nothing_and_can_be_tried_again(world: World) -> None:
    world.version(1)

    def fail() -> None:
        raise OSError("no memory")

    with pytest.raises(OSError, match="memory"):
        world.move(1, "stage", "staging", warm=fail)
    assert stages(world) == {1: "trained"}
    world.move(1, "stage", "staging")
    assert stages(world) == {1: "staging"}


def test_a_transition_overtaken_while_warming_is_refused(world: World) -> None:
    world.version(1)
    with pytest.raises(ConcurrentTransition):
        world.move(1, "stage", "staging", warm=lambda: world.move(1, "archive", "archived") and None)
    assert stages(world) == {1: "archived"}


def test_models_do_not_overtake_each_other(world: World) -> None:
    world.version(1)
    world.version(1, model="churn")
    world.move(1, "stage", "staging", warm=lambda: world.move(1, "stage", "staging", "churn") and None)
    assert stages(world) == stages(world, "churn") == {1: "staging"}


def test_an_approval_withdrawn_while_warming_stops_the_transition(world: World) -> None:
    world.version(1)
    world.move(1, "stage", "staging")
    payload = world.approve(1, "staging", "canary")
    with pytest.raises(ApprovalInvalid, match="withdrawn"):
        world.move(1, "promote", "canary", warm=lambda: revoke_approval(world, sha256_hex(payload)))


def test_a_decision_on_an_older_log_is_refused(world: World) -> None:
    world.version(1)
    seen = world.registry.state().size
    world.move(1, "stage", "staging")
    with pytest.raises(ConcurrentTransition):
        world.move(1, "archive", "archived", seen_size=seen)
    world.move(1, "archive", "archived", seen_size=world.registry.state().size)


def test_an_announcement_on_a_head_before_the_last_transition_is_refused(world: World) -> None:
    world.version(1)
    heads = []

    def look() -> None:
        state = world.registry.state()
        heads.append({"size": state.size, "root": "sha256:" + world.registry._log.tree.root_at(state.size).hex()})

    world.move(1, "stage", "staging", warm=look)  # the transition itself has the index heads[0]["size"]
    body = {
        "version": 1, "action": "archive", "from": "staging", "to": "archived", "displaced": None, "baseline": None,
        "required": 0, "approvals": [], "actor": "officer:ann", "reason": world.objects.put(b"why"),
    }  # fmt: skip
    with pytest.raises(ConcurrentTransition):
        world.registry._log.append([Event("transition_intended", {**body, "expected": heads[0]}, "credit_risk")])
    with pytest.raises(ConcurrentTransition):
        world.move(1, "archive", "archived", seen_size=heads[0]["size"])
    look()
    world.registry._log.append([Event("transition_intended", {**body, "expected": heads[1]}, "credit_risk")])


def bodies(world: World) -> dict:
    """A legal promotion's body, captured from a world like this one."""
    world.version(1)
    world.move(1, "stage", "staging")
    world.approve(1, "staging", "canary")
    from ml_platform.registry.transitions import plan

    return plan(
        world.registry.state(), world.registry._log.judging, "credit_risk", 1,
        action="promote", to="canary", actor="officer:ann", reason=world.objects.put(b"why"),
        recorded_at="2026-01-05T09:00:00.000000Z",
    )  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"approvals": []},
        {"approvals": [sha256_hex(b"never entered")]},
        {"required": 0},
        {"required": 2},
        {"baseline": 1},
        {"displaced": 1},
        {"from": "trained"},
        {"to": "production"},
        {"action": "stage", "to": "staging"},
    ],
)
def test_a_body_that_differs_from_what_the_state_demands_is_refused(world: World, changes: dict) -> None:
    from ml_platform.core.errors import PlatformError

    body = bodies(world)
    state = world.registry.state()
    head = {"size": state.size, "root": "sha256:" + world.registry._log.tree.root_at(state.size).hex()}
    with pytest.raises(PlatformError):
        world.registry._log.append([Event("transition_intended", {**body, **changes, "expected": head}, "credit_risk")])
    (index,) = world.registry._log.append([Event("transition_intended", {**body, "expected": head}, "credit_risk")])
    with pytest.raises(PlatformError):
        world.registry._log.append([Event("transition", {**body, **changes, "intended": index}, "credit_risk")])
    for intended in (index - 1, index + 1):
        with pytest.raises(ConcurrentTransition):
            world.registry._log.append([Event("transition", {**body, "intended": intended}, "credit_risk")])
    world.registry._log.append([Event("transition", {**body, "intended": index}, "credit_risk")])


def foreign(world: World, *, critical: bool, model: str | None) -> None:
    """An entry of a kind that a newer library wrote, with everything that it would have updated."""
    document = {
        "format": "ml-platform/entry/1", "kind": "model_frozen", "critical": critical, "body": {},
        "effective_at": "2026-01-05T09:00:00.000000Z", "recorded_at": "2026-01-05T09:00:00.000000Z",
        **({"model": model} if model else {}),
    }  # fmt: skip
    raw = canonical_json(document)
    tree = world.registry._log.tree
    world.registry.state()
    frontier = tree.frontier().append(leaf_hash(raw))
    database = Database(world.url)
    with database.writing() as session:
        row = StoredEntry(tree.size, raw, leaf_hash(raw))
        session.append([row], Head(frontier.size, frontier.to_bytes(), frontier.root()))
    database.close()


@pytest.mark.parametrize(
    ("critical", "model"), [(True, "credit_risk"), (True, None), (True, "churn"), (False, "credit_risk")]
)
def test_an_unknown_critical_kind_blocks_promotion_of_its_model_never_a_rollback(two: World, critical, model) -> None:
    two.version(3, baseline=(2, two.artifact(2)))
    two.move(3, "stage", "staging")
    two.approve(3, "staging", "canary")
    foreign(two, critical=critical, model=model)
    if critical and model != "churn":
        with pytest.raises(PolicyViolation, match="does not know"):
            two.move(3, "promote", "canary")
        assert two.move(1, "rollback", "production").displaced == 2
    else:
        assert two.move(3, "promote", "canary").to == "canary"
    assert two.registry.verify().ok
