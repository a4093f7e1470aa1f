"""What ``verify`` found, how bad it is, and one sentence that claims no more than was shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ml_platform.registry import Report as LogReport
from ml_platform.registry.report import EXIT_CODES, Grade
from ml_platform.serving.unsealed import UnsealedCount

__all__ = ["Counts", "Finding", "Report"]


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was committed to.

    Args:
        severity: ``tampered``; ``incomplete``: evidence is missing; ``unwitnessed``.
        where: the thing, named as closely as possible: a prediction id, a row of a snapshot, a log entry, a path.
        expected: what it should be.
        found: what it is.
    """

    severity: Grade
    where: str
    expected: str
    found: str

    def to_json(self) -> dict[str, str]:
        return asdict(self)


@dataclass
class Counts:
    """How much was looked at; a count of 0 says that there was nothing of the kind."""

    segments: int = 0
    records: int = 0
    partitions: int = 0
    versions: int = 0
    snapshots: int = 0
    snapshot_rows: int = 0
    artifacts: int = 0
    definitions: int = 0
    evaluations: int = 0
    asked_again: int = 0
    unsealed: int = 0


@dataclass(frozen=True)
class Report:
    """The outcome of ``verify``.

    Attributes:
        findings: the log's first, then those of what it commits to.
        log: the judgement of the log itself.
        counts: how much was looked at.
        deep: whether every score was computed again.
        unsealed: what waits in write-ahead logs, by writer.
    """

    findings: tuple[Finding, ...]
    log: LogReport
    counts: Mapping[str, int] = field(hash=False)
    deep: bool = False
    unsealed: tuple[UnsealedCount, ...] = ()

    @property
    def entries(self) -> int:
        return self.log.size

    @property
    def root(self) -> str:
        return self.log.root

    @property
    def status(self) -> str:
        """``verified``, or the worst severity of a finding."""
        found = {finding.severity for finding in self.findings}
        return next((grade for grade in ("tampered", "incomplete", "unwitnessed") if grade in found), "verified")

    @property
    def ok(self) -> bool:
        return not self.findings

    @property
    def exit_code(self) -> int:
        """0 verified, 5 tampered, 10 incomplete, 11 unwitnessed."""
        return EXIT_CODES[self.status]

    @property
    def statement(self) -> str:
        """One sentence that claims no more than was shown."""
        if self.findings:
            first = next(one for one in self.findings if one.severity == self.status)
            return f"{self.status}: {first.where}: {first.found} Expected: {first.expected}"
        return self.log.statement

    def to_json(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "verified": self.ok,
            "statement": self.statement,
            "entries": self.entries,
            "root": self.root,
            "genesis": self.log.genesis,
            "checkpoints": self.log.checkpoints,
            "since": self.log.since,
            "counts": dict(self.counts),
            "deep": self.deep,
            "findings": [finding.to_json() for finding in self.findings],
            "open_writers": list(self.log.open_writers),
            "unsealed": [asdict(one) for one in self.unsealed],
        }
