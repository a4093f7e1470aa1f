"""A root with routed versions, as a router finds it, and requests about loans."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from ml_platform.core.clock import ReplayClock
from ml_platform.core.contract import Contract, ResolvedField
from ml_platform.core.fields import category, number
from ml_platform.core.objects import ObjectStore
from ml_platform.core.rows import micros
from ml_platform.core.settings import Settings, load_settings
from ml_platform.features import Entity, RequestView, SameAsEvent, Source
from ml_platform.features.definitions import store
from ml_platform.registry.pinned import pin_root
from ml_platform.registry.route import ALL_BP, AllowedRollback, Arm, SignedRoute
from ml_platform.registry.routefolder import RouteFolder
from ml_platform.serving.features_lookup import StoredValues
from ml_platform.serving.online_record import LoggedDecision, LoggedRefusal, decode
from ml_platform.serving.router import Router
from ml_platform.serving.wal import read_frames
from ml_platform.training.artifact import store_artifact
from tests.registry import routing
from tests.registry.world import ROOT_ID, line
from tests.serving.support import CONTRACT, END, train

MODEL = routing.MODEL
SEED = bytes(range(32))
NOW_US = micros(END)
LOANS = Source(
    "applications",
    columns={"loan_id": "int64", "applied_at": "timestamp", "amount": "float64", "income": "float64", "term": "int64",
             "grade": "string"},
    keys=("loan_id",),
    event_time="applied_at",
    known_time=SameAsEvent("the request is the row"),
)  # fmt: skip
VIEW = RequestView(
    "application",
    entity=Entity("loan", keys=("loan_id",), personal=True),
    source=LOANS,
    time="applied_at",
    columns=(number("amount"), number("income", nullable=True), category("term"), category("grade")),
)
FIRST = replace(
    CONTRACT,
    fields=tuple(replace(item, reference=f"application@{VIEW.digest}:{item.name}") for item in CONTRACT.fields),
)
# Another contract: no stored features, a field more, and nobody but A and B.
SECOND = Contract(
    entity_keys=FIRST.entity_keys,
    time=FIRST.time,
    fields=(
        *(replace(item, categories=("A", "B")) if item.name == "grade" else item for item in FIRST.fields[:5]),
        ResolvedField("debt", f"application@{VIEW.digest}:debt", "input", "number", "float64", range=(0.0, 100.0)),
    ),
)


class Store:
    """Stored features that depend on the loan alone, an hour old."""

    def lookup(self, contract: Contract, column: Any, times_us: Any) -> StoredValues:
        keys = column("loan_id")
        by_name = {
            "rate": [key % 13 / 10.0 for key in keys],
            "region": ["north" if key % 2 else None for key in keys],
        }
        events = [[t - 3_600_000_000 for t in times_us] for _ in contract.stored]
        return StoredValues([by_name[item.name] for item in contract.stored], events)


@dataclass(frozen=True)
class OnlineRoot:
    """One root, its route files and the artifacts of its versions 1 and 2."""

    settings: Settings
    routes: RouteFolder
    artifacts: dict[int, str]

    @property
    def root(self) -> Path:
        return self.settings.root

    def router(self, **named: Any) -> Router:
        return Router.open(self.settings, MODEL, **{"features": Store(), **named})

    def route(self, before: SignedRoute | None = None, *, by: str = "service", **changes: Any) -> SignedRoute:
        """The next route, signed, in no file yet."""
        if before is None:
            return routing.signed(by, **{"arms": self.arms(1), **changes})
        return routing.after(before, by, **{"arms": self.arms(1), **changes})

    def arms(self, primary: int, canary: int | None = None, share_bp: int = 5_000) -> tuple[Arm, ...]:
        if canary is None:
            return (Arm("primary", primary, self.artifacts[primary], ALL_BP),)
        return (
            Arm("primary", primary, self.artifacts[primary], ALL_BP - share_bp),
            Arm("canary", canary, self.artifacts[canary], share_bp),
        )

    def allowed(self, *versions: int) -> tuple[AllowedRollback, ...]:
        return tuple(AllowedRollback(version, self.artifacts[version]) for version in versions)

    def move(self, at: datetime) -> None:
        ReplayClock(self.root / "clock").move(at)


def make_online_root(root: Path, parts: dict[str, bytes], second: dict[str, bytes], kind: str = "replay") -> OnlineRoot:
    root.mkdir(parents=True, exist_ok=True)
    (root / "settings.toml").write_text(f'kind = "{kind}"\n')
    if kind == "replay":
        ReplayClock(root / "clock").move(END)
        (root / "secrets").mkdir(mode=0o700)
        (root / "secrets" / "root_seed").touch(mode=0o600)
        (root / "secrets" / "root_seed").write_bytes(SEED)
    settings = load_settings(root / "settings.toml")
    objects = ObjectStore(settings.objects)
    store(objects, VIEW)
    pin_root(root / "serving", root_id=ROOT_ID, genesis="sha256:" + "a" * 64, service_key=line("service"))
    digests = {1: store_artifact(objects, parts).digest, 2: store_artifact(objects, second).digest}
    return OnlineRoot(settings, RouteFolder.of(root, MODEL), digests)


def first_parts() -> dict[str, bytes]:
    return train(FIRST)


def second_parts() -> dict[str, bytes]:
    return train(SECOND, seed=8)


def contract_of(digest: str) -> Contract:
    return {FIRST.digest: FIRST, SECOND.digest: SECOND}[digest]


def request(loan: int, **changes: Any) -> dict[str, Any]:
    """One clean request; None takes a tensor out."""
    made = {
        "loan_id": np.array([[loan]]),
        "applied_at": np.array([[NOW_US - 1_000_000]]),
        "amount": np.array([[float(loan % 7)]]),
        "income": np.array([[40.0 + loan % 11]]),
        "term": np.array([[36]]),
        "grade": np.array([[b"AB"[loan % 2 : loan % 2 + 1]]], object),
        "debt": np.array([[1.0]]),
        **changes,
    }
    return {name: value for name, value in made.items() if value is not None}


def plain(loan: int, **changes: Any) -> dict[str, Any]:
    """A request with the tensors of version 1 alone."""
    return request(loan, **{"debt": None, **changes})


def logged(root: Path) -> list[LoggedDecision | LoggedRefusal]:
    """Everything in the logs of a root, writer by writer, in order."""
    found = []
    for path in sorted((root / "wal").glob("*/*/*.wal"), key=lambda path: (path.parent.stat().st_ctime_ns, path.name)):
        found += [decode(payload, contract_of) for payload in read_frames(path).frames]
    return found


def decisions(root: Path) -> list[LoggedDecision]:
    return [one for one in logged(root) if isinstance(one, LoggedDecision)]


def refusals(root: Path) -> list[LoggedRefusal]:
    return [one for one in logged(root) if isinstance(one, LoggedRefusal)]
