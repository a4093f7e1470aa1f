"""Versions are loaded once, warm, before they are asked, and forgotten when no route names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml_platform.core.errors import NotFound
from ml_platform.core.objects import ObjectStore
from ml_platform.registry.routefile import RouteFile
from ml_platform.serving.scorer import Scorer
from ml_platform.serving.served import Versions, request_names
from tests.registry.world import AT, ROOT_ID
from tests.serving.router_support import (
    FIRST,
    MODEL,
    SECOND,
    OnlineRoot,
    first_parts,
    make_online_root,
    request,
    second_parts,
)


@pytest.fixture(scope="module")
def both_parts() -> tuple[dict[str, bytes], dict[str, bytes]]:
    return first_parts(), second_parts()


@pytest.fixture
def world(tmp_path: Path, both_parts: tuple[dict[str, bytes], dict[str, bytes]]) -> OnlineRoot:
    return make_online_root(tmp_path / "root", *both_parts)


def versions(world: OnlineRoot, loads: list[str], warmed: list[str]) -> Versions:
    class Watched(Scorer):
        def warm(self) -> None:
            warmed.append(self.artifact_digest)
            super().warm()

    def load(digest: str) -> Scorer:
        loads.append(digest)
        return Watched.load(ObjectStore(world.settings.objects), digest)

    return Versions(load, root_id=ROOT_ID, model=MODEL, clock="replay", writer="router-x", longest_text=64)


def test_what_a_route_names_is_loaded_once_and_warmed_and_a_flip_loads_nothing(world: OnlineRoot) -> None:
    loads: list[str] = []
    warmed: list[str] = []
    held = versions(world, loads, warmed)
    route = world.route(arms=world.arms(2), allowed_rollbacks=world.allowed(1))
    world.routes.write(route)
    file = RouteFile(world.routes)
    assert held.serve(file.current()).primary.version == 2
    assert loads == warmed == [world.artifacts[2], world.artifacts[1]]
    world.routes.turn(1, principal="officer:ann", reason_digest="sha256:" + "0" * 64, at=AT)
    flipped = held.serve(file.current())
    assert (flipped.primary.version, len(flipped.arms), len(loads)) == (1, 1, 2)
    # A version that no route names any more is forgotten.
    flip = file.current().flip_digest
    world.routes.write(world.route(route, arms=world.arms(1), supersedes_flip=flip))
    held.serve(file.current())
    assert list(held._scorers) == [world.artifacts[1]]


def test_each_version_ignores_the_fields_of_the_others_that_are_loaded(world: OnlineRoot) -> None:
    world.routes.write(world.route(arms=world.arms(1), allowed_rollbacks=world.allowed(2)))
    served = versions(world, [], []).serve(RouteFile(world.routes).current())
    assert served.primary.contract.entity_keys(request(1)) is not None  # `debt` is version 2's
    following = world.route(world.routes.route(), arms=world.arms(1))
    world.routes.write(following)
    served = versions(world, [], []).serve(RouteFile(world.routes).current())
    assert served.primary.contract.entity_keys(request(1)) is None


def test_a_version_that_is_gone_is_said_and_what_is_loaded_stays(world: OnlineRoot) -> None:
    loads: list[str] = []
    held = versions(world, loads, [])
    first = world.route()
    world.routes.write(first)
    file = RouteFile(world.routes)
    held.serve(file.current())
    (world.root / "store" / "artifacts" / f"{world.artifacts[2].removeprefix('sha256:')}.json").unlink()
    world.routes.write(world.route(first, arms=world.arms(2)))
    with pytest.raises(NotFound):
        held.serve(file.current())
    assert list(held._scorers) == [world.artifacts[1]]


def test_the_tensors_of_a_version_are_keys_time_inputs_and_their_nulls() -> None:
    inputs = {"amount", "income", "term", "grade"}
    own = {"loan_id", "applied_at", *inputs, *(f"{name}.null" for name in inputs)}
    assert request_names(FIRST) == own
    assert request_names(SECOND) == own | {"debt", "debt.null"}
