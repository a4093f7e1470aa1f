"""The route that a worker follows, with its versions loaded and ready for events."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from ml_platform.core.contract import Contract
from ml_platform.core.errors import PlatformError
from ml_platform.registry.routefile import Routed, RouteFile
from ml_platform.serving.online_encoding import DecisionEncoder
from ml_platform.serving.served import ServedArm, ServedRoute, Versions
from ml_platform.serving.stream.events import EventContract

__all__ = ["Follower"]

_RETRY_SECONDS: Final = 1.0


@dataclass
class Follower:
    """Follows a route as a router does: what cannot be loaded changes nothing but ``refused``.

    Args:
        routes: one ``stat`` a batch tells of a change.
        versions: loads what a route names.
        loaded: told of each contract of a route before the first event is decided by it.

    Attributes:
        refused: why the newest route is not followed; None when it is.
    """

    routes: RouteFile
    versions: Versions
    loaded: Callable[[Contract], object]
    refused: str | None = None
    _served: ServedRoute | None = None
    _failed: tuple[Routed, float] | None = None
    _encoders: dict[tuple[str, int, str], DecisionEncoder] | None = None

    def current(self) -> ServedRoute:
        """What decides now.

        Raises:
            PlatformError: there is no route, or its versions cannot be loaded, and none was ever followed.
        """
        routed = self.routes.current()
        served = self._served
        if served is not None:
            if served.routed is routed:
                return served
            if self._failed is not None and self._failed[0] is routed and time.monotonic() < self._failed[1]:
                return served
        try:
            found = self._load(routed)
        except PlatformError:
            if served is None:
                raise
            self._failed, self.refused = (routed, time.monotonic() + _RETRY_SECONDS), "not_loaded"
            return served
        self._served, self._failed, self._encoders = found, None, {}
        self.refused = None if routed.refused is None else routed.refused.reason
        return found

    def _load(self, routed: Routed) -> ServedRoute:
        served = self.versions.serve(routed)
        for arm in served.arms.values():
            self.loaded(arm.scorer.contract)
        arms = {name: replace(arm, contract=EventContract(arm.scorer.contract)) for name, arm in served.arms.items()}
        return ServedRoute(routed, arms)

    def encoder(self, arm: ServedArm, writer: str) -> DecisionEncoder:
        """Encodes what an arm of the current route decides, under a writer's name."""
        known = self._encoders if self._encoders is not None else {}
        key = (arm.name, arm.version, writer)
        if key not in known:
            known[key] = DecisionEncoder(replace(arm.encoder.header, mode="stream", writer=writer))
        return known[key]
