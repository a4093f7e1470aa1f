"""Batch scoring: a window of rows becomes recorded decisions, completely or not at all.

Two passes, memory flat in rows. The first (``serving.engine``) streams chunks through contract, features, model and
record and spools them; nothing is written outside the scratch folder until every row has been seen. The second
(``serving.sealing``) reads them sorted by id, gives each its ``seq`` (its rank, so that the order of the input means
nothing), hashes the leaves and writes the tables; the commit marker comes last. In memory stay 8 bytes a row against
duplicates, then about 120 while the leaves are sorted.
"""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from ml_platform.core.clock import format_utc
from ml_platform.core.contract import Contract
from ml_platform.core.delta import Lake
from ml_platform.core.errors import DeclarationError, NotFound
from ml_platform.core.fields import check_name
from ml_platform.core.objects import ObjectStore
from ml_platform.core.rows import utc
from ml_platform.core.subjects import Subjects
from ml_platform.serving.decided import decided_count
from ml_platform.serving.delta import storage_failed
from ml_platform.serving.engine import ArrowEngine, Engine, FirstPass, Rows
from ml_platform.serving.intent import (
    BatchResult,
    Intent,
    claim,
    newest_revision,
    read_intent,
    read_result,
    write_marker,
)
from ml_platform.serving.lookup import segment_ids
from ml_platform.serving.preparing import FeatureReader
from ml_platform.serving.scorer import Scorer
from ml_platform.serving.scoring import Tally
from ml_platform.serving.sealing import Sealed, Sealer
from ml_platform.serving.workspace import workspace

__all__ = ["MAX_REFUSED_SHARE", "BatchJob", "BatchParts", "Supersede", "score_partition"]

CHUNK_ROWS: Final = 65_536
MAX_REFUSED_SHARE: Final = 0.05
_PARTITION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")


@dataclass(frozen=True)
class Supersede:
    """The order to score a complete partition again, as its next revision.

    Args:
        reason: why.
        decision_of_record: True only for a correction that was signed like an approval.
    """

    reason: str
    decision_of_record: bool = False

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise DeclarationError("Scoring again needs a reason.", field="reason", next_step="Say why, in a sentence.")


@dataclass(frozen=True)
class BatchJob:
    """What is to be scored. Where the partition was begun before, its intent holds instead of version and times.

    Args:
        partition: the partition's key, such as ``2010-01``.
        start, end: the window [start, end) of request times.
        version, artifact_digest: production's, by the registry, at ``decided_at``.
        decided_at: on the platform's clock, not before the end of the window.
        recorded_at: on the wall clock.
        clock: ``replay`` says "replayed, never served".
        entity, personal: the model's entity, and whether each has a seed of its own.
        max_refused_share: with more refused rows than this (and more than 10) nothing is written.
    """

    root_id: str
    model: str
    partition: str
    start: datetime
    end: datetime
    version: int
    artifact_digest: str
    decided_at: datetime
    recorded_at: datetime
    clock: Literal["wall", "replay"]
    entity: str
    personal: bool
    role: str = "primary"
    supersede: Supersede | None = None
    max_refused_share: float = MAX_REFUSED_SHARE
    chunk_rows: int = CHUNK_ROWS

    def __post_init__(self) -> None:
        check_name(self.model, field="model")
        if not _PARTITION.fullmatch(self.partition):
            raise DeclarationError(
                "This is no partition key.", field="partition", next_step="Use letters, digits, dot, dash, underscore."
            )
        if not utc(self.start) < utc(self.end) <= utc(self.decided_at):
            raise DeclarationError(
                "A window ends after it starts and not after the decision.",
                field="end",
                next_step="Score a window when it is over.",
            )
        if not 0 <= self.max_refused_share <= 1 or self.chunk_rows < 1:
            raise DeclarationError(
                "A share is between 0 and 1, a chunk has a row.",
                field="max_refused_share",
                next_step=f"The default is {MAX_REFUSED_SHARE}.",
            )


@dataclass(frozen=True)
class BatchParts:
    """Where rows come from and records go.

    Args:
        load: the scorer of an artifact digest; asked for the version that the intent pins.
        rows: the window's rows for a contract: entity keys, request time and input columns, by name.
        features: stored features, where contracts have any.
        engine: where the first pass is made; the records are the same.
        scratch: a folder on a local disk for sorting; holds personal data while a run lasts.
    """

    objects: ObjectStore
    lake: Lake
    subjects: Subjects
    load: Callable[[str], Scorer]
    rows: Callable[[Contract], Rows]
    scratch: Path
    features: FeatureReader | None = None
    engine: Engine = field(default_factory=ArrowEngine)


def score_partition(job: BatchJob, parts: BatchParts) -> BatchResult:
    """Scores and records a window; a complete one is returned as it is, a broken-off one is completed.

    Raises:
        SchemaMismatch, DataError: the rows are not those of the contract or the window.
        DuplicateKeys: two rows are about the same entity at the same time.
        ContractViolation: too many rows were refused.
        ArtifactCorrupt, NotFound: the version cannot be loaded.
        Conflict: another process is at work on it, or it was begun with another window.
        StorageFailed: the disk is full or a store cannot be reached.
        In each case no reader sees a row of the partition, and a rerun starts from what is there.
    """
    revision = _revision(job, parts.objects)
    done = read_result(parts.objects, job.model, job.partition, revision)
    if done is not None:
        return done
    try:
        with workspace(parts.scratch / job.model / job.partition) as folder:
            return _run(job, parts, revision, folder)
    except OSError as error:
        raise storage_failed("the partition", error) from error


def _revision(job: BatchJob, objects: ObjectStore) -> int:
    newest = newest_revision(objects, job.model, job.partition)
    if newest is None:
        if job.supersede is not None:
            raise NotFound("There is nothing to supersede.", field="partition", next_step="Score the partition first.")
        return 0
    complete = read_result(objects, job.model, job.partition, newest) is not None
    return newest + 1 if complete and job.supersede is not None else newest


def _proposed(job: BatchJob, revision: int) -> Intent:
    again = job.supersede
    return Intent(
        root_id=job.root_id,
        model=job.model,
        partition=job.partition,
        revision=revision,
        version=job.version,
        artifact_digest=job.artifact_digest,
        role=job.role,
        clock=job.clock,
        start=format_utc(job.start),
        end=format_utc(job.end),
        decided_at=format_utc(job.decided_at),
        recorded_at=format_utc(job.recorded_at),
        writer=f"batch-{secrets.token_hex(16)}",
        decision_of_record=revision == 0 or (again is not None and again.decision_of_record),
        supersedes=None if revision == 0 else revision - 1,
        reason=None if again is None else again.reason,
    )


def _run(job: BatchJob, parts: BatchParts, revision: int, folder: Path) -> BatchResult:
    intent = claim(parts.objects, _proposed(job, revision))
    scorer = parts.load(intent.artifact_digest)
    work = FirstPass(
        intent=intent,
        scorer=scorer,
        objects=parts.objects,
        subjects=parts.subjects,
        entity=job.entity,
        personal=job.personal,
        chunk_rows=job.chunk_rows,
        folder=folder,
        rows=parts.rows,
        features=parts.features,
        earlier=_earlier(intent, parts),
    )
    with parts.engine.first_pass(work) as passed:
        tally = passed.tally
        tally.check(job.max_refused_share)
        tally.seen.clear()
        sealer = Sealer(parts.lake, parts.objects, intent, scorer.contract, folder, job.chunk_rows)
        sealed = sealer.seal(passed.records, passed.quarantine, _counts(tally))
    result = _result(intent, tally, sealed, parts.objects)
    write_marker(parts.objects, result)
    return result


def _earlier(intent: Intent, parts: BatchParts) -> tuple[Intent, npt.NDArray[np.uint8]] | None:
    if intent.supersedes is None:
        return None
    before = read_intent(parts.objects, intent.model, intent.partition, intent.supersedes)
    return before, segment_ids(parts.lake, before)


def _counts(tally: Tally) -> dict[str, int]:
    return {
        "accepted": tally.accepted,
        "declined": tally.declined,
        "flagged": tally.flagged,
        "refused": tally.refused,
    }


def _nested(counts: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (name, rule), count in sorted(counts.items()):
        found.setdefault(name, {})[rule] = count
    return found


def _result(intent: Intent, tally: Tally, sealed: Sealed, objects: ObjectStore) -> BatchResult:
    segment = sealed.segment
    return BatchResult(
        model=intent.model,
        version=intent.version,
        artifact_digest=intent.artifact_digest,
        partition=intent.partition,
        revision=intent.revision,
        decided_at=intent.decided_at,
        decision_of_record=intent.decision_of_record,
        already_decided=decided_count(objects, intent.model, intent.partition, intent.revision),
        rows=tally.rows,
        accepted=tally.accepted,
        refused=tally.refused,
        flagged=tally.flagged,
        declined=tally.declined,
        segment_id=None if segment is None else segment.id,
        root=None if segment is None else segment.root,
        tables=sealed.tables,
        refusals=_nested(tally.refusals),
        flags=_nested(tally.flags),
    )
