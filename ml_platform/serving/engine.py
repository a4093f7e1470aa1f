"""Who makes the first pass of a batch: reads the rows and makes their records, refusals and counts.

The second pass (``serving.sealing``) is one and the same for every engine, and so are the records: an engine decides
where the work is done, never what comes out. ``ArrowEngine`` works in this process; ``serving.spark`` has the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml_platform.core.contract import Contract
from ml_platform.core.objects import ObjectStore
from ml_platform.core.subjects import Subjects
from ml_platform.serving.building import RecordBuilder
from ml_platform.serving.intent import Intent
from ml_platform.serving.preparing import FeatureReader, Preparer
from ml_platform.serving.scorer import Scorer
from ml_platform.serving.scoring import Tally, rechunk, score_chunks
from ml_platform.serving.spool import Spool

__all__ = ["ArrowEngine", "Engine", "FirstPass", "Passed", "Rows", "SortedRows"]

Rows = Iterable[pa.RecordBatch | pa.Table]


class SortedRows(Protocol):
    """Rows that come out sorted by their key, a block at a time."""

    @property
    def rows(self) -> int: ...

    def blocks(self) -> Iterator[pa.Table]:
        """All rows, once: tables whose keys follow each other."""
        ...


@dataclass(frozen=True)
class FirstPass:
    """The work of one partition.

    Args:
        scorer: of the version that the intent pins; its artifact lies in ``objects``.
        entity, personal: the model's entity, and whether each has a seed of its own.
        folder: scratch, empty; holds personal data while the run lasts.
        rows: the window's rows for a contract; features: stored features, where the contract has any.
        earlier: of the superseded revision, its intent and ids [n, 16].
    """

    intent: Intent
    scorer: Scorer
    objects: ObjectStore
    subjects: Subjects
    entity: str
    personal: bool
    chunk_rows: int
    folder: Path
    rows: Callable[[Contract], Rows]
    features: FeatureReader | None
    earlier: tuple[Intent, npt.NDArray[np.uint8]] | None


@dataclass(frozen=True)
class Passed:
    """What the first pass made: records by id, refusals by row index, and what was seen."""

    tally: Tally
    records: SortedRows
    quarantine: SortedRows


class Engine(Protocol):
    """Makes first passes."""

    def first_pass(self, work: FirstPass) -> AbstractContextManager[Passed]:
        """Records and refusals, in scratch until the block ends; errors as ``score_partition`` names them."""
        ...


class ArrowEngine:
    """In this process, on Arrow, chunk by chunk; memory flat in rows."""

    @contextmanager
    def first_pass(self, work: FirstPass) -> Iterator[Passed]:
        contract = work.scorer.contract
        records = Spool(work.folder, "id", at=6, skip=4, limit=work.chunk_rows)
        quarantine = Spool(work.folder, "row_index", at=0, skip=0, limit=work.chunk_rows)
        builder = RecordBuilder(
            work.intent,
            contract,
            work.subjects,
            entity=work.entity,
            personal=work.personal,
            earlier=work.earlier,
        )
        try:
            tally = score_chunks(
                rechunk(work.rows(contract), work.chunk_rows),
                Preparer(contract, work.intent.window_us, work.features),
                builder,
                work.scorer,
                records=records,
                quarantine=quarantine,
            )
            yield Passed(tally, records, quarantine)
        finally:
            records.close()
            quarantine.close()
