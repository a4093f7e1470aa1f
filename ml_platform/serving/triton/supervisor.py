"""Keeps the server of a root running with exactly the routed versions: the body of ``mlp serve``."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from ml_platform.core.errors import PlatformError, ServerUnavailable
from ml_platform.core.objects import ObjectStore
from ml_platform.core.settings import ServingSettings
from ml_platform.serving.declaration import Serving
from ml_platform.serving.triton.boot import Boot
from ml_platform.serving.triton.client import TritonClient
from ml_platform.serving.triton.nginx import Edge, Nginx
from ml_platform.serving.triton.processes import dead_children
from ml_platform.serving.triton.pushing import Pusher
from ml_platform.serving.triton.server import Server
from ml_platform.training.artifact import load_artifact

__all__ = ["Supervisor", "Wanted"]

Wanted = Mapping[int, str]
"""Version → artifact digest, of every version that a route names."""

_WATCH_SECONDS: Final = 0.5
_RETRY_SECONDS: Final = 10.0
_CRASHES: Final = 5
_CRASH_WINDOW_SECONDS: Final = 60.0


@dataclass
class Supervisor:
    """One server, watched.

    Args:
        root: the root's folder.
        settings_file: by which the models in the server find the root.
        objects: where the artifacts lie.
        addresses: where it listens.
        serving: the declared models, and how each is served.
        routed: what the route of a model names now; empty while it has none.
        say: told what happens.
        nginx: stands before the REST port, which ``addresses`` then means; None: clients reach Triton itself.
    """

    root: Path
    settings_file: Path
    objects: ObjectStore
    addresses: ServingSettings
    serving: Mapping[str, Serving]
    routed: Callable[[str], Wanted]
    say: Callable[[str], None]
    nginx: Nginx | None = None
    _loaded: dict[str, Wanted] = field(default_factory=dict, init=False)
    _again_at: dict[str, float] = field(default_factory=dict, init=False)
    _edge: Edge | None = field(default=None, init=False)

    def run(self, ready: Callable[[Boot], None]) -> None:
        """Runs until interrupted; then nothing of the server is left. A server that crashes is started again.

        Args:
            ready: called after each start, when the routed versions answer.

        Raises:
            Conflict: a server runs for this root already.
            ServerUnavailable: it does not start, or crashes again and again.
        """
        try:
            self._run(ready)
        finally:
            if self._edge is not None:
                self._edge.stop()

    def _run(self, ready: Callable[[Boot], None]) -> None:
        crashes: deque[float] = deque(maxlen=_CRASHES)
        behind = self.nginx is not None
        addresses = replace(self.addresses, http_port=0) if behind else self.addresses
        while True:
            with Server.start(self.root, self.settings_file, addresses, behind_edge=behind, say=self.say) as server:
                # The same ports after a crash: clients know them.
                addresses = ServingSettings(
                    addresses.host, server.boot.http_port, server.boot.grpc_port, server.boot.metrics_port
                )
                self._keep_edge(server)
                self._serve(server, ready)
            crashes.append(time.monotonic())
            if len(crashes) == _CRASHES and crashes[-1] - crashes[0] < _CRASH_WINDOW_SECONDS:
                raise ServerUnavailable(
                    f"The inference server crashed {_CRASHES} times within a minute.",
                    field="serving",
                    next_step="Its log, serving/triton.log in the root, says why.",
                )
            self.say("the server has crashed; starting it again with the routed versions")

    def _serve(self, server: Server, ready: Callable[[Boot], None]) -> None:
        """Loads, announces, then watches the routes; returns when the server has ended."""
        self._loaded, self._again_at = {}, {}
        with TritonClient(server.boot) as client:
            pusher = Pusher(self.root, self.objects, server.boot, client)
            try:
                self._follow(pusher)
                server.announce(edge_port=0 if self._edge is None else self._edge.port)
                ready(server.boot)
            except ServerUnavailable:
                if server.alive:
                    raise
            dead: frozenset[int] = frozenset()
            while not server.wait(_WATCH_SECONDS):
                self._keep_edge(server)
                before, dead = dead, dead_children(server.boot.pid)
                if before & dead:
                    self.say("a model's process has died; the server is ended, for it does not replace it")
                    server.kill()
                    continue
                try:
                    self._follow(pusher)
                except ServerUnavailable:
                    if server.alive:
                        self.say("the server does not answer model control; trying again")

    def _keep_edge(self, server: Server) -> None:
        """An edge before the server. It outlives the server; one that has ended is started again on its port."""
        if self.nginx is None or (self._edge is not None and self._edge.alive):
            return
        upstream = server.boot.http_port
        if self._edge is None:
            port = self.addresses.http_port
            self._edge = Edge.start(self.nginx, self.root, host=self.addresses.host, port=port, upstream_port=upstream)
            return
        port = self._edge.port
        self._edge.stop()
        self.say("the edge has ended; starting it again")
        try:
            self._edge = Edge.start(self.nginx, self.root, host=self.addresses.host, port=port, upstream_port=upstream)
        except ServerUnavailable as error:
            self.say(f"{error} Trying again.")

    def _follow(self, pusher: Pusher) -> None:
        """Loads what routes name now and what is not loaded. What cannot be loaded is said, and tried again later."""
        for model, serving in self.serving.items():
            wanted = dict(self.routed(model))
            if not wanted or wanted == self._loaded.get(model) or time.monotonic() < self._again_at.get(model, 0.0):
                continue
            started = time.monotonic()
            try:
                for version, artifact in sorted(wanted.items()):
                    pusher.version(model, version, artifact, serving)
                contracts = [load_artifact(self.objects, wanted[version]).contract for version in sorted(wanted)]
                pusher.router(model, contracts, serving)
            except ServerUnavailable:
                raise
            except PlatformError as error:
                self._again_at[model] = time.monotonic() + _RETRY_SECONDS
                self.say(f"{model} is not served as its route says: {error}")
                continue
            self._loaded[model] = wanted
            names = ", ".join(map(str, sorted(wanted)))
            self.say(f"{model}: version {names} and its router answer ({time.monotonic() - started:.1f} s)")
