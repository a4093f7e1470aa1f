"""A new version scored beside the one that decides: a consumer of the log, in a process of its own.

It reads what is durable, scores it with its own contract at a capped rate, and writes records of its own. No router
waits for it, loads it or knows of it; when it hangs, it is killed and the decisions are counted. Each decision is
taken once: records first, cursor second, and what was recorded without the cursor is found again after a kill.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, Final

from ml_platform.core.clock import format_utc, parse_utc
from ml_platform.core.errors import DataError, NotFound
from ml_platform.core.objects import ObjectStore
from ml_platform.core.storage import StorageSettings
from ml_platform.lifecycle.shadow_batch import ShadowRecorder
from ml_platform.lifecycle.shadow_cursor import COUNTS, ShadowCursor, cursor_path, shadow_lock
from ml_platform.lifecycle.shadow_source import PrimaryLog, shadowed_pairs
from ml_platform.platform import Platform
from ml_platform.registry.state import VersionState
from ml_platform.rollout.isolated import Decides, IsolatedScorer
from ml_platform.serving import Scorer
from ml_platform.serving.wal import WalWriter, WriterInfo, wal_folder

__all__ = ["BATCH", "ShadowRun", "shadow_follow", "shadow_once"]

BATCH: Final = 2048
LIMIT_SECONDS: Final = 10.0  # for one batch: a thousand times what it takes
_HANGS: Final = 3  # batches in a row that a version may not answer before its shadow gives up
Load = Callable[[], Decides]


def shadow_once(
    platform: Platform,
    model: str,
    version: int | None = None,
    *,
    since: datetime | None = None,
    rate: float | None = None,
    limit_seconds: float = LIMIT_SECONDS,
    load: Load | None = None,
) -> dict[str, Any]:
    """Scores everything durable that was not taken yet, and ends; returns what this run did and what all runs did.

    Args:
        platform: the root.
        model: model name.
        version: which; by default the newest in staging or canary.
        since: decisions before are passed over; for the first run only, by default those before the version was there.
        rate: decisions a second at most.
        limit_seconds: for one batch of the version's answers.
        load: makes the version in its process; its stored artifact by default.

    Raises:
        NotFound: no such model or version.
        Conflict: another process shadows the version.
        DataError: the version did not answer three times in a row.
    """
    run = ShadowRun(platform, model, version, since=since, rate=rate, limit_seconds=limit_seconds, load=load)
    with shadow_lock(run.path), run:
        run.resume()
        while run.step():
            pass
        return run.done()


def shadow_follow(
    platform: Platform,
    model: str,
    version: int | None = None,
    *,
    stop: Event,
    every_seconds: float = 1.0,
    said: Callable[[dict[str, Any]], None] = lambda _: None,
    **how: Any,
) -> dict[str, Any]:
    """Goes on as decisions come until ``stop`` is set; a batch that has begun is finished.

    Args:
        platform: the root.
        model: model name.
        version: as for ``shadow_once``.
        stop: set by whoever ends it.
        every_seconds: pause when there is nothing to do.
        said: told after each look that found something.
        how: as for ``shadow_once``.
    """
    run = ShadowRun(platform, model, version, stop=stop, **how)
    with shadow_lock(run.path), run:
        run.resume()
        while not stop.is_set():
            found = False
            while not stop.is_set() and run.step():
                found = True
            if found:
                said(run.done())
            run.rotate()
            stop.wait(every_seconds)
        return run.done()


def _load(store: str, storage: StorageSettings, artifact: str) -> Scorer:
    """In the child: the version by its stored artifact; a shadow gives no reasons."""
    return Scorer.load(ObjectStore(store, storage), artifact, reasons=False)


@dataclass
class ShadowRun:
    """One run; see ``shadow_once`` for the arguments."""

    platform: Platform
    model: str
    version: int | None = None
    since: datetime | None = None
    rate: float | None = None
    limit_seconds: float = LIMIT_SECONDS
    load: Load | None = None
    stop: Event = field(default_factory=Event)
    taken: int = 0
    _writer: WalWriter | None = None

    def __post_init__(self) -> None:
        if self.rate is not None and not self.rate > 0:
            raise DataError("A rate is a positive number.", field="rate", next_step="Give decisions a second.")
        known = self.platform.registry.state().model(self.model)
        self._version = known.version(self.version) if self.version is not None else _newest(known.versions.values())
        self.version = self._version.number
        self.path = cursor_path(self.platform.root, self.model, self.version)
        load = self.load or partial(
            _load, self.platform.objects.url, self.platform.objects.storage, self._version.digests.artifact
        )
        self._scorer = IsolatedScorer(load, limit_seconds=self.limit_seconds)
        self._recorder = ShadowRecorder(self.platform, self._version, self._scorer)

    def __enter__(self) -> ShadowRun:
        return self

    def __exit__(self, *_: object) -> None:
        self._scorer.close()
        if self._writer is not None:
            self._writer.close()

    def resume(self) -> None:
        """Finds where the last run ended; what it recorded and did not count is taken as done."""
        found = ShadowCursor.read(self.path)
        now = self.platform.clock.now()
        if found is None:
            registered = self.platform.registry.entry(self._version.registered).effective_at
            since = self.since or parse_utc(registered)
            found = ShadowCursor(self.model, self._version.number, since, since)
        self._cursor = found
        self._log = PrimaryLog(self.platform, self.model, found.since)
        self._recorder.recorded = shadowed_pairs(self.platform, self.model, self._version.number, min(found.at, now))

    def step(self) -> bool:
        """Takes one batch; False where there is nothing to take.

        Raises:
            DataError: the version did not answer three times in a row; what was taken is counted.
        """
        size = BATCH if self.rate is None else max(1, min(BATCH, int(self.rate)))
        began = time.monotonic()
        batch = self._log.take(self._cursor.following, size)
        if not batch:
            return False
        frames = self._recorder.frames(batch, self._cursor.counts)
        if frames:
            self._open().append(frames)
        for one in batch:
            self._cursor.following[one.header.writer] = one.header.seq + 1
        self._cursor.write(self.path, self.platform.clock.now())
        self.taken += len(batch)
        if self._recorder.unanswered >= _HANGS:
            raise DataError(
                f"The version did not answer within {self.limit_seconds:g} s, {_HANGS} batches in a row.",
                field="version",
                next_step="Look at the version; what was not answered is counted as timed_out.",
            )
        if self.rate is not None:
            self.stop.wait(max(0.0, len(batch) / self.rate - (time.monotonic() - began)))
        return True

    def rotate(self) -> None:
        """Lets the sealer have what is old enough."""
        if self._writer is not None:
            self._writer.rotate_if_due()

    def done(self) -> dict[str, Any]:
        """What was taken, by this run and by all."""
        counts = {name: self._cursor.counts[name] for name in COUNTS}
        return {
            "model": self.model,
            "version": self.version,
            "since": format_utc(self._cursor.since),
            "taken": self.taken,
            **counts,
        }

    def _open(self) -> WalWriter:
        if self._writer is None:
            info = WriterInfo(
                writer=self._recorder.writer,
                kind="shadow",
                model=self.model,
                root_id=self.platform.root_id,
                started_at=format_utc(self.platform.wall.now()),
                pid=os.getpid(),
            )
            self._writer = WalWriter(wal_folder(Path(self.platform.root), self.model, self._recorder.writer), info)
        return self._writer


def _newest(versions: Iterable[VersionState]) -> VersionState:
    found = [one for one in versions if one.stage in {"staging", "canary"}]
    if not found:
        raise NotFound(
            "No version is in staging or canary.", field="version", next_step="Name the version that is to be shadowed."
        )
    return max(found, key=lambda one: one.number)
