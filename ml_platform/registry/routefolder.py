"""The files of a model's route: written under a lock, whole or not at all, and durable before they count.

``serving/routes/<model>/`` holds ``route.json`` (the signed route), ``flip.json`` (a local rollback, where there is
one), ``seen.json`` (the newest route that anybody here followed, as it was signed) and two lock files. Only this
module and its reader (`ml_platform.registry.routefile`) touch them; neither needs registry nor network.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from ml_platform.core.clock import format_utc
from ml_platform.core.errors import (
    Conflict,
    IllegalTransition,
    NotFound,
    SettingsError,
    StorageFailed,
    Tampered,
)
from ml_platform.core.files import sync_folder, write_atomically
from ml_platform.registry.flip import Flip, effective_arms, open_flip
from ml_platform.registry.pinned import pinned
from ml_platform.registry.route import Pin, Seen, SignedRoute, WhyNot, accept, open_route

__all__ = ["RouteFolder", "as_seen", "not_followed", "read_whole"]

_FILE_MODE: Final = 0o600
_FOLDER_MODE: Final = 0o700


@dataclass(frozen=True)
class RouteFolder:
    """One model's route files.

    Args:
        folder: ``serving/routes/<model>``.
        pin: whose routes count.
    """

    folder: Path
    pin: Pin

    @classmethod
    def of(cls, root: Path, model: str) -> RouteFolder:
        """The folder of a model in a root; raises as `pinned`."""
        serving = root / "serving"
        return cls(serving / "routes" / model, pinned(serving, model))

    @property
    def route_path(self) -> Path:
        return self.folder / "route.json"

    @property
    def flip_path(self) -> Path:
        return self.folder / "flip.json"

    @property
    def _seen_path(self) -> Path:
        return self.folder / "seen.json"

    # -- reading -----------------------------------------------------------------------------------------------------

    def seen(self) -> SignedRoute | None:
        """The newest route that was ever followed here.

        Raises:
            Tampered: the file is not what we wrote.
        """
        raw = read_whole(self._seen_path)
        return None if raw is None else open_route(raw, self.pin.service_key)

    def route(self) -> SignedRoute:
        """The route in force: the file's, or, where that one does not count, the newest that did.

        Raises:
            NotFound: there is none.
            Tampered: there is a file, it does not count, and none ever did.
        """
        seen, raw = self.seen(), read_whole(self.route_path)
        if raw is not None:
            offered = accept(as_seen(seen), raw, self.pin)
            if isinstance(offered, SignedRoute):
                return offered
            if seen is None:
                raise not_followed(offered)
        if seen is None:
            raise NotFound(
                f"There is no route of {self.pin.model}.",
                field="route",
                next_step="A promotion to production writes the first one.",
            )
        return seen

    def flip(self) -> Flip | None:
        """The local rollback that holds beside the route; None when there is none, it is torn, or it ended.

        Raises:
            Tampered: there is a route that does not count, and none ever did.
        """
        try:
            return self._standing(self.route())
        except NotFound:
            return None  # without a route there is nothing that it could outrank

    def ignored(self) -> str | None:
        """Why the route file that lies there is not followed; None when it is, or when there is none."""
        raw = read_whole(self.route_path)
        found = None if raw is None else accept(as_seen(self.seen()), raw, self.pin)
        return found.what if isinstance(found, WhyNot) else None

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(self, signed: SignedRoute) -> None:
        """Puts a route in force, durably; the same one again changes nothing. A flip that it ends is removed.

        Raises:
            Conflict: it does not follow the one in force, or leaves a local rollback standing.
            Tampered: it is not this root's.
            StorageFailed: it cannot be written; the old one stands.
        """
        with self.locked():
            seen = self.seen()
            offered = accept(as_seen(seen), signed.raw, self.pin)
            if isinstance(offered, WhyNot):
                if offered.reason in {"torn", "forged", "other_model"}:
                    raise not_followed(offered)
                raise Conflict(offered.what, field="epoch", next_step="Make the route again from the state now.")
            if read_whole(self.route_path) == offered.raw:
                self.remember(offered)  # written before, perhaps by somebody who died before this line
                return
            flip = None if seen is None else self._standing(seen)
            if flip is not None and flip.digest != offered.route.supersedes_flip:
                raise Conflict(
                    "A local rollback stands that the route does not end.",
                    field="supersedes_flip",
                    next_step="`mlp route` shows it; the next command that writes enters it.",
                )
            write_atomically(self.route_path, signed.raw, mode=_FILE_MODE)
            self.remember(offered)
            self.flip_path.unlink(missing_ok=True)
            sync_folder(self.folder)

    def turn(self, target: int, *, principal: str, reason_digest: str, at: datetime) -> Flip:
        """Sends all requests to one version, durably; the flip that says so already is returned as it is.

        Args:
            target: an allowed rollback, or the primary itself (forward again, or without the canary).
            principal: who does it.
            reason_digest: digest of the written reason.
            at: wall time, UTC.

        Raises:
            IllegalTransition: the route does not allow the version, or it answers all requests already.
            NotFound, Tampered: there is no route that counts.
            StorageFailed: the file cannot be written; nothing changed.
        """
        with self.locked():
            signed = self.route()
            standing = self._standing(signed)
            artifact = signed.route.targets().get(target)
            if artifact is None:
                allowed = ", ".join(str(one) for one in sorted(signed.route.targets()))
                raise IllegalTransition(
                    f"The route does not allow a flip to version {target}.",
                    field="version",
                    next_step=f"It allows {allowed}; others go the whole way by `mlp rollback`.",
                )
            if standing is not None and standing.target == target:
                return standing
            if standing is None and target == signed.route.primary.version and len(signed.route.arms) == 1:
                raise IllegalTransition(
                    f"Version {target} answers all requests already.",
                    field="version",
                    next_step="`mlp route` shows what serves.",
                )
            made = Flip(
                root_id=self.pin.root_id,
                model=self.pin.model,
                route=signed.digest,
                target=target,
                artifact=artifact,
                counter=1 if standing is None else standing.counter + 1,
                principal=principal,
                reason_digest=reason_digest,
                issued_at=format_utc(at),
            )
            write_atomically(self.flip_path, made.raw, mode=_FILE_MODE)
            return made

    def _standing(self, signed: SignedRoute) -> Flip | None:
        """The flip that holds beside the route; a torn file is none, and a new flip replaces it."""
        raw = read_whole(self.flip_path)
        try:
            made = None if raw is None else open_flip(raw)
        except Tampered:
            return None
        return effective_arms(signed.route, signed.digest, made)[1]

    def remember(self, signed: SignedRoute) -> None:
        """Keeps a followed route as the newest, so that older ones are refused after a restart too.

        Raises:
            StorageFailed: it cannot be written.
        """
        with self._lock("seen.lock"):
            known = self.seen()
            if known is None or known.route.epoch < signed.route.epoch:
                write_atomically(self._seen_path, signed.raw, mode=_FILE_MODE)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One writer at a time; readers never wait."""
        with self._lock("lock"):
            yield

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        try:
            self.folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            descriptor = os.open(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
        except OSError as error:
            raise StorageFailed(
                f"The route's folder cannot be written ({error.strerror}); nothing was changed.",
                field="serving",
                next_step="Free space or mend the folder, then run it again.",
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # the kernel lets go of it when the process dies
            yield
        finally:
            os.close(descriptor)


def read_whole(path: Path) -> bytes | None:
    """A small file's bytes; None when there is none.

    Raises:
        SettingsError: it is there and cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingsError(
            f"A file of the route cannot be read ({type(error).__name__}).",
            field=path.name,
            next_step="Mend its owner and mode.",
        ) from error


def as_seen(signed: SignedRoute | None) -> Seen | None:
    """What is remembered of a route when another is judged."""
    return None if signed is None else Seen(signed.route.epoch, signed.digest)


def not_followed(why: WhyNot) -> Tampered:
    """The error of a route that does not count."""
    return Tampered(
        why.what, field=why.reason, next_step="Have the registry write the route again; find out who wrote this one."
    )
