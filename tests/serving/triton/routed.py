"""A root with signed routes, a real server with its router, and what is in the router's log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ml_platform import Entity, RequestView, SameAsEvent, Source, category, number
from ml_platform.core.clock import format_utc
from ml_platform.core.contract import Contract, ResolvedField
from ml_platform.core.objects import ObjectStore
from ml_platform.features import definitions
from ml_platform.features.expressions import parse
from ml_platform.registry.pinned import pin_root
from ml_platform.registry.route import ALL_BP, AllowedRollback, Arm, Route, SignedRoute, sign_route
from ml_platform.registry.routefolder import RouteFolder
from ml_platform.registry.sshsig import fingerprint, public_key_line
from ml_platform.serving.declaration import Serving
from ml_platform.serving.online_record import LoggedDecision, LoggedRefusal, decode
from ml_platform.serving.triton import Pusher, Server, TritonClient
from ml_platform.serving.wal import read_frames
from ml_platform.training.artifact import CONTRACT_PART, store_artifact
from tests.serving.support import KINDS, ROOT_ID, train

MODEL = "credit_risk"

LOANS = Source(
    "loans",
    columns={
        "loan_id": "int64", "applied_at": "timestamp", "amount": "float64", "income": "float64", "term": "int64",
        "grade": "string",
    },
    keys=("loan_id",),
    event_time="applied_at",
    known_time=SameAsEvent(reason="It arrives as it happens."),
)  # fmt: skip
APPLICATION = RequestView(
    "application",
    entity=Entity("loan", keys=("loan_id",), personal=True),
    source=LOANS,
    time="applied_at",
    columns=[
        number("amount", range=(0, None)),
        number("income", nullable=True),
        category("term", on_unknown="flag"),
        category("grade", on_null="default", default="B"),
    ],
    derived={"burden": "amount * 12 / income"},
)


@cache
def contract() -> Contract:
    """What arrives with a request, and what is derived from it; nothing is stored."""

    def named(name: str, **how: Any) -> ResolvedField:
        return ResolvedField(name, f"{APPLICATION.reference}:{name}", **how)

    burden = parse("amount * 12 / income", KINDS).spec()
    return Contract(
        (("loan_id", "int64"),),
        "applied_at",
        (
            named("amount", origin="input", kind="number", type="float64", range=(0.0, None)),
            named("income", origin="input", kind="number", type="float64", nullable=True),
            named("term", origin="input", kind="category", type="int64", categories=("36",), on_unknown="flag"),
            named(
                "grade", origin="input", kind="category", type="string", categories=("A", "B", "C"),
                on_null="default", default="B",
            ),
            named("burden", origin="derived", kind="number", type="float64", nullable=True, expression=burden),
        ),
    )  # fmt: skip


@cache
def versions() -> dict[int, dict[str, bytes]]:
    """The parts of two versions that score differently."""
    return {1: train(contract(), seed=7), 2: train(contract(), seed=8)}


@dataclass(frozen=True)
class RoutedRoot:
    """A root in which the versions 1 and 2 are stored."""

    folder: Path
    objects: ObjectStore
    artifacts: dict[int, str]
    key: Ed25519PrivateKey

    @property
    def settings_file(self) -> Path:
        return self.folder / "settings.toml"

    @property
    def routes(self) -> RouteFolder:
        return RouteFolder.of(self.folder, MODEL)

    def route(self, primary: int, *, before: SignedRoute | None = None) -> SignedRoute:
        """Puts a route in force: everything to one version, the other one is an allowed rollback."""
        others = tuple(AllowedRollback(one, digest) for one, digest in self.artifacts.items() if one != primary)
        flip = self.routes.flip() if before is not None else None
        signed = sign_route(
            Route(
                root_id=ROOT_ID,
                model=MODEL,
                epoch=1 if before is None else before.route.epoch + 1,
                previous=None if before is None else before.digest,
                arms=(Arm("primary", primary, self.artifacts[primary], ALL_BP),),
                salt="00" * 16,
                allowed_rollbacks=others,
                supersedes_flip=None if flip is None else flip.digest,
                log_index=0,
                issued_at=format_utc(datetime.now(UTC)),
                key_id=fingerprint(public_key_line(self.key)),
            ),
            self.key,
        )
        self.routes.write(signed)
        return signed

    def logged(self) -> Iterator[LoggedDecision | LoggedRefusal]:
        """Every record in the logs of all routers of this root, writer by writer, in order."""
        for file in sorted((self.folder / "wal").rglob("*.wal")):
            for payload in read_frames(file).frames:
                yield decode(payload, lambda _digest: contract())

    def decisions(self) -> list[LoggedDecision]:
        return [one for one in self.logged() if isinstance(one, LoggedDecision)]


def new_routed_root(folder: Path, primary: int | None = 1) -> RoutedRoot:
    folder.mkdir(parents=True)
    (folder / "settings.toml").write_text('kind = "wall"\n')
    objects = ObjectStore(folder / "store")
    definitions.store(objects, APPLICATION)
    artifacts = {version: store_artifact(objects, parts).digest for version, parts in versions().items()}
    assert all(parts[CONTRACT_PART] == contract().to_bytes() for parts in versions().values())
    key = Ed25519PrivateKey.generate()
    pin_root(folder / "serving", root_id=ROOT_ID, genesis="sha256:" + "00" * 32, service_key=public_key_line(key))
    root = RoutedRoot(folder, objects, artifacts, key)
    if primary is not None:
        root.route(primary)
    return root


@dataclass(frozen=True)
class RunningRouter:
    """A root whose server has both versions and the router."""

    root: RoutedRoot
    server: Server
    client: TritonClient

    def ask(self, tensors: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        """One good request with some tensors changed; None leaves one out."""
        given = {**(request() if tensors is None else tensors), **changes}
        return self.client.infer(MODEL, {name: values for name, values in given.items() if values is not None})


def request(loan_id: int = 1, **values: Any) -> dict[str, np.ndarray]:
    """A good request of one row."""
    return {
        "loan_id": np.array([[loan_id]]),
        "amount": np.array([[values.get("amount", 1.5)]]),
        "income": np.array([[values.get("income", 40.0)]]),
        "term": np.array([[values.get("term", 36)]]),
        "grade": np.array([[values.get("grade", "B")]], object),
    }


def push(root: RoutedRoot, server: Server, client: TritonClient, serving: Serving) -> None:
    """Both versions and the router into a server."""
    pusher = Pusher(root.folder, root.objects, server.boot, client)
    for version, artifact in root.artifacts.items():
        pusher.version(MODEL, version, artifact, serving)
    pusher.router(MODEL, [contract()], serving)
