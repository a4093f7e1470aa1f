"""Routes that follow the log: made after a transition, completed after a crash, and shown.

The log decides, the route file serves. `settle` makes the two agree, whatever died between: it enters local rollbacks,
enters a route that was put in force and not entered, puts one in force that was entered and lost, and makes the one
that a transition still lacks.
"""

from __future__ import annotations

import secrets
from typing import Final, Protocol

from ml_platform.core.clock import format_utc
from ml_platform.core.errors import Conflict, IllegalTransition, IntegrityError, NotFound, PlatformError
from ml_platform.lifecycle.flipping import forget_reason, moving, read_reason
from ml_platform.lifecycle.streaming import announce_new
from ml_platform.platform import Platform
from ml_platform.registry.composition import Composition, compose, next_route
from ml_platform.registry.evidence import Evidence
from ml_platform.registry.pinned import pin_root
from ml_platform.registry.registry import TransitionResult
from ml_platform.registry.route import Route, SignedRoute, open_route, sign_route
from ml_platform.registry.routefolder import RouteFolder, read_whole
from ml_platform.registry.sshsig import fingerprint, public_key_line
from ml_platform.registry.state import ModelState, State
from ml_platform.rollout import Rollout

__all__ = [
    "Server",
    "composed",
    "enter_pending_flips",
    "enter_route",
    "prepare",
    "route_files",
    "running_server",
    "set_route",
    "settle",
    "settled",
]

_SALT_BYTES: Final = 16


class Server(Protocol):
    """What a change of the route asks of the inference server (`ml_platform.lifecycle.serving.TritonServing`)."""

    def prepare(self, model: str, version: int, artifact: str) -> object:
        """Loads a version and proves it by its golden rows; one that is loaded is fine."""

    def retire(self, model: str, version: int) -> object:
        """Takes a version out; one that is not there is fine."""


def running_server(platform: Platform) -> Server | None:
    """The inference server of a root; None where none was started. One that was and is away fails when it is asked."""
    from ml_platform.serving.triton.boot import boot_path

    if not boot_path(platform.root).exists():
        return None
    from ml_platform.lifecycle.serving import TritonServing

    return TritonServing.of(platform)


def route_files(platform: Platform, model: str) -> RouteFolder:
    """A model's route files; pins whose routes count in this root, where that was not done."""
    genesis = platform.registry.state().genesis
    if genesis is None:
        raise NotFound("The registry has no genesis.", field="registry", next_step="Restore it from a backup.")
    pin_root(
        platform.root / "serving",
        root_id=genesis.root_id,
        genesis=genesis.platform,
        service_key=genesis.service_key,
    )
    return RouteFolder.of(platform.root, model)


# -- making a route ------------------------------------------------------------------------------------------------


def composed(platform: Platform, state: State, model: str, *, share_bp: int | None = None) -> Composition | None:
    """Who serves a model, as the log says; None while nothing is in production."""
    canary = state.model(model).canary
    first = 0 if canary is None else _first_share_bp(platform, state, model, canary)
    return compose(state, model, first_share_bp=first, share_bp=share_bp)


def _first_share_bp(platform: Platform, state: State, model: str, version: int) -> int:
    """The first step of the plan with which a version was declared, in basis points."""
    spec = Evidence(platform.objects).spec(state.version(model, version).digests.spec)
    return Rollout.from_spec(spec.get("rollout", {})).share_after(0)


def prepare(platform: Platform, server: Server | None, model: str, composition: Composition) -> None:
    """Loads what a route would name and the one in force does not.

    Raises:
        ServerUnavailable: the server is away.
        ValidationFailed: it refuses a version, or a version scores otherwise than at training.
    """
    if server is None:
        return
    before = _in_force(platform, model)
    loaded = {version for version, _ in before.named} if before else set()
    wanted = {arm.version: arm.artifact for arm in composition.arms}
    wanted |= {one.version: one.artifact for one in composition.rollbacks}
    for version, artifact in sorted(wanted.items()):
        if version not in loaded:
            server.prepare(model, version, artifact)


def set_route(platform: Platform, model: str, composition: Composition, *, transition: int | None) -> SignedRoute:
    """Makes and signs the route of a composition and puts it in force; `enter_route` comes next.

    Raises:
        Conflict: a local rollback stands that the log does not know yet.
        StorageFailed: it cannot be written. The old route is in force.
    """
    files = route_files(platform, model)
    signed = _signed(platform, model, composition, transition)
    try:
        files.write(signed)
    except PlatformError:
        if read_whole(files.route_path) != signed.raw:
            raise
        # Replaced, and only then something failed: routers follow it, so it is entered; `settle` mends the rest.
    # Brokers that are away stop no promotion: the sealer tries again.
    announce_new(platform.settings, model, signed.raw)
    return signed


def announce_routes(platform: Platform) -> None:
    """Puts routes in force on the control topics of models that have a stream, where that is still to be done."""
    for name, known in platform.registry.state().models.items():
        if platform.settings.kafka.servers and known.route is not None:
            announce_new(platform.settings, name, platform.registry.applied_route(name))


def enter_route(
    platform: Platform, model: str, signed: SignedRoute, *, transition: int | None, actor: str, server: Server | None
) -> int:
    """Enters a route that is in force, and takes out of the server what no route names; returns the log index."""
    before, ended = _in_force(platform, model), platform.registry.state().model(model).flip
    index = platform.registry.apply_route(model, route=signed.raw, transition=transition, actor=actor)
    if ended is not None:
        forget_reason(route_files(platform, model), ended.reason)
    _retire(platform, server, model, before, signed.route)
    return index


def _signed(platform: Platform, model: str, composition: Composition, transition: int | None) -> SignedRoute:
    state, key = platform.registry.state(), platform.secrets.service()
    route = next_route(
        state.model(model),
        composition,
        root_id=platform.root_id,
        salt=secrets.token_hex(_SALT_BYTES),
        log_index=state.size - 1 if transition is None else transition,
        issued_at=format_utc(platform.wall.now()),
        key_id=fingerprint(public_key_line(key)),
        previous=_in_force(platform, model),
    )
    return sign_route(route, key)


def _in_force(platform: Platform, model: str) -> Route | None:
    """The route that the log says is in force."""
    if platform.registry.state().model(model).route is None:
        return None
    genesis = platform.registry.state().genesis
    return open_route(platform.registry.applied_route(model), genesis.service_key if genesis else "").route


def _retire(platform: Platform, server: Server | None, model: str, before: Route | None, now: Route) -> None:
    """Takes out archived versions that neither this route names nor the one before, which a router may still follow."""
    if server is None:
        return
    named = {version for route in (before, now) if route is not None for version, _ in route.named}
    for version in platform.registry.state().model(model).versions.values():
        if version.stage == "archived" and version.number not in named:
            try:
                server.retire(model, version.number)
            except PlatformError:
                return  # the route is in force; a server that starts again loads only what routes name


# -- the log and the files agree again -----------------------------------------------------------------------------


def settle(platform: Platform, model: str, *, server: Server | None) -> TransitionResult | None:
    """Makes log and route agree, whatever died between; returns the move by which a local rollback was entered, if any.

    Raises:
        Conflict: routers follow a route that does not follow from this log.
        ServerUnavailable, ValidationFailed: a version that the route lacks does not load.
        Refused: the log does not allow what a local rollback did; the flip stands.
    """
    with moving(route_files(platform, model)):
        return settled(platform, model, server=server)


def settled(platform: Platform, model: str, *, server: Server | None) -> TransitionResult | None:
    """As `settle`, for who holds the lock already."""
    files = route_files(platform, model)
    _agree(platform, files, model)
    moved = _enter_flip(platform, files, model)
    state = platform.registry.state()
    known, composition = state.model(model), composed(platform, state, model)
    if composition is not None and not composition.routed_by(known):
        transition = _unrouted(known)
        actor = known.flip.actor if known.flip else _actor_of(known, transition) or platform.settings.launcher
        prepare(platform, server, model, composition)
        signed = set_route(platform, model, composition, transition=transition)
        enter_route(platform, model, signed, transition=transition, actor=actor, server=server)
    return moved


def enter_pending_flips(platform: Platform, *, server: Server | None = None) -> list[TransitionResult]:
    """Enters local rollbacks that were made while the registry was away; returns the moves that this took.

    Called by whoever opens the registry to write: reconcile, serve, seal and commands. Cheap where none stands.
    """
    folder = platform.root / "serving" / "routes"
    # Whether a flip's file is there costs nothing; whether it stands, two signatures a model.
    names = sorted(one.parent.name for one in folder.glob("*/flip.json"))
    known = platform.registry.state().models if names else {}
    moved = [
        settle(platform, name, server=server)
        for name in names
        if name in known and route_files(platform, name).flip() is not None
    ]
    return [one for one in moved if one is not None]


def _agree(platform: Platform, files: RouteFolder, model: str) -> None:
    """File and log hold the same route: what one lacks comes from the other."""
    known = platform.registry.state().model(model)
    try:
        file = files.route()
    except NotFound:
        file = None
    epoch = known.route.epoch if known.route else 0
    if file is not None and file.route.epoch > epoch:
        transition = _unrouted(known)
        transition = transition if transition == file.route.log_index else None
        actor = _actor_of(known, transition) or platform.settings.launcher
        try:
            platform.registry.apply_route(model, route=file.raw, transition=transition, actor=actor)
        except (Conflict, IntegrityError, IllegalTransition) as error:
            raise Conflict(
                f"The routers follow a route that does not follow from this log: {error.what}",
                field="route",
                next_step="Find out which is older, the registry or `serving`; restore that one from its backup.",
            ) from error
    elif known.route is not None and (file is None or file.digest != known.route.digest):
        files.write(open_route(platform.registry.applied_route(model), files.pin.service_key))


def _enter_flip(platform: Platform, files: RouteFolder, model: str) -> TransitionResult | None:
    """Enters the local rollback that stands, and moves production where it went."""
    made = files.flip()
    entered = platform.registry.state().model(model).flip
    if made is not None and (entered is None or entered.digest != made.digest):
        written = read_reason(files, made.reason_digest)
        if written is not None:
            platform.objects.put(written)
        platform.registry.enter_flip(model, flip=made.raw)
    known = platform.registry.state().model(model)
    if known.flip is None or known.flip.target == known.production:
        return None
    try:
        reason = platform.objects.get(known.flip.reason).decode()
    except NotFound:
        reason = f"Local rollback {known.flip.digest}; its written reason is lost."
    return platform.registry.transition(
        model,
        known.flip.target,
        _direction(known, known.flip.target),
        to="production",
        actor=known.flip.actor,
        reason=reason,
    )


def _direction(model: ModelState, target: int) -> str:
    """``restore`` to a version that came to production after the one that holds it; else ``rollback``."""
    held = model.version(target).productions
    current = model.version(model.production).productions if model.production is not None else ()
    return "restore" if held and current and held[0].index > current[0].index else "rollback"


def _unrouted(model: ModelState) -> int | None:
    """The newest transition, if no route was made since."""
    newest = model.last_transition
    return newest if newest >= 0 and (model.route is None or newest > model.route.index) else None


def _actor_of(model: ModelState, transition: int | None) -> str | None:
    moves = (move for version in model.versions.values() for move in version.history)
    return next((move.actor for move in moves if move.index == transition), None)
