"""What a batch partition says before its first row, and when it is complete (DECISIONS 2).

``batch/<model>/<partition>/<revision>/intent.json`` is created if absent and read back: whoever runs, retries or
races uses the same version, times and writer. ``…/commit.json`` says that everything is there; readers believe
nothing before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final, Self

from ml_platform.core.clock import parse_utc
from ml_platform.core.digests import canonical_json, parse_canonical
from ml_platform.core.errors import Conflict, NotFound, Tampered
from ml_platform.core.objects import ObjectStore
from ml_platform.core.rows import micros

__all__ = [
    "BatchResult",
    "Intent",
    "claim",
    "marker_path",
    "newest_revision",
    "read_intent",
    "read_result",
    "write_marker",
]

INTENT_FORMAT: Final = "ml-platform/batch-intent/1"
COMMIT_FORMAT: Final = "ml-platform/batch-commit/1"

Counts = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Intent:
    """What is fixed about a partition's revision. Times are RFC 3339 text with microseconds, UTC.

    Args:
        start, end: the window [start, end) of request times.
        writer: the random boot id of the run that came first.
        supersedes: the revision that this one follows; None for the first.
        reason: why it was scored again.
    """

    root_id: str
    model: str
    partition: str
    revision: int
    version: int
    artifact_digest: str
    role: str
    clock: str
    start: str
    end: str
    decided_at: str
    recorded_at: str
    writer: str
    decision_of_record: bool = True
    supersedes: int | None = None
    reason: str | None = None
    format: str = INTENT_FORMAT

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        if document.get("format") != INTENT_FORMAT:
            raise Tampered("The stored document is no intent.", field="format", next_step=f"Expected {INTENT_FORMAT}.")
        return cls(**document)

    def to_bytes(self) -> bytes:
        return canonical_json(asdict(self))

    @property
    def decided_time(self) -> datetime:
        return parse_utc(self.decided_at)

    @property
    def decided_at_us(self) -> int:
        return micros(self.decided_time)

    @property
    def recorded_at_us(self) -> int:
        return micros(parse_utc(self.recorded_at))

    @property
    def window_us(self) -> tuple[int, int]:
        return micros(parse_utc(self.start)), micros(parse_utc(self.end))

    @property
    def month(self) -> str:
        return self.decided_at[:7]

    @property
    def decided_date(self) -> str:
        return self.decided_at[:10]

    @property
    def segment_id(self) -> str:
        """A batch partition is one segment, the only one of its writer."""
        return f"{self.writer}.0"

    @property
    def app_id(self) -> str:
        return f"batch/{self.model}/{self.partition}"

    @property
    def folder(self) -> str:
        return _folder(self.model, self.partition, self.revision)


@dataclass(frozen=True)
class BatchResult:
    """What a complete partition holds; the content of its commit marker.

    Args:
        already_decided: requests of the window that were decided online, and are none of its rows.
        rows: rows read; ``accepted`` + ``refused``.
        flagged: accepted rows with at least one flag.
        segment_id, root: None when no row was accepted.
        tables: table name → version that holds the partition's rows.
        refusals, flags: field → rule → count.
    """

    model: str
    version: int
    artifact_digest: str
    partition: str
    revision: int
    decided_at: str
    decision_of_record: bool
    rows: int
    accepted: int
    refused: int
    flagged: int
    declined: int
    segment_id: str | None
    root: str | None
    tables: Mapping[str, int] = field(default_factory=dict)
    refusals: Counts = field(default_factory=dict)
    flags: Counts = field(default_factory=dict)
    already_decided: int = 0
    format: str = COMMIT_FORMAT

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        if document.get("format") != COMMIT_FORMAT:
            raise Tampered("The stored document is no marker.", field="format", next_step=f"Expected {COMMIT_FORMAT}.")
        return cls(**document)


def _folder(model: str, partition: str, revision: int) -> str:
    return f"batch/{model}/{partition}/{revision}"


def marker_path(model: str, partition: str, revision: int) -> str:
    """Where the commit marker of a revision lies."""
    return f"{_folder(model, partition, revision)}/commit.json"


def newest_revision(objects: ObjectStore, model: str, partition: str) -> int | None:
    """The highest revision that has an intent; None for a partition that nobody began."""
    prefix = f"batch/{model}/{partition}/"
    found = [path.removeprefix(prefix).split("/") for path in objects.list(prefix)]
    return max((int(parts[0]) for parts in found if parts[1:] == ["intent.json"]), default=None)


def claim(objects: ObjectStore, proposed: Intent) -> Intent:
    """Stores the intent, or returns the one that came first.

    Raises:
        Conflict: the partition was begun with another window or role; versions and times may differ, the first holds.
    """
    path = f"{proposed.folder}/intent.json"
    objects.create(path, proposed.to_bytes())
    held = Intent.from_json(parse_canonical(objects.read(path)))
    for name in ("root_id", "model", "partition", "start", "end", "role"):
        if getattr(held, name) != getattr(proposed, name):
            raise Conflict(
                "The partition was begun with another value.",
                field=name,
                next_step="Run it as it was begun, or use another partition key.",
            )
    return held


def read_intent(objects: ObjectStore, model: str, partition: str, revision: int) -> Intent:
    """The intent of a revision; ``NotFound`` where nobody began it."""
    return Intent.from_json(parse_canonical(objects.read(f"{_folder(model, partition, revision)}/intent.json")))


def read_result(objects: ObjectStore, model: str, partition: str, revision: int) -> BatchResult | None:
    """The result of a complete revision; None where there is no marker."""
    try:
        raw = objects.read(marker_path(model, partition, revision))
    except NotFound:
        return None
    return BatchResult.from_json(parse_canonical(raw))


def write_marker(objects: ObjectStore, result: BatchResult) -> None:
    """The last step: from here on the partition is complete."""
    objects.create_same(marker_path(result.model, result.partition, result.revision), canonical_json(result.to_json()))
