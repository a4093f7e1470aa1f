"""The first pass of a batch: chunks through contract, features, model and record into the spool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml_platform.core.digests import keyed
from ml_platform.core.errors import ContractViolation, DuplicateKeys
from ml_platform.serving.behind import Behind
from ml_platform.serving.building import Decided, RecordBuilder, binary_column
from ml_platform.serving.hashing import Keys
from ml_platform.serving.preparing import Prepared, Preparer
from ml_platform.serving.scorer import Scorer
from ml_platform.training.decision import DECLINED

__all__ = ["QUARANTINE_TAG", "Tally", "quarantine_index", "rechunk", "score_chunks"]

QUARANTINE_TAG: Final = "ml-platform/quarantine/1"
_TOLERATED: Final = 10  # refused rows that never fail a partition: in a small one, one bad row is not a bad delivery


class Appended(Protocol):
    """Takes spooled rows, a chunk at a time, in any order."""

    def append(self, table: pa.Table) -> None: ...


@dataclass
class Tally:
    """What the first pass saw.

    Attributes:
        refusals, flags: (field, rule) → count; a row can have several.
        seen: a keyed 64-bit hash of each row key, refused rows included, other in each run. A false alarm has a
            chance of 3 in a million at ten million rows, and none in the rerun.
        nonce: random, of the run, where processes share the key of their hashes; hashed before each row key.
    """

    rows: int = 0
    accepted: int = 0
    flagged: int = 0
    declined: int = 0
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)
    flags: Counter[tuple[str, str]] = field(default_factory=Counter)
    seen: list[npt.NDArray[np.int64]] = field(default_factory=list)
    nonce: bytes = b""

    @property
    def refused(self) -> int:
        return self.rows - self.accepted

    def add(self, prepared: Prepared) -> None:
        keys = [*prepared.row_keys, *prepared.refused_keys.values()]
        hashes = map(hash, keys) if not self.nonce else (hash(self.nonce + key) for key in keys)
        self.seen.append(np.fromiter(hashes, np.int64, len(keys)))
        self.rows += len(keys)
        self.accepted += prepared.rows
        self.flagged += int(np.count_nonzero(prepared.flags.codes))
        self.refusals.update((refusal.field, refusal.rule) for refusal in prepared.refusals)
        self.flags.update((flag.field, flag.rule) for flag in prepared.flagged)

    def merge(self, other: Tally) -> None:
        """Adds what a pass over other rows of the partition saw."""
        self.rows += other.rows
        self.accepted += other.accepted
        self.flagged += other.flagged
        self.declined += other.declined
        self.refusals.update(other.refusals)
        self.flags.update(other.flags)
        self.seen += other.seen

    def check(self, max_refused_share: float) -> None:
        """Whether the partition may be written.

        Raises:
            DuplicateKeys: two rows are about the same entity at the same time.
            ContractViolation: too many rows were refused; names fields, rules and counts.
        """
        if self.seen:
            ordered = np.sort(np.concatenate(self.seen))
            doubled = int((ordered[1:] == ordered[:-1]).sum())
            if doubled:
                raise DuplicateKeys(
                    f"{doubled} rows repeat the key and request time of another; nothing was written.",
                    next_step="Deliver each row once.",
                )
        if self.refused > _TOLERATED and self.refused > max_refused_share * self.rows:
            rules = ", ".join(f"{name} {rule} {count}" for (name, rule), count in self.refusals.most_common(5))
            raise ContractViolation(
                f"{self.refused} of {self.rows} rows break the contract ({rules}); nothing was written.",
                field=self.refusals.most_common(1)[0][0][0],
                next_step="Mend the delivery, or raise max_refused_share for this run.",
            )


def quarantine_index(shared_seed: bytes, model: str, row_key: bytes) -> bytes:
    """Under which a refused row is found: HMAC(shared seed, tag ‖ model ‖ row key); its values are kept nowhere."""
    return keyed(shared_seed, QUARANTINE_TAG, ("text", model), ("bytes", row_key))


def rechunk(batches: Iterable[pa.RecordBatch | pa.Table], rows: int) -> Iterator[pa.Table]:
    """Tables of at most ``rows`` rows, in order; small batches are put together."""
    waiting: list[pa.Table] = []
    held, given = 0, False
    for batch in batches:
        table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
        if waiting and not table.schema.equals(waiting[0].schema):
            yield pa.concat_tables(waiting)  # the next chunk's own check says what is wrong with it
            waiting, held, given = [], 0, True
        waiting.append(table)
        held += table.num_rows
        while held >= rows:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, rows)
            held, given = held - rows, True
            waiting = [joined.slice(rows)] if held else []
    if waiting and (held or not given):
        yield pa.concat_tables(waiting)


def score_chunks(
    chunks: Iterable[pa.Table],
    preparer: Preparer,
    builder: RecordBuilder,
    scorer: Scorer,
    *,
    records: Appended,
    quarantine: Appended,
    nonce: bytes = b"",
) -> Tally:
    """Spools records and refusals; while one chunk is scored on a second thread, the last one's records are built."""
    tally = Tally(nonce=nonce)
    waiting: tuple[Prepared, Keys, Future[Decided]] | None = None
    with ThreadPoolExecutor(1) as pool, Behind() as behind:
        for chunk in chunks:
            prepared = preparer.prepare(chunk)
            tally.add(prepared)
            _spool_refused(prepared, builder, quarantine)
            future = pool.submit(scorer.decide, prepared.matrix)
            if waiting is not None:
                behind.run(records.append, _decided_records(waiting, builder, tally))
            waiting = (prepared, builder.keys(prepared), future) if prepared.rows else None
        if waiting is not None:
            behind.run(records.append, _decided_records(waiting, builder, tally))
    return tally


def _decided_records(scored: tuple[Prepared, Keys, Future[Decided]], builder: RecordBuilder, tally: Tally) -> pa.Table:
    prepared, keys, future = scored
    decided = future.result()
    if DECLINED in decided.decision_texts:
        tally.declined += int(np.count_nonzero(decided.decisions == decided.decision_texts.index(DECLINED)))
    return builder.build(prepared, keys, decided)


def _spool_refused(prepared: Prepared, builder: RecordBuilder, quarantine: Appended) -> None:
    if not prepared.refusals:
        return
    seed = builder.shared_seed()
    index = {row: quarantine_index(seed, builder.model, key) for row, key in prepared.refused_keys.items()}
    columns: dict[str, Any] = {"row_index": binary_column([index[item.row] for item in prepared.refusals], 32)}
    for name in ("field", "rule", "kind"):
        columns[name] = pa.array([getattr(item, name) for item in prepared.refusals], pa.string())
    quarantine.append(pa.table(columns))
