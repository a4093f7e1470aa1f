"""What one Spark task does: the embedded engine's first pass over its rows, into part files, and a line about them.

Runs in a worker's Python; imports no Spark. The model is loaded once a worker, from the object store, by digest.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml_platform.core import errors
from ml_platform.core.errors import DataError, DeclarationError, IntegrityError, NotFound, PlatformError, SettingsError
from ml_platform.core.objects import ObjectStore
from ml_platform.core.storage import StorageSettings
from ml_platform.serving.building import RecordBuilder
from ml_platform.serving.decided import DecidedRows
from ml_platform.serving.files import read_pieces
from ml_platform.serving.intent import Intent
from ml_platform.serving.preparing import FeatureReader, Preparer
from ml_platform.serving.scorer import Scorer
from ml_platform.serving.scoring import Tally, rechunk, score_chunks
from ml_platform.serving.seed_server import RemoteSeeds, SeedAddress
from ml_platform.serving.spool_parts import Part, PartWriter

__all__ = ["REPORT_COLUMNS", "Report", "TaskPlan", "merged", "run_task"]

# Spark's names of the types; what a task says about itself, in one row.
REPORT_COLUMNS: Final = "report string, seen binary"
_REPORT_TYPES: Final[list[tuple[str, pa.DataType]]] = [("report", pa.string()), ("seen", pa.binary())]
_PROBE: Final = b"probe"


@dataclass(frozen=True, repr=False)
class TaskPlan:
    """What every task of a partition needs; broadcast once.

    Args:
        objects, storage: the object store, as the workers reach it.
        reasons: whether declined rows get reasons.
        folder: where part files go; the driver reads them there.
        nonce: random, of this run.
        pieces: rows come as pieces of files to read, not as rows.
        left_out: indexes of rows that were decided online.
    """

    intent: Intent
    objects: str
    storage: StorageSettings
    reasons: bool
    entity: str
    personal: bool
    chunk_rows: int
    folder: str
    seeds: SeedAddress
    nonce: bytes
    pieces: bool
    features: FeatureReader | None
    earlier: tuple[Intent, npt.NDArray[np.uint8]] | None
    left_out: frozenset[bytes]


@dataclass(frozen=True)
class Report:
    """What a task made and saw."""

    tally: Tally
    records: Part | None
    quarantine: Part | None


@lru_cache(maxsize=4)
def load_scorer(objects: str, storage: StorageSettings, artifact_digest: str, *, reasons: bool) -> Scorer:
    """The scorer of a version, once a worker; its bytes are checked against the digest."""
    return Scorer.load(ObjectStore(objects, storage), artifact_digest, reasons=reasons)


def run_task(plan: TaskPlan, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Scores a task's rows; gives one row of ``REPORT_COLUMNS``.

    What a second try cannot mend (data, declarations, corrupt bytes) is reported; anything else is raised, and Spark
    tries again.
    """
    try:
        report = _first_pass(plan, batches)
    except (DataError, DeclarationError, IntegrityError, NotFound) as error:
        yield _row(_error_document(error), b"")
        return
    tally = report.tally
    document = {
        "rows": tally.rows,
        "accepted": tally.accepted,
        "flagged": tally.flagged,
        "declined": tally.declined,
        "refusals": [[*name, count] for name, count in tally.refusals.items()],
        "flags": [[*name, count] for name, count in tally.flags.items()],
        "records": _part_document(report.records),
        "quarantine": _part_document(report.quarantine),
        "probe": hash(plan.nonce + _PROBE),
    }
    yield _row(document, np.concatenate([np.empty(0, np.int64), *tally.seen]).tobytes())


def _row(document: dict[str, Any], seen: bytes) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{"report": json.dumps(document), "seen": seen}], schema=pa.schema(_REPORT_TYPES))


def _part_document(part: Part | None) -> dict[str, Any] | None:
    return None if part is None else {"digest": part.digest, "rows": part.rows, "buckets": part.buckets}


def _error_document(error: PlatformError) -> dict[str, Any]:
    return {"error": [type(error).__name__, error.what, error.field, error.next_step]}


def _first_pass(plan: TaskPlan, batches: Iterable[pa.RecordBatch]) -> Report:
    folder = Path(plan.folder)
    scorer = load_scorer(plan.objects, plan.storage, plan.intent.artifact_digest, reasons=plan.reasons)
    seeds = RemoteSeeds(plan.seeds)
    records = PartWriter(folder, "id", at=6, skip=4)
    quarantine = PartWriter(folder, "row_index", at=0, skip=0)
    builder = RecordBuilder(
        plan.intent, scorer.contract, seeds, entity=plan.entity, personal=plan.personal, earlier=plan.earlier
    )
    try:
        tally = score_chunks(
            rechunk(_rows(plan, scorer, seeds, batches), plan.chunk_rows),
            Preparer(scorer.contract, plan.intent.window_us, plan.features),
            builder,
            scorer,
            records=records,
            quarantine=quarantine,
            nonce=plan.nonce,
        )
        return Report(tally, records.finish(), quarantine.finish())
    finally:
        seeds.close()
        records.abandon()
        quarantine.abandon()


def _rows(
    plan: TaskPlan, scorer: Scorer, seeds: RemoteSeeds, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch | pa.Table]:
    rows: Iterable[pa.RecordBatch | pa.Table] = batches
    if plan.pieces:
        rows = (batch for piece in batches for batch in read_pieces(piece.to_pylist(), plan.chunk_rows))
    if not plan.left_out:
        yield from rows
        return
    decided = DecidedRows(seeds.seeds(plan.entity, [b""])[0], plan.intent.model, plan.left_out)
    keys = [name for name, _ in scorer.contract.entity_keys]
    for batch in rows:
        table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
        yield decided.without(table, keys, scorer.contract.time)


def merged(reports: pa.Table, nonce: bytes) -> tuple[Tally, list[Part], list[Part]]:
    """The whole partition's tally, record parts and quarantine parts.

    Raises:
        PlatformError: the first error that a task reported.
        SettingsError: workers hash differently, so that repeated rows would not be found.
    """
    whole, records, quarantine = Tally(nonce=nonce), list[Part](), list[Part]()
    documents = [(json.loads(row["report"]), row["seen"]) for row in reports.to_pylist()]
    for document, _ in documents:
        if "error" in document:
            raise _error(*document["error"])
    if len({document["probe"] for document, _ in documents}) > 1:
        raise SettingsError(
            "The workers hash differently.",
            field="PYTHONHASHSEED",
            next_step="Set spark.executorEnv.PYTHONHASHSEED to one number.",
        )
    for document, seen in documents:
        whole.merge(_tally(document, seen))
        for parts, name in ((records, "records"), (quarantine, "quarantine")):
            if document[name] is not None:
                parts.append(Part.from_json(document[name]))
    return whole, records, quarantine


def _tally(document: dict[str, Any], seen: bytes) -> Tally:
    def counted(name: str) -> Counter[tuple[str, str]]:
        return Counter({(field, rule): count for field, rule, count in document[name]})

    counts = {name: document[name] for name in ("rows", "accepted", "flagged", "declined")}
    return Tally(
        **counts,
        refusals=counted("refusals"),
        flags=counted("flags"),
        seen=[np.frombuffer(seen, np.int64)],
    )


def _error(name: str, what: str, field: str | None, next_step: str) -> PlatformError:
    kind: Callable[..., PlatformError] = getattr(errors, name, DataError)
    return kind(what, field=field, next_step=next_step)
