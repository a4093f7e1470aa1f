"""Batch decisions: a month's rows, by production's version at the time of the decision, recorded and sealed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.core.clock import format_utc, parse_utc
from ml_platform.core.contract import Contract
from ml_platform.core.durations import Duration
from ml_platform.core.errors import DataError, NotFound
from ml_platform.core.rows import micros
from ml_platform.core.spark import open_spark
from ml_platform.features import RequestView
from ml_platform.lifecycle.decided import decided_rows
from ml_platform.lifecycle.features import contract_views, feature_reader, materialize_model_views, not_over
from ml_platform.lifecycle.sources import read_source, source_table, source_versions
from ml_platform.model import Model
from ml_platform.platform import Platform
from ml_platform.serving import BatchJob, BatchParts, BatchResult, Scorer, Supersede, load_segment
from ml_platform.serving import score_partition as score
from ml_platform.serving.intent import newest_revision, read_result

__all__ = ["Window", "is_complete", "month_window", "score_partition"]


@dataclass(frozen=True)
class Window:
    """A partition's request times, [start, end), UTC."""

    partition: str
    start: datetime
    end: datetime


def month_window(partition: str) -> Window:
    """The window of a month ``YYYY-MM``.

    Raises:
        DataError: the text is no month.
    """
    try:
        start = parse_utc(f"{partition}-01")
    except ValueError as error:
        raise DataError("This is no month.", field="partition", next_step='Write it as "2010-03".') from error
    return Window(partition, start, Duration.parse("1mo").after(start))


def score_partition(
    platform: Platform, model: Model, partition: str, *, supersede: Supersede | None = None
) -> BatchResult:
    """Scores the month's requests with the version in production when it ended, and seals the records in the log.

    A complete partition is returned as it is; one that was broken off is completed. In a replay root the decision is
    made at the end of the window, in a wall root now.

    Raises:
        DataError: the month is not over on the platform's clock.
        NotFound: no version was in production.
        ContractViolation: too many rows were refused; nothing was written.
    """
    window = month_window(partition)
    now = platform.clock.now()
    if window.end > now:
        later = "Score a window when all its requests have arrived."
        raise not_over(platform, window.end, "The month", field="partition", wall_step=later)
    clock: Literal["wall", "replay"] = "replay" if platform.settings.kind == "replay" else "wall"
    decided_at = window.end if clock == "replay" else now
    version, artifact = _in_production(platform, model.name, decided_at)
    scorer = Scorer.load(platform.objects, artifact)
    materialize_model_views(platform, model, end=window.end, views=contract_views(platform, scorer.contract))
    job = BatchJob(
        root_id=platform.root_id,
        model=model.name,
        partition=partition,
        start=window.start,
        end=window.end,
        version=version,
        artifact_digest=artifact,
        decided_at=decided_at,
        recorded_at=platform.wall.now(),
        clock=clock,
        entity=model.entity.name,
        personal=model.entity.personal,
        supersede=supersede,
    )
    settings = platform.settings.batch
    parts = BatchParts(
        objects=platform.objects,
        lake=platform.lake,
        subjects=platform.subjects,
        load=lambda digest: Scorer.load(platform.objects, digest),
        rows=_window_rows(platform, model, window, micros(decided_at)),
        scratch=Path(settings.scratch) if settings.scratch else platform.root / "scratch",
        features=feature_reader(platform),
    )
    if settings.engine == "spark":
        parts = _on_spark(platform, model, window, parts, micros(decided_at))
    result = score(job, parts)
    _seal(platform, result)
    return result


def is_complete(platform: Platform, model: str, partition: str) -> bool:
    """Whether a partition was decided, recorded and sealed: scoring it then does nothing."""
    newest = newest_revision(platform.objects, model, partition)
    result = None if newest is None else read_result(platform.objects, model, partition, newest)
    if result is None or result.segment_id is None:
        return result is not None
    try:
        platform.registry.sealed_in(result.segment_id)
    except NotFound:
        return False
    return True


def _in_production(platform: Platform, model: str, at: datetime) -> tuple[int, str]:
    state = platform.registry.state(at=at)
    known = state.models.get(model)
    if known is None or known.production is None:
        raise NotFound(
            f"No version of {model} was in production at {format_utc(at)}.",
            field="model",
            next_step="Promote a version first; `mlp state --at` shows the stages at a time.",
        )
    return known.production, known.version(known.production).digests.artifact


def _window_rows(
    platform: Platform, model: Model, window: Window, known_until_us: int
) -> Callable[[Contract], list[pa.Table]]:
    """The window's requests as a contract wants them: what had arrived when the decision was made.

    Requests that were decided online are left out: they have their decision of record.
    """
    request: RequestView = model.request

    def rows(contract: Contract) -> list[pa.Table]:
        decided = decided_rows(platform, model.name, window.partition, model.entity.name, contract)
        table = read_source(platform, request.source, known_until_us=known_until_us)
        times = pc.field(request.time)
        start, end = (pa.scalar(micros(at), pa.timestamp("us", "UTC")) for at in (window.start, window.end))
        table = table.filter((times >= start) & (times < end))
        keys = [name for name, _ in contract.entity_keys]
        return [decided.without(table.select(_wanted(contract)), keys, contract.time)]

    return rows


def _on_spark(platform: Platform, model: Model, window: Window, parts: BatchParts, known_until_us: int) -> BatchParts:
    """The same batch with its first pass on Spark, which reads the requests itself."""
    from ml_platform.serving.spark import SparkEngine, SparkRows, lake_rows

    session = open_spark(platform.settings.spark)
    request: RequestView = model.request

    def rows(contract: Contract) -> SparkRows:
        decided = decided_rows(platform, model.name, window.partition, model.entity.name, contract)
        return lake_rows(
            session,
            platform.lake,
            source_table(request.source),
            version=source_versions(platform, (request.source,))[request.source.name],
            columns=_wanted(contract),
            within=(request.time, micros(window.start), micros(window.end)),
            until=(request.source.known_column, known_until_us),
            left_out=decided.indexes,
        )

    return replace(parts, rows=rows, engine=SparkEngine(session))


def _wanted(contract: Contract) -> list[str]:
    return [*(name for name, _ in contract.entity_keys), contract.time, *(item.name for item in contract.inputs)]


def _seal(platform: Platform, result: BatchResult) -> None:
    """Enters the partition's segment in the audit log, once."""
    if result.segment_id is None:
        return
    segment = load_segment(platform.objects, result.segment_id)
    platform.registry.seal_segments([segment.sealed_entry()])
    platform.registry.close_writer(segment.writer, segment.last_seq)
