"""The route follows the log: promotions, shares, rollbacks; whatever fails or dies between, the two agree again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ml_platform import Platform, lifecycle
from ml_platform.core.errors import (
    ApprovalMissing,
    Conflict,
    DeclarationError,
    IllegalTransition,
    NotFound,
    PlatformError,
    ServerUnavailable,
    StorageFailed,
)
from ml_platform.registry.routefolder import RouteFolder
from tests.lifecycle.routed import BY, MODEL, Machine, Shop, artifact, new_platform, opened


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(new_platform(tmp_path / "root"))
    yield made
    made.platform.registry.close()


@pytest.fixture
def two(shop: Shop) -> Shop:
    """Version 2 in production after version 1."""
    shop.to_production()
    shop.to_production()
    return shop


def settings(shop: Shop) -> Path:
    return shop.platform.root / "settings.toml"


# -- promotion -----------------------------------------------------------------------------------------------------


def test_nothing_is_routed_before_a_version_is_in_production(shop: Shop) -> None:
    version = shop.to_canary()
    assert shop.model.route is None
    with pytest.raises(NotFound, match="route"):
        lifecycle.show_route(settings(shop), MODEL)
    shop.promote(version, "production")
    assert shop.shares() == {1: 10_000}
    assert shop.allowed() == []
    assert shop.verified()


def test_a_canary_begins_with_the_first_step_of_its_plan_and_then_takes_all(shop: Shop) -> None:
    shop.to_production()
    version = shop.to_canary()
    assert shop.shares() == {1: 9_500, 2: 500}
    shop.promote(version, "production")
    assert (shop.shares(), shop.allowed()) == ({2: 10_000}, [1])
    assert shop.verified()


def test_a_plan_without_steps_gives_a_canary_no_share_until_it_is_set(shop: Shop) -> None:
    shop.to_production()
    shop.to_canary(shop.version(rollout=None))
    assert shop.shares() == {1: 10_000}
    assert lifecycle.set_share(shop.platform, MODEL, 100, principal="ada").epoch == 2
    assert shop.shares() == {1: 9_900, 2: 100}


def test_a_route_rests_on_its_transition_and_is_entered_with_who_asked(two: Shop) -> None:
    route, signed = two.model.route, two.routed.route
    assert route is not None
    assert route.transition == signed.log_index == two.model.last_transition
    assert (route.actor, route.digest, route.index) == ("ada", signed.digest, route.transition + 1)


def test_the_same_promotion_again_changes_nothing(two: Shop) -> None:
    size = two.platform.registry.state().size
    again = lifecycle.promote(two.platform, MODEL, 2, "production", **BY)
    assert again.log_index == two.model.last_transition
    assert two.platform.registry.state().size == size


def test_versions_are_loaded_before_and_taken_out_after(shop: Shop) -> None:
    machine = Machine()
    for _ in range(5):
        shop.to_production(server=machine)
    assert shop.allowed() == [4, 3, 2]
    assert machine.loaded == {number: artifact(number) for number in (1, 2, 3, 4, 5)}  # 1: a router may follow it yet
    shop.to_production(server=machine)
    assert machine.loaded == {number: artifact(number) for number in (2, 3, 4, 5, 6)}


def test_a_staged_version_is_never_taken_out(shop: Shop) -> None:
    machine = Machine()
    shop.to_production(server=machine)
    waiting = shop.version()
    lifecycle.stage(shop.platform, MODEL, waiting, **BY)
    assert waiting not in machine.retired


def test_a_promotion_while_the_server_is_away_changes_nothing(shop: Shop) -> None:
    shop.to_production()
    version = shop.to_canary()
    shop.approve(version, "production")
    shares, epoch = shop.shares(), shop.routed.epoch
    with pytest.raises(ServerUnavailable):
        lifecycle.promote(shop.platform, MODEL, version, "production", **BY, server=Machine(away=True))
    assert (shop.model.production, shop.model.canary) == (1, 2)
    assert (shop.shares(), shop.routed.epoch) == (shares, epoch)
    lifecycle.promote(shop.platform, MODEL, version, "production", **BY, server=Machine())
    assert shop.shares() == {2: 10_000}


def test_a_server_that_was_started_and_does_not_answer_stops_a_promotion(shop: Shop) -> None:
    shop.to_production()
    version = shop.to_canary()
    (shop.platform.root / "serving" / "boot.json").write_text(json.dumps({"pid": 0}))
    shop.approve(version, "production")
    with pytest.raises(ServerUnavailable, match="mlp serve"):
        lifecycle.promote(shop.platform, MODEL, version, "production", **BY)
    assert shop.model.production == 1
    assert shop.verified()


def full(*_: object, **__: object) -> None:
    raise StorageFailed("The disk is full.", field="serving", next_step="Free space.")


def test_where_the_route_cannot_be_written_the_promotion_is_reversed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.to_production()
    version = shop.to_canary()
    shop.approve(version, "production")
    with monkeypatch.context() as broken:
        broken.setattr("ml_platform.registry.routefolder.write_atomically", full)
        with pytest.raises(StorageFailed, match="full"):
            lifecycle.promote(shop.platform, MODEL, version, "production", **BY)
    assert (shop.model.production, shop.model.canary) == (1, 2)
    assert shop.shares() == {1: 9_500, 2: 500}
    assert shop.verified()
    lifecycle.promote(shop.platform, MODEL, version, "production", **BY)  # under the same approvals
    assert shop.shares() == {2: 10_000}
    assert shop.verified()


def test_a_promotion_during_a_local_rollback_is_reversed_and_the_rollback_stands(
    two: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody rolls back after the promotion was announced and before its route was written."""
    version = two.to_canary()
    two.approve(version, "production")
    real = two.platform.registry.transition

    def meanwhile(*given: object, **named: object) -> object:
        made = real(*given, **named)
        two.files.turn(1, principal="bob", reason_digest="sha256:" + "0" * 64, at=two.platform.wall.now())
        return made

    with monkeypatch.context() as patched:
        patched.setattr(two.platform.registry, "transition", meanwhile)
        with pytest.raises(Conflict, match="supersedes_flip"):
            lifecycle.promote(two.platform, MODEL, version, "production", **BY)
    assert two.model.production == 2
    assert two.shares() == {1: 10_000}
    lifecycle.settle(two.platform, MODEL, server=None)
    assert (two.model.production, two.model.canary, two.shares()) == (1, 3, {1: 10_000})


# -- shares --------------------------------------------------------------------------------------------------------


def test_units_keep_their_arm_when_the_share_grows_and_another_canary_gets_other_units(shop: Shop) -> None:
    shop.to_production()
    shop.to_canary()
    first = shop.routed.route.salt
    made = lifecycle.set_share(shop.platform, MODEL, 2_500, principal="ada")
    assert (made.version, made.share_bp, made.epoch) == (2, 2_500, 3)
    assert shop.shares() == {1: 7_500, 2: 2_500}
    assert shop.routed.route.salt == first
    assert lifecycle.set_share(shop.platform, MODEL, 2_500, principal="ada") == made
    lifecycle.archive(shop.platform, MODEL, 2, **BY)
    shop.to_canary()
    assert shop.routed.route.salt != first


@pytest.mark.parametrize("share", [0, -1, 10_000])
def test_a_share_is_neither_nothing_nor_all(shop: Shop, share: int) -> None:
    shop.to_production()
    shop.to_canary()
    with pytest.raises(DeclarationError, match="share"):
        lifecycle.set_share(shop.platform, MODEL, share, principal="ada")


def test_without_a_canary_or_production_there_is_no_share(shop: Shop) -> None:
    shop.to_canary()
    with pytest.raises(IllegalTransition, match="production"):
        lifecycle.set_share(shop.platform, MODEL, 500, principal="ada")
    shop.promote(1, "production")
    with pytest.raises(IllegalTransition, match="canary"):
        lifecycle.set_share(shop.platform, MODEL, 500, principal="ada")


def test_an_archived_canary_loses_its_units_at_once(shop: Shop) -> None:
    shop.to_production()
    version = shop.to_canary()
    made = lifecycle.archive(shop.platform, MODEL, version, **BY)
    assert made.flip is not None
    assert shop.shares() == {1: 10_000}
    assert (shop.model.canary, shop.model.flip, shop.routed.flip) == (None, None, None)
    assert lifecycle.archive(shop.platform, MODEL, version, **BY).log_index == made.log_index
    assert shop.verified()


# -- rollback ------------------------------------------------------------------------------------------------------


def test_a_rollback_flips_then_enters_and_forward_again(two: Shop) -> None:
    back = lifecycle.rollback(two.platform, MODEL, **BY)
    assert (back.version, back.archived, back.pending) == (1, 2, None)
    assert back.flip is not None
    assert (two.model.production, two.shares(), two.allowed()) == (1, {1: 10_000}, [2])
    assert two.routed.route.supersedes_flip == back.flip
    forward = lifecycle.restore(two.platform, MODEL, 2, **BY)
    assert (forward.version, forward.archived) == (2, 1)
    assert (two.model.production, two.shares(), two.allowed()) == (2, {2: 10_000}, [1])
    actions = [move.action for move in two.model.version(2).history]
    assert actions == ["stage", "promote", "promote", "rollback", "restore"]
    assert two.verified()
    assert not list(two.files.folder.glob("reason-*"))


def test_a_rollback_asked_twice_by_version_is_one(two: Shop) -> None:
    first = lifecycle.rollback(two.platform, MODEL, to_version=1, **BY)
    again = lifecycle.rollback(two.platform, MODEL, to_version=1, **BY)
    assert again.log_index == first.log_index
    with pytest.raises(IllegalTransition, match="No earlier version"):
        lifecycle.rollback(two.platform, MODEL, **BY)


def test_a_rollback_past_the_allowed_ones_goes_the_whole_way(shop: Shop) -> None:
    machine = Machine()
    for _ in range(5):
        shop.to_production(server=machine)
    assert 1 not in shop.allowed()
    machine.loaded.clear()
    made = lifecycle.rollback(shop.platform, MODEL, to_version=1, **BY, server=machine)
    assert (made.version, made.flip) == (1, None)
    assert shop.shares() == {1: 10_000}
    assert 1 in machine.loaded
    assert shop.verified()


def test_a_reason_is_needed_and_an_impossible_rollback_changes_nothing(two: Shop) -> None:
    size = two.platform.registry.state().size
    for act in (lifecycle.rollback, lambda *given, **named: lifecycle.restore(*given, 2, **named)):
        with pytest.raises(ApprovalMissing, match="reason"):
            act(two.platform, MODEL, principal="ada", reason=" ")
    with pytest.raises(NotFound, match="no version 9"):
        lifecycle.rollback(two.platform, MODEL, to_version=9, **BY)
    with pytest.raises(PlatformError):
        lifecycle.restore(two.platform, MODEL, 1, **BY)
    with pytest.raises(NotFound):
        lifecycle.rollback(two.platform, "churn", **BY)
    assert two.platform.registry.state().size == size
    assert two.shares() == {2: 10_000}


def test_a_rollback_takes_the_canary_out_too(two: Shop) -> None:
    two.to_canary()
    lifecycle.rollback(two.platform, MODEL, **BY)
    assert two.shares() == {1: 10_000}
    assert two.model.canary == 3
    assert two.verified()


def away(shop: Shop) -> Path:
    """The registry's database is somewhere else."""
    shop.platform.registry.close()
    database = shop.platform.root / "registry.sqlite"
    for suffix in ("", "-wal", "-shm"):
        file = database.with_name(database.name + suffix)
        if file.exists():
            file.rename(shop.platform.root / f"aside{suffix}")
    return database


def back(shop: Shop) -> Shop:
    for suffix in ("", "-wal", "-shm"):
        file = shop.platform.root / f"aside{suffix}"
        if file.exists():
            file.rename(shop.platform.root / f"registry.sqlite{suffix}")
    return Shop(opened(Platform.local(shop.platform.root)))


def test_without_the_registry_a_rollback_stands_and_is_entered_later(two: Shop) -> None:
    database = away(two)
    made = lifecycle.rollback(settings(two), MODEL, **BY)
    assert (made.version, made.log_index) == (1, None)
    assert made.pending is not None
    assert "registry" in made.pending
    assert not database.exists()
    assert (two.shares(), two.routed.flip_digest) == ({1: 10_000}, made.flip)
    shown = lifecycle.show_route(settings(two), MODEL)
    assert (shown["flip"]["target"], shown["flip"]["reason"], "away" in shown["registry"]) == (1, BY["reason"], True)
    assert lifecycle.rollback(settings(two), MODEL, **BY).flip == made.flip
    again = back(two)
    (moved,) = lifecycle.enter_pending_flips(again.platform)
    assert (moved.version, again.model.production) == (1, 1)
    assert lifecycle.enter_pending_flips(again.platform) == []
    assert (again.shares(), again.routed.flip) == ({1: 10_000}, None)
    entries = [entry for entry in again.platform.registry.entries() if entry.kind == "route_flipped"]
    assert entries[0].effective_at < entries[0].recorded_at
    assert again.verified()
    again.platform.registry.close()


def test_forward_and_back_without_the_registry_enters_the_last_flip(two: Shop) -> None:
    away(two)
    lifecycle.rollback(settings(two), MODEL, **BY)
    lifecycle.restore(settings(two), MODEL, 2, **BY)
    assert two.shares() == {2: 10_000}
    again = back(two)
    assert lifecycle.enter_pending_flips(again.platform) == []
    assert (again.model.production, again.routed.flip, again.shares()) == (2, None, {2: 10_000})
    assert again.verified()
    again.platform.registry.close()


def test_the_next_promotion_enters_the_rollback_first(two: Shop) -> None:
    version = two.to_canary()
    away(two)
    lifecycle.rollback(settings(two), MODEL, **BY)
    again = back(two)
    again.approve(version, "production")
    with pytest.raises(PlatformError, match="version 1 is in production"):
        lifecycle.promote(again.platform, MODEL, version, "production", **BY)
    assert (again.model.production, again.shares()) == (1, {1: 10_000})
    again.platform.registry.close()


def test_a_rollback_that_the_registry_no_longer_allows_stands_and_is_said(two: Shop) -> None:
    payload = two.model.version(1).history[-2].approvals[0]
    order = two.platform.registry.order("revoke_approval", {"model": MODEL, "payload": payload})
    from ml_platform.registry import load_signer, sign

    key = load_signer(two.platform.secrets.path("people") / "bob")
    signatures = {"bob": sign(key, order, "revoke_approval@ml-platform")}
    two.platform.registry.revoke_approval(order, signatures=signatures)
    with pytest.raises(PlatformError, match="approvals"):
        lifecycle.rollback(two.platform, MODEL, **BY)
    assert two.shares() == {1: 10_000}
    assert two.model.production == 2
    # The way out is forward again.
    lifecycle.restore(two.platform, MODEL, 2, **BY)
    assert (two.shares(), two.model.production, two.allowed()) == ({2: 10_000}, 2, [])
    assert two.verified()


# -- one of the two is lost ----------------------------------------------------------------------------------------


def test_lost_route_files_are_written_again_from_the_log(two: Shop) -> None:
    import shutil

    shutil.rmtree(two.platform.root / "serving")
    lifecycle.settle(two.platform, MODEL, server=None)
    assert two.shares() == {2: 10_000}


def test_an_older_registry_than_the_routes_is_said(two: Shop, tmp_path: Path) -> None:
    aside = RouteFolder(two.files.folder, two.files.pin)
    newest = aside.route()
    fresh = Shop(new_platform(tmp_path / "other"))
    fresh.to_production()
    two.platform.registry.close()
    with pytest.raises(PlatformError):
        RouteFolder(fresh.files.folder, fresh.files.pin).write(newest)
    fresh.platform.registry.close()


def test_a_root_from_before_there_were_routes_gets_one(two: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A promotion that died before its route, without any file: as in a root that an older version made."""
    import shutil

    version = two.to_canary()
    two.approve(version, "production")
    two.platform.registry.transition(MODEL, version, "promote", to="production", actor="ada", reason="Before.")
    shutil.rmtree(two.platform.root / "serving")
    lifecycle.settle(two.platform, MODEL, server=None)
    assert two.shares() == {3: 10_000}
    assert two.verified()


# -- killed --------------------------------------------------------------------------------------------------------


def driven(folder: Path, act: str, repository: Path) -> list[dict[str, Any]]:
    driver = [sys.executable, "-m", "tests.lifecycle.route_crash_driver", str(folder), act]
    done = subprocess.run(driver, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("act", "before", "after"),
    [
        ("canary", {"1": 10_000}, {"1": 9_500, "2": 500}),
        ("production", {"1": 9_500, "2": 500}, {"2": 10_000}),
        ("rollback", {"2": 10_000}, {"1": 10_000}),
        ("share", {"1": 9_500, "2": 500}, {"1": 7_500, "2": 2_500}),
        ("archive", {"1": 9_500, "2": 500}, {"1": 10_000}),
    ],
)
def test_killed_at_any_step_the_same_command_completes(
    tmp_path: Path, repository: Path, act: str, before: dict[str, int], after: dict[str, int]
) -> None:
    runs = driven(tmp_path, act, repository)
    assert len(runs) > 5
    between = {json.dumps(run["between"]["shares"]) for run in runs}
    assert json.dumps(after) in between
    assert between <= {json.dumps(before), json.dumps(after)}
    for run in runs:
        assert (run["after"]["shares"], run["after"]["agree"], run["after"]["refused"]) == (after, True, False)
        assert run["verified"]


def test_many_people_at_once_leave_one_consistent_route(tmp_path: Path, repository: Path) -> None:
    """Whoever is last decides; log and file agree."""
    (run,) = driven(tmp_path, "many", repository)
    assert set(run["codes"]) <= {0, 3}
    assert run["after"]["shares"] == {str(run["after"]["production"]): 10_000}
    assert run["after"]["agree"]
    assert run["verified"]
