"""Roots with stored versions, and servers on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

from ml_platform.core.contract import Contract
from ml_platform.core.objects import ObjectStore
from ml_platform.serving.declaration import Serving
from ml_platform.serving.triton import Pusher, Server, TritonClient
from ml_platform.training.artifact import Artifact, store_artifact
from tests.serving.support import CONTRACT, train

MODEL = "credit_risk"
SERVING = Serving(max_batch=16)


@dataclass(frozen=True)
class Root:
    """A folder with settings, an object store and one version in it."""

    folder: Path
    objects: ObjectStore
    artifact: Artifact

    @property
    def settings_file(self) -> Path:
        return self.folder / "settings.toml"

    def start(self) -> Server:
        return Server.start(self.folder, self.settings_file)


def new_root(folder: Path, parts: dict[str, bytes] | None = None) -> Root:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.toml").write_text('kind = "wall"\n')
    objects = ObjectStore(folder / "store")
    return Root(folder, objects, store_artifact(objects, parts or train()))


@dataclass(frozen=True)
class Running:
    """A root, its server, and a connection to it."""

    root: Root
    server: Server
    client: TritonClient

    @property
    def pusher(self) -> Pusher:
        return Pusher(self.root.folder, self.root.objects, self.server.boot, self.client)

    @property
    def contract(self) -> Contract:
        return CONTRACT


def family(pid: int) -> list[psutil.Process]:
    """A process and all below it."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def gone(processes: list[psutil.Process], seconds: float = 30.0) -> bool:
    """Whether all of them end within the time; zombies of others count as ended."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
