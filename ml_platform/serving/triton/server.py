"""The Triton server of a root as a managed process: start, ready, log, stop; never an orphan, never two."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple, Self

from ml_platform.core.errors import Conflict, ServerUnavailable
from ml_platform.core.settings import ENVIRONMENT_VARIABLE, ServingSettings
from ml_platform.serving.triton.boot import CONTROL_HEADER, Boot, boot_path, serving_folder
from ml_platform.serving.triton.guarded import Guarded, Order, kill
from ml_platform.serving.triton.wheel import Installation

__all__ = ["LOG_NAME", "Server", "repository_folder"]

LOG_NAME: Final = "triton.log"
# What only the platform may do: besides loading models, clients could otherwise map the server's shared memory and make
# it write its trace and log to any file.
_RESTRICTED: Final = "model-repository,shared-memory,trace,logging"
_START_SECONDS: Final = 120.0
_GRACE_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.05


def repository_folder(root: Path) -> Path:
    """The generated model repository of a root."""
    return root / "triton"


@dataclass
class Server:
    """One run of the server on a root. Use it as a context, or call ``stop``.

    Attributes:
        boot: how to reach it.
    """

    root: Path
    boot: Boot
    _guarded: Guarded = field(repr=False)
    _lock: int = field(repr=False)

    @classmethod
    def start(
        cls,
        root: Path,
        settings_file: Path,
        addresses: ServingSettings | None = None,
        *,
        behind_edge: bool = False,
        say: Callable[[str], None] = lambda _text: None,
    ) -> Self:
        """Starts the server without any model and waits until it is ready; ``announce`` tells others where it is.

        Args:
            root: the root's folder; the repository is its ``triton/``, the log ``serving/triton.log``.
            settings_file: by which the models in the server find the root.
            addresses: where it listens; loopback and free ports if none are given.
            behind_edge: HTTP listens on loopback, on a free port unless ``addresses`` names one.
            say: told what happens.

        Raises:
            Conflict: a server runs for this root already.
            SettingsError: the server is not installed.
            ServerUnavailable: it did not become ready; its log says why.
        """
        folder = serving_folder(root)
        lock = _locked(folder / "server.lock")
        started: Server | None = None
        try:
            boot_path(root).unlink(missing_ok=True)
            installation = Installation.prepare(folder / "runtime")
            repository_folder(root).mkdir(exist_ok=True)
            where = addresses or ServingSettings()
            hosts = Hosts("127.0.0.1" if behind_edge else where.host, where.host)
            boot = Boot.new(**_ports(where))
            started = cls(root, boot, _guarded(installation, root, settings_file, boot, hosts, lock), lock)
            pid = started._reported_pid()
            started.boot = replace(boot, pid=pid)
            say(f"server process {pid}, log {LOG_NAME}")
            started._await_ready()
        except BaseException:
            if started is None:
                os.close(lock)
            else:
                started.stop()
            raise
        return started

    def announce(self, *, edge_port: int = 0) -> None:
        """Writes ``boot.json``: from now on the root has a server, and perhaps an edge before it."""
        self.boot = replace(self.boot, edge_port=edge_port)
        self.boot.write(self.root)

    @property
    def alive(self) -> bool:
        return self._guarded.alive and self.boot.alive

    def kill(self) -> None:
        """Ends the server at once: for one that cannot stop in order any more."""
        kill(self.boot.pid)

    def wait(self, seconds: float) -> bool:
        """Waits for the end of the server; False when it still runs after ``seconds``."""
        return self._guarded.wait(seconds)

    def stop(self) -> None:
        """Stops it: answers what was asked, then ends; after a grace it is killed. Nothing of it is left."""
        self._guarded.stop()
        boot_path(self.root).unlink(missing_ok=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _reported_pid(self) -> int:
        pid = self._guarded.pid(_START_SECONDS)
        if pid is None:
            raise _not_started()
        return pid

    def _await_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if not self.alive:
                raise _not_started()
            if _is_ready(self.boot.http_port):
                return
            time.sleep(_POLL_SECONDS)
        raise _not_started()


def _not_started() -> ServerUnavailable:
    return ServerUnavailable(
        "The inference server did not become ready.",
        field="serving",
        next_step=f"Its log, serving/{LOG_NAME} in the root, says why; a port may be taken.",
    )


def _locked(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise Conflict(
            "An inference server runs for this root already.",
            field="serving",
            next_step="Use it, or stop the `mlp serve` that started it; one that was just stopped needs some seconds.",
        ) from error
    return descriptor


def _ports(where: ServingSettings) -> dict[str, int]:
    """The ports as set, free ones for the others: found together, so that they differ."""
    asked = {name: getattr(where, name) for name in ("grpc_port", "http_port", "metrics_port")}
    sockets = {name: socket.socket() for name, port in asked.items() if port == 0}
    try:
        for one in sockets.values():
            one.bind((where.host, 0))
        return {name: sockets[name].getsockname()[1] if name in sockets else port for name, port in asked.items()}
    finally:
        for one in sockets.values():
            one.close()


class Hosts(NamedTuple):
    """Addresses to listen on: for HTTP, and for gRPC and metrics."""

    http: str
    others: str


def _guarded(
    installation: Installation, root: Path, settings_file: Path, boot: Boot, hosts: Hosts, lock: int
) -> Guarded:
    folder = serving_folder(root)
    regions = f"mlp_{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:12]}_"
    _forget_regions(regions)
    own = f"{regions}{boot.boot_id[:8]}_"
    environ = {**installation.environment(os.environ), ENVIRONMENT_VARIABLE: str(settings_file.resolve())}
    return Guarded.start(
        Order(
            command=_command(installation, repository_folder(root), boot, hosts, own),
            log=str(folder / LOG_NAME),
            grace_seconds=_GRACE_SECONDS,
            remove=[str(boot_path(root))],
            regions=own,
        ),
        env={**environ, **boot.environment()},
        folder=root,
        keep=[lock],  # the lock is held until the guard, and so the server, has gone
    )


def _forget_regions(prefix: str) -> None:
    """Shared memory of a server of this root that was killed together with its guard."""
    for region in Path("/dev/shm").glob(f"{prefix}*"):  # noqa: S108 - where the Python backend's regions lie
        region.unlink(missing_ok=True)


def _command(installation: Installation, repository: Path, boot: Boot, hosts: Hosts, regions: str) -> list[str]:
    control = f"{CONTROL_HEADER}={boot.control_key}"
    options = {
        "model-repository": repository,
        "backend-directory": installation.backends,
        "model-control-mode": "explicit",
        "http-address": hosts.http,
        "http-port": boot.http_port,
        "grpc-address": hosts.others,
        "grpc-port": boot.grpc_port,
        "metrics-address": hosts.others,
        "metrics-port": boot.metrics_port,
        "allow-gpu-metrics": "false",
        "http-restricted-api": f"{_RESTRICTED}:{control}",
        "grpc-restricted-protocol": f"{_RESTRICTED}:{control}",
        "exit-timeout-secs": int(_GRACE_SECONDS / 2),
        "log-format": "ISO8601",
        "backend-config": f"python,shm-region-prefix-name={regions}",
    }
    return [
        str(installation.binary),
        "--disable-auto-complete-config",
        *(f"--{name}={value}" for name, value in options.items()),
    ]


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2.0)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()
