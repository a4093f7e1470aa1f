"""The loop of a worker: take, decide, write; what cannot be decided now is taken again later."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event as Flag
from typing import Any, Final, Protocol

from ml_platform.core.errors import Conflict, DataError, NotFound, PlatformError, SettingsError
from ml_platform.serving.stream.deciding import Batch, StreamDecider
from ml_platform.serving.stream.events import Event

__all__ = ["EventLog", "NotWritten", "StreamMetrics", "StreamWorker"]

_WAIT_SECONDS: Final = 0.25
_AGAIN_SECONDS: Final = 1.0


class NotWritten(Exception):
    """Nothing of the batch is visible, and its events come again."""


class EventLog(Protocol):
    """Where events come from, and where everything about them is written at once."""

    @property
    def following(self) -> dict[int, int]: ...

    def take(self, limit: int, wait_seconds: float, gather_seconds: float) -> list[Event]: ...

    def write(self, events: Sequence[Event], batch: Batch) -> None: ...

    def rewind(self) -> None: ...

    def rejoin(self) -> None: ...


@dataclass
class StreamMetrics:
    """What a worker counted since it began.

    Attributes:
        events: whose batch was committed; ``decided`` and ``refused`` make them up.
        aborted: batches that were not written and came again.
        waiting: batches that could not be decided when they came, by cause.
        epochs: of the routes that decided committed batches.
        newest_us: broker's time of the newest committed event, for lag.
    """

    events: int = 0
    decided: int = 0
    refused: int = 0
    batches: int = 0
    largest_batch: int = 0
    aborted: int = 0
    waiting: Counter[str] = field(default_factory=Counter)
    rules: Counter[str] = field(default_factory=Counter)
    epochs: Counter[int] = field(default_factory=Counter)
    newest_us: int = 0
    route_refused: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "events": self.events,
            "decided": self.decided,
            "refused": self.refused,
            "batches": self.batches,
            "largest_batch": self.largest_batch,
            "aborted": self.aborted,
            "waiting": dict(self.waiting),
            "rules": dict(self.rules),
            "epochs": {str(epoch): events for epoch, events in self.epochs.items()},
            "newest_us": self.newest_us,
            "route_refused": self.route_refused,
        }


@dataclass
class StreamWorker:
    """Decides the events of its share of the partitions until it is stopped.

    Args:
        log: takes and writes.
        decider: decides.
        said: told of what an operator should know, once each.
        largest: events a batch at most: what is lost by an abort is done again.
        gather_seconds: how long a batch that is not full waits for more events.
    """

    log: EventLog
    decider: StreamDecider
    said: Callable[[str], None]
    largest: int = 2_000
    gather_seconds: float = 0.005
    metrics: StreamMetrics = field(default_factory=StreamMetrics)
    _last: str = ""

    def run(self, stop: Flag) -> None:
        """Works until ``stop`` is set; the batch that has begun is finished.

        Raises:
            Conflict: another worker of this name has taken over.
            PlatformError: what no waiting mends: events or topics that are gone or made wrongly.
        """
        while not stop.is_set():
            try:
                self.step()
            except (Conflict, NotFound, SettingsError):
                raise
            except PlatformError as error:
                self._tell(str(error))
                stop.wait(_AGAIN_SECONDS)
                self.log.rejoin()

    def step(self) -> int:
        """One batch; how many events of it were committed."""
        events = self.log.take(self.largest, _WAIT_SECONDS, self.gather_seconds)
        if not events:
            return 0
        try:
            batch = self.decider.decide(events, self.log.following)
        except PlatformError as error:
            # The route, the store of features or a version is away, not the event at fault: it waits its turn.
            self._wait(error)
            return 0
        try:
            self.log.write(events, batch)
        except NotWritten:
            self.metrics.aborted += 1
            return 0
        self._count(events, batch)
        return len(events)

    def _wait(self, error: PlatformError) -> None:
        self.metrics.waiting[error.field or type(error).__name__] += 1
        self._tell(str(error))
        time.sleep(_AGAIN_SECONDS if not isinstance(error, DataError) else _AGAIN_SECONDS * 5)
        self.log.rewind()

    def _tell(self, text: str) -> None:
        if text != self._last:  # what is away stays away for a while
            self.said(text)
            self._last = text

    def _count(self, events: Sequence[Event], batch: Batch) -> None:
        metrics = self.metrics
        self._last = ""
        metrics.events += batch.events
        metrics.decided += len(batch.outputs)
        metrics.refused += len(batch.letters)
        metrics.batches += 1
        metrics.largest_batch = max(metrics.largest_batch, batch.events)
        metrics.epochs[batch.epoch] += batch.events
        metrics.newest_us = max(metrics.newest_us, *(event.at_us for event in events))
        metrics.rules.update(f"{why.field}:{why.rule}" for letter in batch.letters for why in letter.refusals)
        metrics.route_refused = self.decider.follower.refused
