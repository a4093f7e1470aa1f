"""Signed routes and flips for a small root of `tests.registry.world`."""

from __future__ import annotations

from typing import Any

from ml_platform.core.clock import format_utc
from ml_platform.registry.flip import Flip
from ml_platform.registry.route import ALL_BP, AllowedRollback, Arm, Pin, Route, SignedRoute, sign_route
from ml_platform.registry.sshsig import fingerprint
from tests.registry.world import AT, ROOT_ID, World, key, line

MODEL = "credit_risk"
PIN = Pin(line("service"), ROOT_ID, MODEL)


def artifact(version: int) -> str:
    return World.artifact(version)


def allowed(*versions: int) -> tuple[AllowedRollback, ...]:
    return tuple(AllowedRollback(version, artifact(version)) for version in versions)


def arms(primary: int = 1, canary: int | None = None, share_bp: int = 500) -> tuple[Arm, ...]:
    if canary is None:
        return (Arm("primary", primary, artifact(primary), ALL_BP),)
    return (
        Arm("primary", primary, artifact(primary), ALL_BP - share_bp),
        Arm("canary", canary, artifact(canary), share_bp),
    )


def route(**changes: Any) -> Route:
    fields: dict[str, Any] = {
        "root_id": ROOT_ID,
        "model": MODEL,
        "epoch": 1,
        "previous": None,
        "arms": arms(),
        "salt": "00" * 16,
        "allowed_rollbacks": (),
        "supersedes_flip": None,
        "log_index": 3,
        "issued_at": format_utc(AT),
        "key_id": fingerprint(line("service")),
        **changes,
    }
    return Route(**fields)


def signed(by: str = "service", **changes: Any) -> SignedRoute:
    return sign_route(route(**{"key_id": fingerprint(line(by)), **changes}), key(by))


def after(before: SignedRoute, by: str = "service", **changes: Any) -> SignedRoute:
    """The next route."""
    return signed(by, **{"epoch": before.route.epoch + 1, "previous": before.digest, **changes})


def flip(onto: SignedRoute, target: int, **changes: Any) -> Flip:
    fields: dict[str, Any] = {
        "root_id": ROOT_ID,
        "model": MODEL,
        "route": onto.digest,
        "target": target,
        "artifact": artifact(target),
        "counter": 1,
        "principal": "officer:ann",
        "reason_digest": "sha256:" + "0" * 64,
        "issued_at": format_utc(AT),
        **changes,
    }
    return Flip(**fields)
