"""Stages: staging, promotion, rollback, restore, archive; the route follows each move, or leads it away from harm.

What gives requests to a version is announced, loaded and proven, written, and only then routed; what takes them away
is flipped first and written after. A death between is completed by the next command.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_platform.core.clock import WallClock
from ml_platform.core.errors import Conflict, IllegalTransition, IntegrityError, SettingsError, StorageFailed
from ml_platform.core.settings import load_settings
from ml_platform.lifecycle.flipping import Direction, flip_route, moving, require_reason
from ml_platform.lifecycle.routing import (
    Server,
    composed,
    enter_route,
    prepare,
    route_files,
    running_server,
    set_route,
    settle,
    settled,
)
from ml_platform.platform import Platform
from ml_platform.registry.composition import CANARY
from ml_platform.registry.flip import Flip
from ml_platform.registry.registry import TransitionResult

__all__ = ["Transitioned", "archive", "promote", "restore", "rollback", "stage"]


@dataclass(frozen=True)
class Transitioned:
    """A change of stage; ``archived`` is the version that it displaced, if any.

    ``flip`` is the digest of the local rollback that came first. ``pending`` says why the registry does not have it
    yet: then ``log_index`` is None, and the next command that writes enters it.
    """

    model: str
    version: int
    source: str
    to: str
    archived: int | None
    log_index: int | None
    flip: str | None = None
    pending: str | None = None

    @classmethod
    def of(cls, result: TransitionResult, flip: Flip | None = None) -> Transitioned:
        digest = None if flip is None else flip.digest
        return cls(result.model, result.version, result.source, result.to, result.displaced, result.index, digest)

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "version": self.version,
            "from": self.source,
            "to": self.to,
            "archived": self.archived,
            "log_index": self.log_index,
            "flip": self.flip,
            "pending": self.pending,
        }


def stage(platform: Platform, model: str, version: int, *, principal: str, reason: str) -> Transitioned:
    """Moves a newly trained version to ``staging``. Needs a reason, no approval."""
    require_reason(reason)
    return _already(platform, model, version, "stage", "staging") or Transitioned.of(
        platform.registry.transition(model, version, "stage", to="staging", actor=principal, reason=reason)
    )


def promote(
    platform: Platform, model: str, version: int, to: str, *, principal: str, reason: str, server: Server | None = None
) -> Transitioned:
    """Moves a version to ``canary`` or ``production``; the previous production version is archived.

    In this order: announced with all checks; loaded into the running server and proven by its golden rows; written,
    with all checks again; a checkpoint; the signed route that names it put in force; the route entered. When the route
    cannot be put in force, the move is reversed and the old route stands. A process that dies between leaves what the
    same command completes.

    Args:
        platform: the root.
        model: model name.
        version: version number.
        to: ``canary`` or ``production``.
        principal: who asks.
        reason: why; kept as evidence.
        server: the running server; by default the one that the root says is running, if any.

    Raises:
        ApprovalMissing, ApprovalInvalid, GateFailed, EvaluationStale, PolicyViolation, IllegalTransition: why not.
        ConcurrentTransition: somebody else was first.
        ServerUnavailable: a server was started for this root and does not answer.
        ValidationFailed: the version does not load in it, or scores otherwise than at training.
        Conflict: somebody rolled back meanwhile; the move was reversed.
    """
    require_reason(reason)
    platform.registry.state().version(model, version)
    serving = server or running_server(platform)
    with moving(route_files(platform, model)):
        settled(platform, model, server=serving)
        done = _already(platform, model, version, "promote", to)
        if done is not None:
            return done
        result = platform.registry.transition(
            model,
            version,
            "promote",
            to=to,
            actor=principal,
            reason=reason,
            warm=_warming(platform, serving, model, version),
        )
        _route_promotion(platform, result, principal, serving)
    return Transitioned.of(result)


def _warming(platform: Platform, server: Server | None, model: str, version: int) -> Callable[[], None]:
    def warm() -> None:
        state = platform.registry.state()
        now = composed(platform, state, model)
        if server is not None:
            if now is not None:
                prepare(platform, server, model, now)
            server.prepare(model, version, state.version(model, version).digests.artifact)

    return warm


def _route_promotion(platform: Platform, result: TransitionResult, actor: str, server: Server | None) -> None:
    """Puts in force the route that a promotion asks for; where that fails, the promotion is reversed."""
    model, transition = result.model, result.index
    try:
        state = platform.registry.state()
        composition = composed(platform, state, model)
        if composition is None or composition.routed_by(state.model(model)):
            return
        signed = set_route(platform, model, composition, transition=transition)
    except Exception as error:
        why = f"The route could not be put in force ({type(error).__name__})."
        platform.registry.reverse_transition(model, transition=transition, actor=actor, reason=why)
        raise
    enter_route(platform, model, signed, transition=transition, actor=actor, server=server)


def rollback(
    platform: Platform | Path, model: str, *, to_version: int | None = None, principal: str | None = None, reason: str,
    server: Server | None = None,
) -> Transitioned:  # fmt: skip
    """Puts the version that held production before, or a named earlier one, back into production.

    The route is flipped first, which needs neither registry nor network; then the registry is told. Where it is away,
    the flip stands, and the next command that writes enters it. A version that the route does not allow goes the whole
    way: the registry decides, it is loaded, and a new route is written.

    Args:
        platform: the root, opened; or its settings file: then it is opened after the flip.
        model: model name.
        to_version: which; None: the one that held production before.
        principal: who does it; None: the root's launcher.
        reason: why; kept as evidence.
        server: the running server; by default the one that the root says is running, if any.

    Raises:
        ApprovalMissing: no reason.
        IllegalTransition: no earlier version held production.
        Refused: the registry does not allow the version; a flip that was made stands.
    """
    return _turned(platform, model, "rollback", to_version, principal, reason, server)


def restore(
    platform: Platform | Path, model: str, version: int, *, principal: str | None = None, reason: str,
    server: Server | None = None,
) -> Transitioned:  # fmt: skip
    """Puts a version that was rolled back into production again, under the approvals that it had; as `rollback`."""
    return _turned(platform, model, "restore", version, principal, reason, server)


def _turned(
    opened: Platform | Path, model: str, direction: Direction, to_version: int | None, principal: str | None,
    reason: str, server: Server | None,
) -> Transitioned:  # fmt: skip
    settings = opened.settings if isinstance(opened, Platform) else load_settings(opened)
    who = principal or settings.launcher
    flip = flip_route(
        settings.root,
        model,
        direction=direction,
        to_version=to_version,
        principal=who,
        reason=reason,
        at=WallClock().now(),
    )
    if flip is None:
        return _decided(_opened(opened), model, direction, to_version, who, reason, server)
    try:
        platform = _opened(opened)
        moved = settle(platform, model, server=server or running_server(platform))
        return _entered(platform, model, flip, moved)
    except (StorageFailed, SettingsError, IntegrityError, Conflict) as error:
        return Transitioned(model, flip.target, "archived", "production", None, None, flip.digest, str(error))


def _opened(opened: Platform | Path) -> Platform:
    return opened if isinstance(opened, Platform) else Platform.from_settings(opened)


def _entered(platform: Platform, model: str, flip: Flip, moved: TransitionResult | None) -> Transitioned:
    """What became of a flip in the registry."""
    if moved is not None:
        return Transitioned.of(moved, flip)
    last = platform.registry.state().version(model, flip.target).history[-1]
    return Transitioned(model, flip.target, last.source, last.to, None, last.index, flip.digest)


def _decided(
    platform: Platform, model: str, direction: Direction, to_version: int | None, who: str, reason: str,
    server: Server | None,
) -> Transitioned:  # fmt: skip
    """The whole way, where no flip can lead: decided by the registry, loaded, written, routed."""
    serving = server or running_server(platform)
    version = to_version if to_version is not None else _previous(platform, model)
    platform.registry.state().version(model, version)
    with moving(route_files(platform, model)):
        settled(platform, model, server=serving)
        done = _already(platform, model, version, direction, "production")
        if done is not None:
            return done
        result = platform.registry.transition(
            model,
            version,
            direction,
            to="production",
            actor=who,
            reason=reason,
            warm=_warming(platform, serving, model, version),
        )
        settled(platform, model, server=serving)
    return Transitioned.of(result)


def archive(
    platform: Platform, model: str, version: int, *, principal: str, reason: str, server: Server | None = None
) -> Transitioned:
    """Gives a version up. One in canary loses its units at once, by a flip to the primary, before it is written.

    Raises:
        ApprovalMissing: no reason.
        IllegalTransition: it is in production, or archived already.
    """
    require_reason(reason)
    serving = server or running_server(platform)
    done = _already(platform, model, version, "archive", "archived")
    if done is not None:
        settle(platform, model, server=serving)  # whoever archived it may have died before its route
        return done
    flip = None
    known = platform.registry.state().model(model)
    routed = version == known.canary and known.route is not None and known.route.arm(CANARY) is not None
    if routed and known.route is not None and route_files(platform, model).flip() is None:
        flip = flip_route(
            platform.root,
            model,
            direction="restore",
            to_version=known.route.primary,
            principal=principal,
            reason=reason,
            at=platform.wall.now(),
        )
    result = platform.registry.transition(model, version, "archive", to="archived", actor=principal, reason=reason)
    settle(platform, model, server=serving)
    return Transitioned.of(result, flip)


def _already(platform: Platform, model: str, version: int, action: str, to: str) -> Transitioned | None:
    """The move that was asked for, if it has happened: asked again, after a crash or by hand."""
    known = platform.registry.state().version(model, version)
    if known.stage == to and known.history and known.history[-1].action == action:
        last = known.history[-1]
        return Transitioned(model, version, last.source, to, None, last.index)
    return None


def _previous(platform: Platform, model: str) -> int:
    known = platform.registry.state().model(model)
    current = known.production
    held = sorted(
        (version.productions[0].index, number)
        for number, version in known.versions.items()
        if version.productions and number != current
    )
    if current is not None:
        first = known.version(current).productions[0].index
        held = [(index, number) for index, number in held if index < first]
    if not held:
        raise IllegalTransition(
            "No earlier version held production.",
            field="version",
            next_step="There is nothing to roll back to; promote another version, or take the model out of service.",
        )
    return held[-1][1]
