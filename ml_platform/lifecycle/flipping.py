"""The local rollback: one flip of the route, on this machine, without registry, Dagster or network."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from ml_platform.core.digests import sha256_hex, short
from ml_platform.core.errors import ApprovalMissing, IllegalTransition, NotFound, StorageFailed
from ml_platform.core.files import write_atomically
from ml_platform.registry.flip import Flip
from ml_platform.registry.route import Route
from ml_platform.registry.routefolder import RouteFolder

__all__ = ["Direction", "flip_route", "forget_reason", "moving", "read_reason", "require_reason"]

Direction = Literal["rollback", "restore"]
_MODE: Final = 0o600


def flip_route(
    root: Path, model: str, *, direction: Direction, to_version: int | None, principal: str, reason: str, at: datetime
) -> Flip | None:
    """Sends all requests of a model to a version that its route allows, durably and at once.

    Routers follow with their next batch. The same wish again is the flip that stands.

    Args:
        root: the root's folder.
        model: model name.
        direction: ``rollback`` goes to a version with a lower number than the route's primary, ``restore`` to a higher
            one, or back to the primary itself.
        to_version: which; None: the one that held production before the route's primary.
        principal: who does it.
        reason: why; kept beside the flip until the registry has it as evidence.
        at: wall time, UTC.

    Returns:
        The flip; None where there is no route, or where the route does not allow the version: then only the registry
        can decide, and what has to be loaded first is loaded.

    Raises:
        ApprovalMissing: no reason.
        StorageFailed: the disk is full; nothing changed.
    """
    require_reason(reason)
    try:
        files = RouteFolder.of(root, model)
        route = files.route().route
    except NotFound:
        return None
    target = to_version if to_version is not None else _before(route)
    if target is None or not _fits(direction, target, route):
        return None
    digest = sha256_hex(reason.encode())
    write_atomically(_reason_path(files, digest), reason.encode(), mode=_MODE)
    try:
        return files.turn(target, principal=principal, reason_digest=digest, at=at)
    except IllegalTransition:
        return None


def _before(route: Route) -> int | None:
    """The version that held production before the primary: the first that the route lists, if it is an earlier one."""
    first = route.allowed_rollbacks[:1]
    return next((one.version for one in first if one.version < route.primary.version), None)


def _fits(direction: Direction, target: int, route: Route) -> bool:
    primary = route.primary.version
    return target in route.targets() and (target < primary if direction == "rollback" else target >= primary)


def read_reason(files: RouteFolder, digest: str) -> bytes | None:
    """The written reason of a flip; None when its file is gone."""
    try:
        return _reason_path(files, digest).read_bytes()
    except OSError:
        return None


def forget_reason(files: RouteFolder, digest: str) -> None:
    """Removes the file of a reason that the registry has as evidence."""
    _reason_path(files, digest).unlink(missing_ok=True)


def _reason_path(files: RouteFolder, digest: str) -> Path:
    return files.folder / f"reason-{short(digest)}.txt"


def require_reason(reason: str) -> None:
    """Raises `ApprovalMissing` when nothing is said."""
    if not reason.strip():
        raise ApprovalMissing("A change of stage needs a reason.", field="reason", next_step="Say why, in a sentence.")


@contextmanager
def moving(files: RouteFolder) -> Iterator[None]:
    """One process at a time moves a model's versions and routes; flips never wait for it."""
    try:
        files.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        stream = (files.folder / "moving.lock").open("ab")
    except OSError as error:
        raise StorageFailed(
            f"The route's folder cannot be written ({error.strerror}); nothing was changed.",
            field="serving",
            next_step="Free space or mend the folder, then run it again.",
        ) from error
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # the kernel lets go of it when the process dies
        yield
