"""Which route the log asks for: production is the primary, a canary has its share, earlier versions are the ways back.

Pure: what is random (a salt) or a matter of the wall's clock comes as an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ml_platform.core.errors import DeclarationError, IllegalTransition
from ml_platform.registry.route import ALL_BP, PRIMARY, AllowedRollback, Arm, Route
from ml_platform.registry.state import ModelState, State
from ml_platform.registry.transitions import why_not_back

__all__ = ["CANARY", "KEPT_VERSIONS", "Composition", "compose", "next_route"]

CANARY: Final = "canary"
KEPT_VERSIONS: Final = 3  # stay loaded for a rollback by one flip; others go the whole way


@dataclass(frozen=True, slots=True)
class Composition:
    """Who serves, as the log says. ``rollbacks`` begins with the version that held production before."""

    arms: tuple[Arm, ...]
    rollbacks: tuple[AllowedRollback, ...]

    @property
    def canary(self) -> int | None:
        return self.arms[1].version if len(self.arms) > 1 else None

    def routed_by(self, model: ModelState) -> bool:
        """Whether the route in force says this already, and no local rollback outranks it."""
        route = model.route
        if route is None or model.flip is not None:
            return False
        arms = tuple((arm.arm, arm.version, arm.share_bp) for arm in self.arms)
        same = arms == tuple((arm.arm, arm.version, arm.share_bp) for arm in route.arms)
        return same and tuple(one.version for one in self.rollbacks) == route.rollbacks


def compose(state: State, name: str, *, first_share_bp: int, share_bp: int | None = None) -> Composition | None:
    """Who serves a model now; None while nothing is in production, for then nothing is routed.

    A canary keeps the share that the route gives it. It gets the first step of its plan when it is new, and none after
    a rollback of production, for it was compared with a version that no longer serves.

    Args:
        state: the state now.
        name: the model.
        first_share_bp: the first step of the canary's plan; 0 or 10,000 for a plan without steps.
        share_bp: the share that the canary shall have instead.

    Raises:
        IllegalTransition: a share for a canary, and there is none.
        DeclarationError: a share that is not between 1 and 9,999.
    """
    model = state.model(name)
    if model.production is None:
        return None
    share = _share(model, first_share_bp) if share_bp is None else _chosen(model, share_bp)
    primary = Arm(PRIMARY, model.production, _artifact(model, model.production), ALL_BP - share)
    arms = [primary]
    if share and model.canary is not None:
        arms.append(Arm(CANARY, model.canary, _artifact(model, model.canary), share))
    rollbacks = [AllowedRollback(number, _artifact(model, number)) for number in _kept(state, model)]
    return Composition(tuple(arms), tuple(rollbacks))


def next_route(
    model: ModelState,
    composition: Composition,
    *,
    root_id: str,
    salt: str,
    log_index: int,
    issued_at: str,
    key_id: str,
    previous: Route | None,
) -> Route:
    """The route that follows the one in force.

    Args:
        model: the model's state now.
        composition: who serves.
        root_id: the root.
        salt: a new one; the old is kept while the same two versions are compared.
        log_index: the entry on which it rests.
        issued_at: wall time, RFC 3339.
        key_id: fingerprint of the service key.
        previous: the route in force; None for the first.
    """
    same = previous is not None and [(arm.arm, arm.version) for arm in previous.arms] == [
        (arm.arm, arm.version) for arm in composition.arms
    ]
    return Route(
        root_id=root_id,
        model=model.name,
        epoch=1 if previous is None else previous.epoch + 1,
        previous=None if previous is None else previous.digest,
        arms=composition.arms,
        salt=previous.salt if previous is not None and same else salt,
        allowed_rollbacks=composition.rollbacks,
        supersedes_flip=model.flip.digest if model.flip else None,
        log_index=log_index,
        issued_at=issued_at,
        key_id=key_id,
    )


def _share(model: ModelState, first_share_bp: int) -> int:
    route, rollout = model.route, model.rollout
    if model.canary is None or rollout is None:
        return 0
    if route is None or rollout.started > route.index:
        return first_share_bp if 0 < first_share_bp < ALL_BP else 0
    arm = route.arm(CANARY)
    kept = arm is not None and arm.version == model.canary and route.primary == model.production and model.flip is None
    return arm.share_bp if arm is not None and kept else 0


def _chosen(model: ModelState, share_bp: int) -> int:
    if model.canary is None:
        raise IllegalTransition(
            "There is no version in canary.", field="share", next_step="Promote a version to canary first."
        )
    if not 0 < share_bp < ALL_BP:
        raise DeclarationError(
            f"A canary's share is between 1 and {ALL_BP - 1} basis points.",
            field="share",
            next_step="Promote the version to production for all units, or archive it for none.",
        )
    return share_bp


def _kept(state: State, model: ModelState) -> list[int]:
    """Versions to which a flip may go: those that held production before the one that does, newest first, then others.

    The others are those that were rolled back from: the way forward again.
    """
    held = {
        number: version.productions[0].index
        for number, version in model.versions.items()
        if number != model.production
        and version.stage == "archived"
        and version.productions
        and why_not_back(state, model, number) is None
    }
    current = model.version(model.production).productions[0].index if model.production is not None else 0
    ordered = sorted(held, key=lambda number: (held[number] > current, -held[number]))
    return ordered[:KEPT_VERSIONS]


def _artifact(model: ModelState, number: int) -> str:
    return model.version(number).digests.artifact
