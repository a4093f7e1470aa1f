"""The platform's clock as a router reads it, once a batch: now, or the clock file of a replay root by one ``stat``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final, Literal, Protocol

from ml_platform.core.clock import ReplayClock
from ml_platform.core.errors import SettingsError
from ml_platform.core.rows import micros
from ml_platform.core.settings import Settings

__all__ = ["RouterClock", "clock_of", "wall_us"]

_GRAIN_NS: Final = 50_000_000  # a change within the file system's tick may leave the same time


class RouterClock(Protocol):
    """Tells ``decided_at`` of a batch."""

    kind: Literal["wall", "replay"]

    def now_us(self) -> int:
        """Microseconds UTC.

        Raises:
            SettingsError: a replay root's clock cannot be read.
        """
        ...


def wall_us() -> int:
    """The machine's clock in microseconds UTC."""
    return time.time_ns() // 1000


class _Wall:
    kind: Literal["wall", "replay"] = "wall"

    def now_us(self) -> int:
        return wall_us()


class _Replay:
    """A request never sets it: whoever moves the root's clock replaces the file."""

    kind: Literal["wall", "replay"] = "replay"

    def __init__(self, path: Path) -> None:
        self._clock = ReplayClock(path)
        self._path = os.fspath(path)
        self._mark: tuple[int, int, int] | None = None
        self._now_us = 0

    def now_us(self) -> int:
        try:
            found = os.stat(self._path)  # noqa: PTH116 - before every batch: without a new Path
        except OSError as error:
            raise SettingsError(
                "The replay clock cannot be read.", field="clock", next_step="Restore the root's clock file."
            ) from error
        mark = (found.st_ino, found.st_mtime_ns, found.st_size)
        if mark != self._mark:
            self._now_us = micros(self._clock.now())
            self._mark = mark if time.time_ns() - found.st_mtime_ns > _GRAIN_NS else None
        return self._now_us


def clock_of(settings: Settings) -> RouterClock:
    """The clock of a root."""
    return _Replay(settings.root / "clock") if settings.kind == "replay" else _Wall()
