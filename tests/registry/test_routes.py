"""Routes, local rollbacks, rollouts and reversals in the log: what serves follows from the stages."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ml_platform.core.clock import format_utc
from ml_platform.core.errors import (
    ApprovalMissing,
    Conflict,
    DeclarationError,
    IllegalTransition,
    NotFound,
    PlatformError,
    Tampered,
)
from ml_platform.registry.flip import Flip
from ml_platform.registry.route import SignedRoute
from tests.registry.routing import MODEL, after, allowed, arms, flip, signed
from tests.registry.world import AT, Ticking, World

BASELINE = (1, World.artifact(1))
EVIDENCE = "sha256:" + "e" * 64


def apply(world: World, made: SignedRoute, transition: int | None = None) -> int:
    return world.registry.apply_route(MODEL, route=made.raw, transition=transition, actor="officer:ann")


def model(world: World) -> Any:
    return world.registry.state().model(MODEL)


def one(world: World) -> SignedRoute:
    """Version 1 in production, routed."""
    world.version(1)
    world.to_production(1)
    made = signed(log_index=model(world).last_transition)
    apply(world, made, model(world).last_transition)
    return made


def with_canary(world: World) -> SignedRoute:
    before = one(world)
    world.version(2, baseline=BASELINE)
    world.to_canary(2)
    made = after(before, arms=arms(1, 2))
    apply(world, made, model(world).last_transition)
    return made


def two(world: World) -> SignedRoute:
    """Version 2 in production, routed; back to version 1 is allowed."""
    before = with_canary(world)
    world.approve(2, "canary", "production")
    world.move(2, "promote", "production")
    made = after(before, arms=arms(2), allowed_rollbacks=allowed(1))
    apply(world, made, model(world).last_transition)
    return made


def enter(world: World, made: Flip) -> int:
    return world.registry.enter_flip(MODEL, flip=made.raw)


def reasoned(world: World, onto: SignedRoute, target: int, **changes: Any) -> Flip:
    return flip(onto, target, reason_digest=world.objects.put(b"It errs."), **changes)


def verified(world: World) -> bool:
    return world.registry.verify().status == "verified"


def test_a_route_is_applied_once_and_kept_as_it_was_signed(world: World) -> None:
    made = one(world)
    state = model(world).route
    assert (state.epoch, state.digest, state.primary) == (1, made.digest, 1)
    assert world.registry.applied_route(MODEL) == made.raw
    assert apply(world, made, state.transition) == state.index
    assert verified(world)


def test_no_route_was_applied_yet(world: World) -> None:
    world.version(1)
    with pytest.raises(NotFound, match="route"):
        world.registry.applied_route(MODEL)


@pytest.mark.parametrize(
    ("changes", "error", "field"),
    [
        ({"epoch": 4}, Conflict, "epoch"),
        ({"previous": "sha256:" + "1" * 64}, Conflict, "epoch"),
        ({"supersedes_flip": "sha256:" + "1" * 64}, Conflict, "supersedes_flip"),
        ({"by": "officer:ann"}, Tampered, "signature"),
        ({"root_id": "ff" * 16}, Tampered, "route"),
        ({"model": "churn"}, Tampered, "route"),
        ({"log_index": 10_000}, Tampered, "log_index"),
        ({"arms": arms(2)}, IllegalTransition, "arms"),
        ({"arms": arms(1, 1)}, IllegalTransition, "arms"),
        ({"allowed_rollbacks": allowed(2)}, IllegalTransition, "rollbacks"),
        ({"allowed_rollbacks": allowed(1)}, IllegalTransition, "rollbacks"),
    ],
)
def test_a_route_that_does_not_follow_from_the_log_is_refused(
    world: World, changes: dict[str, Any], error: type[PlatformError], field: str
) -> None:
    before = with_canary(world)
    size = world.registry.state().size
    with pytest.raises(error) as caught:
        apply(world, after(before, **changes))
    assert caught.value.field == field
    assert world.registry.state().size == size


def test_a_route_may_not_name_another_artifact(world: World) -> None:
    before = one(world)
    (arm,) = arms(1)
    other = type(arm)(arm.arm, 1, World.artifact(2), arm.share_bp)
    with pytest.raises(Tampered) as caught:
        apply(world, after(before, arms=(other,)))
    assert caught.value.field == "artifact"


def test_a_route_rests_on_the_newest_transition(world: World) -> None:
    before = one(world)
    with pytest.raises(Conflict) as caught:
        apply(world, after(before), model(world).last_transition - 1)
    assert caught.value.field == "transition"


def test_a_local_rollback_takes_effect_when_it_was_made(world: World) -> None:
    onto = two(world)
    made = reasoned(world, onto, 1, issued_at=format_utc(AT))
    world.wall.forward(hours=3)
    index = enter(world, made)
    assert enter(world, made) == index
    known = model(world).flip
    assert (known.effective_at, known.recorded_at) == (format_utc(AT), format_utc(AT + timedelta(hours=3)))
    assert (known.digest, known.target) == (made.digest, 1)
    assert verified(world)


@pytest.mark.parametrize(("late", "lag"), [(timedelta(days=30), timedelta(days=7)), (timedelta(-1), timedelta(0))])
def test_a_rollback_entered_very_late_or_from_a_clock_ahead_counts_from_the_limit(
    world: World, late: timedelta, lag: timedelta
) -> None:
    onto = two(world)
    made = reasoned(world, onto, 1, issued_at=format_utc(world.wall.now() - late))
    enter(world, made)
    known = model(world).flip
    assert known.effective_at == format_utc(world.wall.now() - lag)
    assert verified(world)


def test_in_a_replay_root_a_flip_takes_effect_at_the_replay_clock(tmp_path: Any) -> None:
    clock = Ticking(AT - timedelta(days=5_000))
    world = World(tmp_path, kind="replay", clock=clock)
    enter(world, reasoned(world, two(world), 1))
    assert model(world).flip.effective_at == format_utc(clock.at)
    world.registry.close()


def test_only_flips_may_be_recorded_later_than_they_took_effect(world: World) -> None:
    from ml_platform.registry.events import Event

    one(world)
    body = {"alert": "a1", "rule": "psi", "severity": "P2", "version": None, "window": "w", "subject": None}
    event = Event("alert_raised", {**body, "evidence": EVIDENCE}, MODEL, AT - timedelta(seconds=1))
    with pytest.raises(DeclarationError, match="effective_at"):
        world.registry._log.append([event])


@pytest.mark.parametrize(
    ("target", "changes", "error", "field"),
    [
        (3, {}, IllegalTransition, "target"),
        (1, {"route": "sha256:" + "1" * 64}, Conflict, "route"),
        (1, {"artifact": World.artifact(9)}, Tampered, "flip"),
        (1, {"model": "churn"}, Tampered, "flip"),
        (1, {"root_id": "ff" * 16}, Tampered, "flip"),
    ],
)
def test_a_flip_that_the_route_does_not_allow_is_refused(
    world: World, target: int, changes: dict[str, Any], error: type[PlatformError], field: str
) -> None:
    onto = two(world)
    with pytest.raises(error) as caught:
        enter(world, reasoned(world, onto, target, **changes))
    assert caught.value.field == field


def test_a_later_flip_has_a_higher_counter(world: World) -> None:
    onto = two(world)
    enter(world, reasoned(world, onto, 1, counter=2))
    with pytest.raises(Conflict, match="counter"):
        enter(world, reasoned(world, onto, 2, counter=2))
    enter(world, reasoned(world, onto, 2, counter=3))
    assert model(world).flip.target == 2


def test_the_next_route_must_end_the_flip(world: World) -> None:
    onto = two(world)
    made = reasoned(world, onto, 1)
    enter(world, made)
    world.move(1, "rollback", "production")
    settled = {"arms": arms(1), "allowed_rollbacks": allowed(2)}
    with pytest.raises(Conflict, match="supersedes_flip"):
        apply(world, after(onto, **settled))
    apply(world, after(onto, **settled, supersedes_flip=made.digest), model(world).last_transition)
    assert model(world).flip is None
    assert model(world).route.rollbacks == (2,)
    assert verified(world)


def decide(world: World, decision: str, share_bp: int, evidence: str = EVIDENCE, version: int = 2) -> int:
    return world.registry.decide_rollout(
        MODEL, version=version, decision=decision, share_bp=share_bp, evidence=evidence, actor="service"
    )


def test_a_canary_advances_holds_and_goes_back(world: World) -> None:
    before = with_canary(world)
    assert model(world).rollout.version == 2
    assert model(world).rollout.steps == ()
    first = decide(world, "hold", 500)
    assert decide(world, "hold", 500) == first
    assert decide(world, "hold", 500, "sha256:" + "a" * 64) != first
    decide(world, "advance", 2_500)
    apply(world, after(before, arms=arms(1, 2, 2_500)))
    decide(world, "ask", 2_500)
    decide(world, "advance", 10_000)
    decide(world, "rollback", 0)
    assert [step.share_bp for step in model(world).rollout.steps] == [500, 500, 2_500, 2_500, 10_000, 0]
    assert verified(world)


def test_a_canary_that_no_route_names_has_no_share(world: World) -> None:
    world.version(1)
    world.to_canary(1)
    decide(world, "hold", 0, version=1)
    with pytest.raises(DeclarationError, match="share_bp"):
        decide(world, "hold", 1, version=1)


@pytest.mark.parametrize(
    ("decision", "share"),
    [("advance", 500), ("advance", 499), ("advance", 10_001), ("hold", 501), ("ask", 499), ("rollback", 1)],
)
def test_a_share_that_does_not_fit_the_decision_is_refused(world: World, decision: str, share: int) -> None:
    with_canary(world)
    with pytest.raises(DeclarationError, match="share_bp"):
        decide(world, decision, share)


def test_only_the_version_in_canary_is_decided_about(world: World) -> None:
    with_canary(world)
    with pytest.raises(IllegalTransition, match="version"):
        decide(world, "hold", 500, version=1)


def test_a_promotion_without_a_route_is_reversed_and_its_approvals_may_be_used_again(world: World) -> None:
    with_canary(world)
    world.approve(2, "canary", "production")
    moved = world.move(2, "promote", "production")
    undo = {"transition": moved.index, "actor": "officer:ann", "reason": "The disk was full."}
    world.registry.reverse_transition(MODEL, **undo)
    known = model(world)
    assert (known.production, known.canary) == (1, 2)
    assert (known.version(1).stage, known.version(2).stage) == ("production", "canary")
    assert known.version(2).productions == ()
    assert verified(world)
    with pytest.raises(Conflict, match="transition"):
        world.registry.reverse_transition(MODEL, **undo)
    world.move(2, "promote", "production")
    assert model(world).production == 2
    assert verified(world)


def test_a_reversed_promotion_gives_no_way_back_to_the_version(world: World) -> None:
    with_canary(world)
    world.approve(2, "canary", "production")
    moved = world.move(2, "promote", "production")
    world.registry.reverse_transition(MODEL, transition=moved.index, actor="officer:ann", reason="The disk was full.")
    world.move(2, "archive", "archived")
    with pytest.raises(IllegalTransition, match="never held production"):
        world.move(2, "restore", "production")


def test_a_first_promotion_is_reversed_to_nothing_in_production(world: World) -> None:
    world.version(1)
    world.to_production(1)
    index = model(world).last_transition
    world.registry.reverse_transition(MODEL, transition=index, actor="officer:ann", reason="The disk was full.")
    assert (model(world).production, model(world).canary) == (None, 1)
    assert verified(world)


def test_approvals_of_a_reversed_move_count_for_one_more(world: World) -> None:
    world.version(1)
    world.move(1, "stage", "staging")
    world.approve(1, "staging", "canary")
    first = world.move(1, "promote", "canary")
    world.registry.reverse_transition(MODEL, transition=first.index, actor="officer:ann", reason="Triton went away.")
    world.move(1, "promote", "canary")
    world.move(1, "archive", "archived")
    world.move(1, "stage", "staging")
    with pytest.raises(PlatformError) as caught:
        world.move(1, "promote", "canary")
    assert not isinstance(caught.value, ApprovalMissing)
    assert caught.value.field == "approvals"


def test_what_a_route_rests_on_is_not_reversed(world: World) -> None:
    one(world)
    with pytest.raises(Conflict, match="transition"):
        world.registry.reverse_transition(
            MODEL, transition=model(world).last_transition, actor="officer:ann", reason="No."
        )


def test_only_promotions_are_reversed(world: World) -> None:
    world.version(1)
    moved = world.move(1, "stage", "staging")
    with pytest.raises(IllegalTransition, match="transition"):
        world.registry.reverse_transition(MODEL, transition=moved.index, actor="officer:ann", reason="No.")


def test_an_earlier_view_shows_the_route_and_flip_of_that_time(world: World) -> None:
    onto = two(world)
    world.wall.forward(hours=1)
    made = reasoned(world, onto, 1, issued_at=format_utc(world.wall.now()))
    world.wall.forward(hours=1)
    enter(world, made)
    then = world.registry.state(at=AT + timedelta(minutes=90)).model(MODEL)
    assert then.flip is not None
    assert then.flip.target == 1
    assert world.registry.state(at=AT + timedelta(minutes=30)).model(MODEL).flip is None
