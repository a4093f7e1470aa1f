"""The control topic: signed routes for every worker, on whatever machine; what is no good changes nothing.

A worker follows the route files of its root, as routers do. This brings routes there from the topic, through the same
door: signature, root, model, epoch and previous digest are checked before a byte is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event as Flag
from threading import Thread
from typing import Any, Final, Protocol

from ml_platform.core.errors import PlatformError, StorageFailed
from ml_platform.registry.route import Reason, SignedRoute, WhyNot, accept
from ml_platform.registry.routefolder import RouteFolder, as_seen

__all__ = ["ControlLog", "ControlTopic"]

_WAIT_SECONDS: Final = 0.2
_AGAIN_SECONDS: Final = 1.0
_PASSED: Final[frozenset[Reason]] = frozenset({"lower_epoch"})


class ControlLog(Protocol):
    """The messages of the topic's one partition."""

    def bounds(self, topic: str, partition: int) -> tuple[int, int]: ...

    def rest(self, topic: str, partition: int, offset: int) -> Any: ...

    def take(self, limit: int, wait_seconds: float) -> tuple[list[Any], int | None]: ...


@dataclass
class ControlTopic:
    """Brings the routes of a control topic into a root.

    Args:
        log: reads the topic.
        topic: its name.
        folder: the model's route files in this root.
        said: told of each message that is not followed, with the reason.

    Attributes:
        refused: reason → messages that changed nothing.
    """

    log: ControlLog
    topic: str
    folder: RouteFolder
    said: Callable[[str], None]
    refused: Counter[str] = field(default_factory=Counter)
    applied: int = 0
    _thread: Thread | None = None

    def read_to_the_end(self) -> None:
        """Before the first event: everything that the topic holds, however old; older routes are passed over.

        Raises:
            ServerUnavailable: the brokers do not answer.
            StorageFailed: a route cannot be written.
        """
        first, _ = self.log.bounds(self.topic, 0)
        for messages, _ in self.log.rest(self.topic, 0, first):
            for one in messages:
                self._offer(one, passed=_PASSED)

    def follow(self, stop: Flag) -> None:
        """Goes on in a thread of its own, from where ``read_to_the_end`` ended, until ``stop`` is set."""
        self._thread = Thread(target=self._follow, args=(stop,), name="control-topic", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Waits for the thread, after ``stop`` was set."""
        if self._thread is not None:
            self._thread.join(10.0)

    def _follow(self, stop: Flag) -> None:
        while not stop.is_set():
            try:
                messages, _ = self.log.take(100, _WAIT_SECONDS)
            except PlatformError as error:
                self.said(f"control topic: {error}")
                stop.wait(_AGAIN_SECONDS)
                continue
            for one in messages:
                while not stop.is_set():
                    try:
                        self._offer(one, passed=frozenset())
                        break
                    except StorageFailed as error:  # a full disk; the message waits, and the old route decides
                        self.said(f"control topic: {error}")
                        stop.wait(_AGAIN_SECONDS)

    def _offer(self, message: Any, *, passed: frozenset[Reason]) -> None:
        seen = self.folder.seen()
        offered = accept(as_seen(seen), message.value or b"", self.folder.pin)
        if isinstance(offered, WhyNot):
            if offered.reason not in passed:
                self._refuse(message.offset, offered.reason, offered.what)
            return
        self._write(message.offset, offered, again=seen is not None and seen.raw == offered.raw)

    def _write(self, offset: int, offered: SignedRoute, *, again: bool) -> None:
        try:
            self.folder.write(offered)
        except StorageFailed:
            raise
        except PlatformError as error:
            self._refuse(offset, error.field or "conflict", error.what)
            return
        self.applied += not again

    def _refuse(self, offset: int, reason: str, what: str) -> None:
        self.refused[reason] += 1
        self.said(f"control topic: message {offset} is not followed ({reason}): {what}")
