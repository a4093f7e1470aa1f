"""``verify``: the log judged again from nothing, and everything that it commits to opened and compared."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ml_platform.core.errors import PlatformError, StorageFailed
from ml_platform.governance.findings import Counts, Finding, Report
from ml_platform.governance.partitions import check_decisions, check_indexes, check_partitions
from ml_platform.governance.parts import Parts
from ml_platform.governance.records import SegmentCheck
from ml_platform.governance.stored import StoredTables
from ml_platform.governance.versions import VersionCheck
from ml_platform.registry.report import Grade
from ml_platform.serving.online_writers import WriterFolder, writer_folders
from ml_platform.serving.unsealed import UnsealedCount, count_unsealed
from ml_platform.serving.wal import WAL_FOLDER

__all__ = ["verify"]


def verify(parts: Parts, *, since: bytes | None = None, genesis: str | None = None, deep: bool = False) -> Report:
    """Checks a whole root; makes and changes nothing.

    The log: bytes, rules, signatures, recomputed verdicts, checkpoints, read tables. Then what it commits to: every
    record of every sealed segment, the counts of every partition, every artifact, definition, training set (row by
    row) and evaluation. Where the log itself was tampered with, what it commits to is not looked at.

    Args:
        parts: the root.
        since: the signed note of an older checkpoint, from whoever kept it. Without one the outcome is "internally
            consistent only".
        genesis: the platform's identity as it is known elsewhere, ``sha256:…``.
        deep: also compute every score, decision and gate interval again.
    """
    log = parts.registry.verify(since=since, genesis=genesis)
    findings = [_of_log(problem.grade, problem.entry, problem.expected, problem.what) for problem in log.problems]
    logged, unsealed = _unsealed(parts)
    living = {one.writer for one in unsealed}
    # An online writer is open while its process lives or its log waits for the sealer; one without a log is not whole.
    findings += [
        Finding("incomplete", f"writer {name}", "its closing entry", "It was never closed, and its log is gone.")
        for name in log.open_writers
        if name not in living and not _closed_meanwhile(parts, name)
    ]
    counts = Counts(unsealed=sum(one.decisions for one in unsealed))
    if log.status != "tampered":
        try:
            findings += logged + _committed(parts, counts, deep=deep)
        except StorageFailed:
            raise
        except PlatformError as error:
            findings.append(Finding("tampered", error.field or "the root", "what the log commits to", error.what))
    return Report(tuple(findings), log, asdict(counts), deep, tuple(unsealed))


def _unsealed(parts: Parts) -> tuple[list[Finding], list[UnsealedCount]]:
    """What waits in write-ahead logs; a record that is missing there, or a log that cannot be read, is a finding."""
    findings: list[Finding] = []
    found: list[UnsealedCount] = []
    for folder in writer_folders(parts.root / WAL_FOLDER):
        try:
            one = _counted(parts, folder)
        except PlatformError as error:
            findings.append(Finding("incomplete", f"writer {folder.writer}", "a readable log", error.what))
            one = UnsealedCount(folder.model, folder.writer)
        found.append(one)
        if one.missing is not None:
            findings.append(
                Finding("incomplete", f"writer {folder.writer}", one.missing, "The write-ahead log does not hold it.")
            )
    return findings, found


def _counted(parts: Parts, folder: WriterFolder) -> UnsealedCount:
    """The count against the log as it is then: a sealer at work moves records from the one to the other."""
    while True:
        known = parts.registry.state().writers.get(folder.writer)
        try:
            found = count_unsealed(folder, known)
        except PlatformError:
            if not folder.there:  # sealed, closed and removed meanwhile
                return UnsealedCount(folder.model, folder.writer)
            if parts.registry.state().writers.get(folder.writer) == known:
                raise
            continue
        if parts.registry.state().writers.get(folder.writer) == known:
            return found


def _closed_meanwhile(parts: Parts, writer: str) -> bool:
    known = parts.registry.state().writers.get(writer)
    return known is not None and known.closed


def _committed(parts: Parts, counts: Counts, *, deep: bool) -> list[Finding]:
    state = parts.registry.state()
    findings = list(VersionCheck(parts, counts, deep).check(state))
    sealed, tables = _sealed(parts), StoredTables(parts.lake)
    registered = {version.digests.artifact for model in state.models.values() for version in model.versions.values()}
    segments = SegmentCheck(parts, tables, frozenset(registered), counts, deep)
    for entry in sealed.values():
        findings += segments.check(entry)
    findings += check_partitions(parts, tables, sealed, counts)
    findings += check_indexes(tables, sealed)
    named = {finding.where.removeprefix("prediction ") for finding in findings}
    for model in state.models:
        findings += check_decisions(tables, model, counts, named)
    return findings + tables.findings


def _sealed(parts: Parts) -> dict[str, dict[str, Any]]:
    """The log's description of every sealed segment."""
    return {
        str(segment["id"]): segment
        for entry in parts.registry.entries()
        if entry.kind == "segments_sealed"
        for segment in entry.body["segments"]
    }


def _of_log(grade: Grade, entry: int | None, expected: str, what: str) -> Finding:
    return Finding(grade, "the log" if entry is None else f"log entry {entry}", expected, what)
