"""How far a shadow has come: one small file for each version, replaced as a whole, and the lock of whoever runs it."""

from __future__ import annotations

import fcntl
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

from ml_platform.core.clock import format_utc, parse_utc
from ml_platform.core.digests import canonical_json, parse_canonical
from ml_platform.core.errors import Conflict, Tampered
from ml_platform.core.files import write_atomically

__all__ = ["COUNTS", "ShadowCursor", "cursor_path", "shadow_lock"]

FORMAT: Final = "ml-platform/shadow-cursor/1"
# Every decision taken is exactly one of these. `own`: the version itself made it, as a canary; `erased`: the person has
# gone; `timed_out`: the version did not answer in time.
COUNTS: Final = ("pairs", "refused", "not_comparable", "timed_out", "failed", "own", "erased")


def cursor_path(root: Path, model: str, version: int) -> Path:
    """Where the cursor of a version lies."""
    return root / "shadow" / model / f"v{version}.json"


@dataclass
class ShadowCursor:
    """What was taken and what became of it.

    Attributes:
        since: decisions before this time are passed over.
        following: writer → the number of its next decision.
        at: of the platform's clock when this was written.
    """

    model: str
    version: int
    since: datetime
    at: datetime
    following: dict[str, int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """None where the version was never shadowed.

        Raises:
            Tampered: the file is none of ours.
        """
        try:
            document = parse_canonical(path.read_bytes())
            found = cls(
                document["model"],
                document["version"],
                parse_utc(document["since"]),
                parse_utc(document["at"]),
                dict(document["following"]),
                Counter(document["counts"]),
            )
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise _unreadable(path) from error
        if document["format"] != FORMAT:
            raise _unreadable(path)
        return found

    def write(self, path: Path, at: datetime) -> None:
        """Replaces the file; raises ``StorageFailed``."""
        self.at = at
        write_atomically(path, canonical_json(self.to_json()), mode=0o600)

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "model": self.model,
            "version": self.version,
            "since": format_utc(self.since),
            "at": format_utc(self.at),
            "following": dict(sorted(self.following.items())),
            "counts": {name: self.counts[name] for name in COUNTS},
        }


def _unreadable(path: Path) -> Tampered:
    return Tampered(
        "The shadow's cursor cannot be read as one.",
        field=path.name,
        next_step="Remove it to begin again; what was recorded is found and not repeated.",
    )


@contextmanager
def shadow_lock(path: Path) -> Iterator[None]:
    """One process shadows a version; the kernel lets go of the lock when it dies.

    Raises:
        Conflict: another one does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                "Another process shadows this version.", field="version", next_step="Leave it running: one is enough."
            ) from None
        yield
