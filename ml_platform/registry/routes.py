"""Rules for routes, local rollbacks and rollouts: what serves follows from the log. Pure, evidence as an argument."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Final

from ml_platform.core.errors import Conflict, DeclarationError, IllegalTransition, Tampered
from ml_platform.registry.events import Entry
from ml_platform.registry.flip import open_flip
from ml_platform.registry.judging import Judging
from ml_platform.registry.route import ALL_BP, PRIMARY, Route, open_route
from ml_platform.registry.state import ModelState, State
from ml_platform.registry.transitions import why_not_back

__all__ = ["MAX_FLIP_LAG", "check_applied", "check_decided", "check_flipped", "share_now"]

MAX_FLIP_LAG: Final = timedelta(days=7)  # of the entry behind the flip: the registry may be away that long


def check_applied(state: State, entry: Entry, judging: Judging) -> None:
    """A route follows the one before, ends the flip that there was, and names versions in their stages.

    Raises:
        Conflict: it does not follow the newest route, or leaves a local rollback standing.
        Tampered: the signed file says something else, or the service key did not sign it.
        IllegalTransition: a version may not serve in that arm, or not be rolled back to.
    """
    body, model = entry.body, state.model(str(entry.model))
    before = model.route
    if (body["epoch"], body["previous"]) != ((before.epoch + 1, before.digest) if before else (1, None)):
        raise Conflict(
            "The route does not follow the newest one.", field="epoch", next_step="Make it again from the state now."
        )
    if body["supersedes_flip"] != (model.flip.digest if model.flip else None):
        raise Conflict(
            "The route does not end the local rollback that stands, or ends one that the log does not know.",
            field="supersedes_flip",
            next_step="Enter the rollback first, then make the route again.",
        )
    if body["transition"] is not None and body["transition"] != model.last_transition:
        raise Conflict(
            "The route rests on another transition than the newest.",
            field="transition",
            next_step="Make it again from the state now.",
        )
    signed = open_route(judging.evidence.read(body["route"]), state.genesis.service_key if state.genesis else "")
    _require_same(state, model, entry, signed.route, signed.digest)
    _require_stages(model, signed.route)
    for one in signed.route.allowed_rollbacks:
        why = why_not_back(state, model, one.version)
        if why is not None or one.version == signed.route.primary.version:
            raise IllegalTransition(
                f"Version {one.version} may not be rolled back to: {why or 'it is the one that serves.'}",
                field="rollbacks",
                next_step="Allow only versions that held production under approvals that stand.",
            )


def _require_same(state: State, model: ModelState, entry: Entry, route: Route, digest: str) -> None:
    """The entry says what the signed file says, about versions as they were registered."""
    body = entry.body
    arms = [{name: value for name, value in asdict(arm).items() if name != "artifact"} for arm in route.arms]
    said = {
        "digest": digest,
        "epoch": route.epoch,
        "previous": route.previous,
        "arms": arms,
        "rollbacks": [one.version for one in route.allowed_rollbacks],
        "supersedes_flip": route.supersedes_flip,
    }
    wrong = next((name for name, value in said.items() if body[name] != value), None)
    if wrong is None and (route.model, route.root_id) != (model.name, state.genesis.root_id if state.genesis else ""):
        wrong = "route"
    if wrong is None and route.log_index >= entry.index:
        wrong = "log_index"
    for version, artifact in route.named:
        if wrong is None and model.version(version).digests.artifact != artifact:
            wrong = "artifact"
    if wrong is not None:
        raise Tampered(
            "The signed route and its entry, or the versions that it names, differ.",
            field=wrong,
            next_step="Make the route again from the state now.",
        )


def _require_stages(model: ModelState, route: Route) -> None:
    for arm in route.arms:
        held = model.production if arm.arm == PRIMARY else model.canary
        if arm.version != held:
            raise IllegalTransition(
                f"Version {arm.version} does not hold the stage of the arm {arm.arm}.",
                field="arms",
                next_step="`primary` is the version in production; every other arm is the canary.",
            )


def check_flipped(state: State, entry: Entry, judging: Judging) -> None:
    """A local rollback went to a version that its route allowed, after every earlier one of that route.

    Raises:
        Conflict: the route is not the newest, or a later flip of it was entered.
        IllegalTransition: the route does not allow the version.
        Tampered: the flip's file says something else.
    """
    body, model = entry.body, state.model(str(entry.model))
    route = model.route
    if route is None or route.digest != body["route"]:
        raise Conflict("The flip outranks another route than the newest.", field="route", next_step="Roll back again.")
    if model.flip is not None and body["counter"] <= model.flip.counter:
        raise Conflict("A later flip of this route was entered.", field="counter", next_step="Roll back again.")
    if not route.may_flip_to(body["target"]):
        raise IllegalTransition(
            f"The route does not allow a rollback to version {body['target']}.",
            field="target",
            next_step="`mlp route` shows the allowed rollbacks.",
        )
    flip = open_flip(judging.evidence.read(body["flip"]))
    artifact = model.version(flip.target).digests.artifact
    said = {
        "digest": flip.digest,
        "route": flip.route,
        "target": flip.target,
        "counter": flip.counter,
        "actor": flip.principal,
        "reason": flip.reason_digest,
    }
    root = state.genesis.root_id if state.genesis else ""
    same = (flip.model, flip.root_id, flip.artifact) == (model.name, root, artifact)
    if not same or any(body[name] != value for name, value in said.items()):
        raise Tampered(
            "The flip's file and its entry, or the version that it names, differ.",
            field="flip",
            next_step="Enter the file that lies in the serving folder.",
        )


def check_decided(state: State, entry: Entry, _: Judging) -> None:
    """A decision is about the version in canary; only `advance` raises its share, and `rollback` takes it all.

    Raises:
        IllegalTransition: the version is not in canary.
        DeclarationError: share and decision contradict each other.
    """
    body, model = entry.body, state.model(str(entry.model))
    if model.canary is None or model.canary != body["version"]:
        raise IllegalTransition(
            f"Version {body['version']} is not in canary.",
            field="version",
            next_step="Decide about the version that is.",
        )
    now, share = share_now(model), body["share_bp"]
    legal = {
        "advance": now < share <= ALL_BP,
        "hold": share == now,
        "ask": share == now,
        "rollback": share == 0,
    }
    if not legal[body["decision"]]:
        raise DeclarationError(
            f"The canary has {now} of {ALL_BP}: this share does not fit the decision.",
            field="share_bp",
            next_step="Advance to more, hold or ask at the same share, roll back to 0.",
        )


def share_now(model: ModelState) -> int:
    """The canary's share of the units by the route in force, in basis points; 0 while no route gives it any."""
    if model.route is None:
        return 0
    return sum(arm.share_bp for arm in model.route.arms if arm.arm != PRIMARY and arm.version == model.canary)
