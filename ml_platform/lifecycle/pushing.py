"""What a route names, in the running server: pushed, proven, and told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ml_platform.core.errors import NotFound, ServerUnavailable
from ml_platform.lifecycle.serving import TritonServing
from ml_platform.model import Model
from ml_platform.platform import Platform

__all__ = ["Pushed", "push_repository"]


@dataclass(frozen=True)
class Pushed:
    """The route in force, and what the server of this root holds of it.

    Args:
        arms: arm → version and share in basis points.
        golden_rows: version → how many golden rows were compared in the server; empty where none runs here.
        server: whether a server runs here; a route stands without one, and is followed when it starts.
        log_index: of the route.
    """

    model: str
    epoch: int
    route: str
    arms: dict[str, dict[str, int]]
    rollbacks: tuple[int, ...]
    golden_rows: dict[str, int]
    server: bool
    log_index: int

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "epoch": self.epoch,
            "route": self.route,
            "arms": self.arms,
            "rollbacks": list(self.rollbacks),
            "golden_rows": self.golden_rows,
            "server": self.server,
            "log_index": self.log_index,
        }


def push_repository(platform: Platform, model: Model) -> Pushed:
    """Loads every version that the route names into the running server, each proven by its golden rows.

    Raises:
        NotFound: no version of the model was ever routed.
        ValidationFailed, ArtifactCorrupt: a version does not answer as at training; the route is as it was.
    """
    known = platform.registry.state().model(model.name)
    route = known.route
    if route is None:
        raise NotFound(
            "No route of the model was applied.", field="route", next_step="Promote a version to production first."
        )
    wanted = sorted({*(arm.version for arm in route.arms), *route.rollbacks})
    serving, compared, server = TritonServing.of(platform, {model.name: model}), dict[str, int](), True
    try:
        for version in wanted:
            artifact = known.version(version).digests.artifact
            compared[f"v{version}"] = serving.prepare(model.name, version, artifact)
    except ServerUnavailable:
        server = False
    return Pushed(
        model=model.name,
        epoch=route.epoch,
        route=route.digest,
        arms={arm.arm: {"version": arm.version, "share_bp": arm.share_bp} for arm in route.arms},
        rollbacks=route.rollbacks,
        golden_rows=compared,
        server=server,
        log_index=route.index,
    )
