"""Two clocks: the platform's (``decided_at``, maturity, windows) and the wall (``recorded_at``, latency, expiry).

A root is of kind ``wall`` or ``replay``, for ever. In a wall root both are the same clock; in a replay root the
platform's clock stands still until its file is rewritten, and a request can never set it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from ml_platform.core.errors import SettingsError
from ml_platform.core.files import write_atomically
from ml_platform.core.rows import utc

__all__ = ["Clock", "FixedClock", "ReplayClock", "WallClock", "format_utc", "parse_utc"]


class Clock(Protocol):
    """Tells an aware UTC time."""

    def now(self) -> datetime: ...


@dataclass(frozen=True)
class WallClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass(frozen=True)
class FixedClock:
    """Always the same instant: for rules under test and for one step of a replay."""

    at: datetime

    def now(self) -> datetime:
        return utc(self.at)


@dataclass(frozen=True)
class ReplayClock:
    """The clock of a replay root: an instant in a file, moved only forward.

    Raises:
        SettingsError: the file is missing, is no time, or would move backwards.
    """

    path: Path

    def now(self) -> datetime:
        try:
            return parse_utc(self.path.read_text().strip())
        except (OSError, ValueError) as error:
            raise SettingsError(
                "The replay clock cannot be read.",
                field=self.path.name,
                next_step="Set it with an RFC 3339 UTC time, or make the root again.",
            ) from error

    def move(self, to: datetime) -> None:
        if self.path.exists() and utc(to) < self.now():
            raise SettingsError(
                "A replay clock only moves forward.",
                field=self.path.name,
                next_step="Start a new root for an earlier time.",
            )
        write_atomically(self.path, format_utc(to).encode())


def format_utc(at: datetime) -> str:
    """RFC 3339, microseconds, ``Z``: the one text form of a time in our documents.

    >>> format_utc(datetime(2010, 1, 1, tzinfo=UTC))
    '2010-01-01T00:00:00.000000Z'
    """
    return utc(at).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_utc(text: str) -> datetime:
    """An aware UTC time from RFC 3339 text, or from a bare date (midnight UTC).

    Raises:
        ValueError: the text is no time.
        SchemaMismatch: the text is a time of day without a zone.
    """
    if len(text) == 10:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    return utc(datetime.fromisoformat(text))
