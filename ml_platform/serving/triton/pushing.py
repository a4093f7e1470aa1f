"""Models into a running server: written to the repository, loaded, and proven before anybody routes to them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ml_platform.core.contract import Contract
from ml_platform.core.errors import Conflict, DeclarationError, PlatformError, ValidationFailed
from ml_platform.core.files import write_atomically
from ml_platform.core.objects import ObjectStore
from ml_platform.serving.declaration import Serving
from ml_platform.serving.triton.boot import Boot, serving_folder
from ml_platform.serving.triton.client import TritonClient
from ml_platform.serving.triton.repository import (
    MATRIX,
    Tensor,
    router_config,
    router_files,
    router_inputs,
    router_model_name,
    version_config,
    version_files,
    version_model_name,
    write_model,
)
from ml_platform.serving.triton.server import repository_folder
from ml_platform.training.artifact import Artifact, load_artifact
from ml_platform.training.golden import GOLDEN_PART, Golden

__all__ = ["Pusher", "Served", "validate"]

_FORMAT: Final = "ml-platform/served/1"


def validate(client: TritonClient, boot: Boot, model_name: str, artifact: Artifact, max_rows: int) -> int:
    """Sends the golden rows to a loaded version; how many there were, each with the bits of its training.

    Args:
        client: a connection to the server.
        boot: the running server.
        model_name: the version's model in the server.
        artifact: its artifact.
        max_rows: rows a request.

    Raises:
        ValidationFailed: the artifact has no golden rows, or a score differs.
    """
    if GOLDEN_PART not in artifact.parts:
        raise ValidationFailed(
            "The version has no golden rows, so nothing says what it must answer.",
            field=GOLDEN_PART,
            next_step="Train it again, or adopt it again.",
        )
    golden = Golden.from_bytes(artifact.part(GOLDEN_PART))
    output = artifact.contract.outputs[0].name

    def scores(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = client.infer(model_name, {MATRIX: rows}, parameters=boot.parameters)[output]
        return found.reshape(-1)

    starts = range(0, len(golden.matrix), max_rows)
    whole = np.concatenate([scores(golden.matrix[start : start + max_rows]) for start in starts])
    alone = scores(golden.matrix[:1])  # a score does not depend on its neighbours
    if not golden.same_scores(whole) or alone.tobytes() != golden.scores[:1].tobytes():
        raise ValidationFailed(
            f"{model_name} scores its golden rows otherwise than at training; it was taken out again.",
            field="score",
            next_step="Find what differs between training and serving (packages, processor); nothing was routed.",
        )
    return len(golden.scores)


@dataclass(frozen=True)
class Served:
    """How a model is served in a root: kept beside the repository, so that a restart gives the same routers.

    Attributes:
        serving: as declared when it was last served.
        generations: the request tensors of each router. The first is called by the model's name; a version with new
            request fields makes another (``credit_risk.g2``), for a router's tensors never change.
    """

    serving: Serving
    generations: tuple[tuple[Tensor, ...], ...] = ()

    @staticmethod
    def path(root: Path, model: str) -> Path:
        return serving_folder(root) / "models" / f"{model}.json"

    @classmethod
    def read(cls, root: Path, model: str) -> Served:
        """As stored; the default where the model was never served.

        Raises:
            DeclarationError: the document is not ours.
        """
        path = cls.path(root, model)
        if not path.exists():
            return cls(Serving())
        document = json.loads(path.read_bytes())
        if document.get("format") != _FORMAT:
            raise DeclarationError("This is no served model.", field=path.name, next_step="Restore or remove it.")
        generations = tuple(
            tuple(Tensor(name, kind, optional=True) for name, kind in generation)
            for generation in document["generations"]
        )
        return cls(Serving.from_json(document["serving"]), generations)

    def write(self, root: Path, model: str) -> None:
        document = {
            "format": _FORMAT,
            "serving": self.serving.to_json(),
            "generations": [[[one.name, one.datatype] for one in generation] for generation in self.generations],
        }
        write_atomically(self.path(root, model), json.dumps(document).encode(), mode=0o600)

    def fields(self, tensors: Mapping[str, str]) -> dict[str, str]:
        """Of the tensors that the newest router takes, and their types, those of single fields: not the whole row."""
        own = {one.name for generation in self.generations[-1:] for one in generation}
        return {name: kind for name, kind in tensors.items() if name in own}

    def accepting(self, contracts: Sequence[Contract]) -> Served:
        """With a generation that takes every request field of these contracts; the newer contract comes last."""
        wanted: dict[str, Tensor] = {}
        for contract in contracts:
            wanted |= {tensor.name: tensor for tensor in router_inputs(contract)}
        newest = {tensor.name: tensor for tensor in (self.generations[-1] if self.generations else ())}
        if all(newest.get(name) == tensor for name, tensor in wanted.items()):
            return self
        return Served(self.serving, (*self.generations, tuple((newest | wanted).values())))


@dataclass(frozen=True)
class Pusher:
    """Loads versions and routers of one root into its running server.

    Args:
        root: the root's folder.
        objects: where the artifacts lie.
        boot: the running server.
        client: a connection to it.
    """

    root: Path
    objects: ObjectStore
    boot: Boot
    client: TritonClient

    def version(self, model: str, version: int, artifact: str, serving: Serving) -> int:
        """Loads a version and proves it by its golden rows; one that is loaded already is proven again.

        Returns:
            How many golden rows were compared.

        Raises:
            ArtifactCorrupt, NotFound: the artifact cannot be used.
            ValidationFailed: the server refuses it, or it scores otherwise; it is unloaded and its entry removed.
            Conflict: the version is loaded with another artifact.
            ServerUnavailable: the server is away.
        """
        name = version_model_name(model, version)
        loaded = load_artifact(self.objects, artifact)  # every byte checked before the server sees the version
        config = version_config(model, version, artifact, loaded.contract, serving)
        known = name in self.client.loaded()
        if known and not self._holds(name, artifact):
            raise Conflict(
                f"{name} is loaded with another artifact.",
                field="artifact",
                next_step="A version has one artifact for ever; restart `mlp serve`.",
            )
        if not known:
            write_model(repository_folder(self.root) / name, config, version_files())
        try:
            if not known:
                self.client.load(name)
            return validate(self.client, self.boot, name, loaded, serving.max_batch)
        except PlatformError:
            if not known:
                self.retire(name)
            raise

    def router(self, model: str, contracts: Sequence[Contract], serving: Serving) -> None:
        """Loads the model's routers that are not loaded yet; adds a generation where the request has new fields.

        Raises:
            ValidationFailed: the server refuses one.
            ServerUnavailable: the server is away.
        """
        before = Served.read(self.root, model)
        served = Served(serving, before.generations).accepting(contracts)
        loaded = self.client.loaded()
        for number, inputs in enumerate(served.generations, start=1):
            name = router_model_name(model, number)
            if name in loaded:
                continue
            config = router_config(model, number, inputs, contracts[-1], serving)
            write_model(repository_folder(self.root) / name, config, router_files())
            self.client.load(name)
        if served != before:
            served.write(self.root, model)

    def retire(self, name: str) -> None:
        """Takes a model out of the server and the repository; one that is not there is fine."""
        try:
            self.client.unload(name)
        finally:
            shutil.rmtree(repository_folder(self.root) / name, ignore_errors=True)

    def _holds(self, name: str, artifact: str) -> bool:
        config = repository_folder(self.root) / name / "config.pbtxt"
        return config.exists() and json.dumps(artifact) in config.read_text()
