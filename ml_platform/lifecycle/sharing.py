"""Shares: how many of the units a canary answers. The log is told by whoever decided; the route says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ml_platform.core.errors import IllegalTransition
from ml_platform.lifecycle.flipping import moving
from ml_platform.lifecycle.routing import Server, composed, enter_route, prepare, route_files, set_route, settled
from ml_platform.platform import Platform

__all__ = ["Shared", "set_share"]


@dataclass(frozen=True)
class Shared:
    """A canary's share of the units, and the route that gives it."""

    model: str
    version: int
    share_bp: int
    epoch: int
    log_index: int

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("model", "version", "share_bp", "epoch", "log_index")}


def set_share(platform: Platform, model: str, share_bp: int, *, principal: str, server: Server | None = None) -> Shared:
    """Gives the canary another share of the units; units that it had stay with it when the share grows.

    Args:
        platform: the root.
        model: model name.
        share_bp: 1 to 9,999 basis points.
        principal: who asks.
        server: the running server, where the canary is in no route yet and must be loaded.

    Raises:
        IllegalTransition: nothing is in canary, or nothing in production.
        DeclarationError: no such share.
    """
    with moving(route_files(platform, model)):
        settled(platform, model, server=server)
        state = platform.registry.state()
        composition = composed(platform, state, model, share_bp=share_bp)
        if composition is None:
            raise IllegalTransition(
                "No version is in production, so nothing is routed.",
                field="model",
                next_step="Promote a version to production first.",
            )
        if not composition.routed_by(state.model(model)):
            prepare(platform, server, model, composition)
            signed = set_route(platform, model, composition, transition=None)
            enter_route(platform, model, signed, transition=None, actor=principal, server=server)
    known = platform.registry.state().model(model)
    assert known.route is not None  # noqa: S101  # put in force above
    assert known.canary is not None  # noqa: S101  # or `composed` had refused
    return Shared(model, known.canary, share_bp, known.route.epoch, known.route.index)
