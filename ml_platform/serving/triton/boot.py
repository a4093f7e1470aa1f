"""``boot.json``: where the running server of a root listens, and the two secrets of this boot.

The *control key* opens model control (load, unload, shared memory, trace and log settings); the *capability* is what
a version asks of every request, and only routers and infra validation have it. Both are new at every start.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Self

from ml_platform.core.errors import ServerUnavailable
from ml_platform.core.files import write_atomically
from ml_platform.serving.triton.processes import is_running

__all__ = [
    "BOOT_VARIABLE",
    "CAPABILITY_PARAMETER",
    "CAPABILITY_VARIABLE",
    "CONTROL_HEADER",
    "Boot",
    "boot_path",
    "serving_folder",
]

BOOT_VARIABLE: Final = "ML_PLATFORM_BOOT"
CAPABILITY_VARIABLE: Final = "ML_PLATFORM_CAPABILITY"
CAPABILITY_PARAMETER: Final = "capability"
CONTROL_HEADER: Final = "ml-platform-control"


def serving_folder(root: Path) -> Path:
    """``serving/`` of a root, for its owner only."""
    folder = root / "serving"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def boot_path(root: Path) -> Path:
    """Where the running server of a root is described."""
    return root / "serving" / "boot.json"


@dataclass(frozen=True, repr=False)
class Boot:
    """One run of the server. Its text form never shows a secret.

    Attributes:
        boot_id: 32 hex characters, new at every start.
        pid: the server's process.
        http_port: the server's own REST port.
        edge_port: where clients ask over REST, when an edge stands before the server; else 0.
    """

    boot_id: str
    pid: int
    grpc_port: int
    http_port: int
    metrics_port: int
    control_key: str
    capability: str
    edge_port: int = 0

    def __repr__(self) -> str:
        return f"Boot({self.boot_id}, pid={self.pid}, grpc={self.grpc_port}, http={self.http_port})"

    @classmethod
    def new(cls, *, grpc_port: int, http_port: int, metrics_port: int) -> Self:
        """A boot that is about to start; it has no process yet (pid 0)."""
        tokens = [secrets.token_hex(16), secrets.token_hex(32), secrets.token_hex(32)]
        return cls(tokens[0], 0, grpc_port, http_port, metrics_port, tokens[1], tokens[2])

    @property
    def alive(self) -> bool:
        """Whether its process exists and is no zombie."""
        return is_running(self.pid)

    @property
    def rest_port(self) -> int:
        """Where clients ask over REST."""
        return self.edge_port or self.http_port

    @property
    def parameters(self) -> dict[str, str]:
        """The request parameters that a version asks for."""
        return {CAPABILITY_PARAMETER: self.capability}

    def environment(self) -> dict[str, str]:
        """What the server's own models get to know."""
        return {BOOT_VARIABLE: self.boot_id, CAPABILITY_VARIABLE: self.capability}

    def write(self, root: Path) -> None:
        """Replaces ``boot.json``, mode 0600."""
        write_atomically(boot_path(root), json.dumps(asdict(self)).encode(), mode=0o600)

    @classmethod
    def read(cls, root: Path) -> Self:
        """The running server of a root.

        Raises:
            ServerUnavailable: none runs.
        """
        try:
            document: dict[str, Any] = json.loads(boot_path(root).read_bytes())
            boot = cls(**{item.name: document[item.name] for item in fields(cls)})
        except (OSError, ValueError, KeyError, TypeError):
            boot = None
        if boot is None or not boot.alive:
            raise ServerUnavailable(
                "No inference server runs for this root; nothing was changed.",
                field="serving",
                next_step="Start it with `mlp serve`, then run this again.",
            )
        return boot
