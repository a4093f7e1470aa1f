"""The router's view of a route: one `stat` while nothing changed, and never anything worse than the last good route.

`RouteFile.current` is called before every batch. Files that do not count (torn, forged, older, a flip that is not
allowed) change nothing but ``refused``, which says why, for an alert.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ml_platform.core.errors import NotFound, PlatformError, StorageFailed, Tampered
from ml_platform.registry.assignment import Assignment
from ml_platform.registry.flip import Flip, effective_arms, open_flip, why_not_flip
from ml_platform.registry.route import Arm, Reason, Route, SignedRoute, WhyNot, accept
from ml_platform.registry.routefolder import RouteFolder, as_seen, not_followed, read_whole

__all__ = ["RouteFile", "Routed"]

# A folder's time of change has the kernel's tick as its grain: a change within this long of the one that was seen
# may have left the same time, so the files are read again until the time is older.
_GRAIN_NS: Final = 50_000_000


@dataclass(frozen=True, slots=True)
class Routed:
    """What answers now.

    Attributes:
        route: the route that is followed.
        digest: its digest, for the record.
        flip: the local rollback that outranks it; None when none does.
        flip_digest: that flip's digest, for the record.
        arms: which versions answer: the route's arms, or the flip's target alone.
        assignment: which arm answers a unit.
        refused: why a file that lies there is not followed; None when all are.
    """

    route: Route
    digest: str
    flip: Flip | None
    flip_digest: str | None
    arms: tuple[Arm, ...]
    assignment: Assignment
    refused: WhyNot | None = None

    @property
    def epoch(self) -> int:
        return self.route.epoch

    @property
    def primary(self) -> Arm:
        """The version that answers whoever is in no other arm."""
        return self.arms[0]

    @property
    def versions(self) -> tuple[tuple[int, str], ...]:
        """Every version that must stay loaded, with its artifact digest."""
        return self.route.named

    def arm_of(self, key: bytes) -> Arm:
        """The arm that answers a unit.

        Args:
            key: ``row/1`` of the entity key.
        """
        return self.assignment.arm(key)


class RouteFile:
    """Follows the route of one model.

    Args:
        folder: the model's route files.
        clock_ns: wall time in nanoseconds, as the file system's.
    """

    def __init__(self, folder: RouteFolder, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._folder = folder
        self._path = os.fspath(folder.folder)
        self._clock_ns = clock_ns
        self._mark: tuple[int, int] | None = None
        self._held: SignedRoute | None = None
        self._flip: Flip | None = None
        self._files: tuple[bytes | None, bytes | None] | None = None
        self._routed: Routed | None = None
        self.refusals: Counter[str] = Counter()

    @classmethod
    def of(cls, root: Path, model: str) -> RouteFile:
        """The route of a model in a root.

        Raises:
            NotFound: no route was ever written in this root.
            Tampered: what the root pinned is unreadable.
        """
        return cls(RouteFolder.of(root, model))

    def current(self) -> Routed:
        """What answers now; costs one `stat` when nothing changed.

        Raises:
            NotFound: there is no route, and none was ever followed.
            Tampered: there is one that does not count, and none was ever followed.
        """
        try:
            found = os.stat(self._path)  # noqa: PTH116 - before every batch: without a new Path
        except OSError:
            return self._kept("missing", "The route's folder is gone.")
        mark = (found.st_ino, found.st_mtime_ns)
        if mark == self._mark and self._routed is not None:
            return self._routed
        settled = self._clock_ns() - found.st_mtime_ns > _GRAIN_NS
        try:
            files = (read_whole(self._folder.route_path), read_whole(self._folder.flip_path))
        except PlatformError as error:
            return self._kept("unreadable", error.what)
        if self._routed is None or files != self._files:
            self._routed = self._read(*files)
        again = self._routed.refused is not None and self._routed.refused.reason == "not_stored"
        self._mark = mark if settled and not again else None
        self._files = None if again else files
        return self._routed

    def _read(self, raw: bytes | None, flip: bytes | None) -> Routed:
        refused = self._take_route(raw)
        if self._held is None:
            raise _nothing_to_follow(refused)
        refused = self._take_flip(flip, self._held) or refused
        if refused is not None:
            self.refusals[refused.reason] += 1
        return _routed(self._held, self._flip, refused)

    def _take_route(self, raw: bytes | None) -> WhyNot | None:
        """Follows an offered route if it counts; says why not otherwise."""
        if self._held is None:
            self._held = self._folder.seen()
        if raw is None:
            return WhyNot("missing", "The route file is gone.")
        if self._held is not None and raw == self._held.raw:
            return None
        offered = accept(as_seen(self._held), raw, self._folder.pin)
        if isinstance(offered, WhyNot):
            return offered
        try:
            self._folder.remember(offered)
        except (StorageFailed, Tampered) as error:
            return WhyNot("not_stored", f"The route is not followed: it cannot be remembered. {error.what}")
        self._held = offered
        return None

    def _take_flip(self, raw: bytes | None, held: SignedRoute) -> WhyNot | None:
        """Follows an offered flip if it holds; says why not otherwise. Only a route ends the one that is followed."""
        if self._flip is not None and held.route.supersedes_flip == self._flip.digest:
            self._flip = None
        if raw is None:
            return None if self._flip is None else WhyNot("flip_missing", "The file of the local rollback is gone.")
        try:
            offered = open_flip(raw)
        except Tampered as error:
            return WhyNot("flip_torn", error.what)
        why = why_not_flip(offered, held.route, held.digest)
        if why is not None:
            return WhyNot("flip_not_allowed", why)
        if held.route.supersedes_flip == offered.digest:
            return None
        known = self._flip
        if known is not None and known.route == offered.route and known.counter >= offered.counter and known != offered:
            return WhyNot("flip_older", "A later local rollback is followed already.")
        self._flip = offered
        return None

    def _kept(self, reason: Reason, what: str) -> Routed:
        """The last good route, where the files cannot be seen."""
        self._mark = None
        if self._held is None:
            raise _no_route()
        refused = WhyNot(reason, what)
        if self._routed is None or self._routed.refused != refused:
            self.refusals[refused.reason] += 1
            self._routed, self._files = _routed(self._held, self._flip, refused), None
        return self._routed


def _routed(held: SignedRoute, flip: Flip | None, refused: WhyNot | None) -> Routed:
    arms, holding = effective_arms(held.route, held.digest, flip)
    return Routed(
        route=held.route,
        digest=held.digest,
        flip=holding,
        flip_digest=None if holding is None else holding.digest,
        arms=arms,
        assignment=Assignment(held.route.salt, arms),
        refused=refused,
    )


def _nothing_to_follow(refused: WhyNot | None) -> PlatformError:
    if refused is None or refused.reason == "missing":
        return _no_route()
    if refused.reason == "not_stored":
        return StorageFailed(refused.what, field="serving", next_step="Free space or mend the folder.")
    return not_followed(refused)


def _no_route() -> NotFound:
    return NotFound(
        "There is no route to follow.",
        field="route",
        next_step="A promotion to production writes the first one.",
    )
