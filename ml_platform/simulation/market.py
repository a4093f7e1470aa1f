"""A lending market with known truth, so that everything can be tried without outside data.

The tables are those of the published LendingClub loans of 2007–2011, column by column, and one more that no
public file has: the applicant's protected group. Its traps are theirs: outcomes arrive late and the bad ones
first, a 60-month term appears in May 2010, nulls mean something. Its truth is ours, so an answer can be checked.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ml_platform.core.errors import DeclarationError, StorageFailed
from ml_platform.simulation import published
from ml_platform.simulation.applicants import applied_months, draw_applicants, timestamps
from ml_platform.simulation.truth import Truth, draw_truth

__all__ = [
    "PROXY_STATES",
    "Drift",
    "LendingMarket",
    "MarketTables",
]

Array = npt.NDArray[Any]

_TIME: Final = pa.timestamp("us", tz="UTC")
_OUTCOMES: Final[dict[str, pa.DataType]] = {"loan_id": pa.int64(), "defaulted": pa.int8(), "known_at": _TIME}
_RESTRICTED: Final[dict[str, pa.DataType]] = {
    "loan_id": pa.int64(),
    "applicant_group": pa.string(),
    "known_at": _TIME,
}
_TRUTH: Final[dict[str, pa.DataType]] = {
    "loan_id": pa.int64(),
    "default_12mo_probability": pa.float64(),
    "default_probability": pa.float64(),
}

PROXY_STATES: Final = frozenset({"FL", "NJ", "IL", "PA", "GA", "MA", "OH"})
"""Where group b lives. Nothing else tells the groups apart, and a state tells nothing about default: who declines by
state declines a group, for nothing."""

_GROUP_B_SHARE: Final = (0.08, 0.85)  # elsewhere, in the proxy states
_CORRECTION_DAYS: Final = 60
_LATE_DAYS: Final = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """A change of the market, on top of the 60-month term of May 2010, which always comes.

    Attributes:
        starts: first day; loans applied for on or after it are affected, earlier rows stay as they were.
        strength: ``dti`` and ``revol_util`` rise by so many standard deviations (a change of the data), and the
            log-odds of default within 12 months by half as much beyond what any column shows (a decay).
    """

    starts: date
    strength: float


@dataclass(frozen=True, slots=True)
class MarketTables:
    """What a market gives: three tables that a platform may read, and the truth, which only a test may.

    Attributes:
        applications: one row a loan, known at ``applied_at``; columns and types of the published file.
        outcomes: ``loan_id``, ``defaulted`` (0 or 1), ``known_at``.
        restricted_applicants: ``loan_id``, ``applicant_group`` ("a" or "b"), ``known_at`` (the application).
        truth: ``loan_id``, ``default_12mo_probability``, ``default_probability`` (at any time).
    """

    applications: pa.Table
    outcomes: pa.Table
    restricted_applicants: pa.Table
    truth: pa.Table


@dataclass(frozen=True, slots=True, kw_only=True)
class LendingMarket:
    """A market, fully said by its fields: equal fields give equal tables, on every machine.

    Attributes:
        seed: of NumPy's PCG64. Faults have a stream of their own: with them, all other rows stay as they are.
        loans: rows of ``applications``, spread over June 2007 to December 2011 as the published ones.
        drift: a planted change of the market.
        late_outcomes: share of the outcomes that are reported 90 days late, from 0 to 1.
        corrected_outcomes: share of the outcomes first reported wrong; a second row, 60 days later, is right.
        duplicate_applications: share of the loans whose application arrives twice, word for word.

    Raises:
        DeclarationError: a share outside 0 to 1, or no loans.
    """

    seed: int = 3
    loans: int = 42_535
    drift: Drift | None = None
    late_outcomes: float = 0.0
    corrected_outcomes: float = 0.0
    duplicate_applications: float = 0.0

    def __post_init__(self) -> None:
        if self.loans < 1 or self.seed < 0:
            raise DeclarationError(
                "A market needs at least one loan and a seed that is not negative.",
                field="loans" if self.loans < 1 else "seed",
                next_step="Give a larger number.",
            )
        for name in ("late_outcomes", "corrected_outcomes", "duplicate_applications"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise DeclarationError(
                    "A share must lie between 0 and 1.", field=name, next_step="Give a share, not a percentage."
                )

    def generate(self) -> MarketTables:
        """Draw the market: the whole of it takes well under a second."""
        month = applied_months(self.loans)
        drift = self._drift(month)
        applicants = draw_applicants(self._stream(1), month, drift)
        truth = draw_truth(self._stream(2), applicants, 0.5 * drift)
        loan_id = applicants.columns["loan_id"]
        faults = self._stream(4)
        return MarketTables(
            applications=self._duplicated(applicants.table(), faults),
            outcomes=self._outcomes(loan_id, truth, faults),
            restricted_applicants=self._groups(loan_id, month, applicants.columns["addr_state"]),
            truth=pa.Table.from_arrays(
                [
                    pa.array(loan_id),
                    pa.array(truth.default_12mo_probability),
                    pa.array(truth.default_probability),
                ],
                schema=pa.schema(_TRUTH),
            ),
        )

    def write(self, folder: Path) -> None:
        """Write ``applications``, ``outcomes`` and ``restricted_applicants`` as Parquet files into `folder`.

        Each file appears whole or not at all; one that exists is replaced. The truth is not written.

        Raises:
            StorageFailed: the folder cannot be made or written.
        """
        tables = self.generate()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in ("applications", "outcomes", "restricted_applicants"):
                _write_whole(getattr(tables, name), folder / f"{name}.parquet")
        except OSError as error:
            raise StorageFailed(
                "The simulated market could not be written.",
                next_step="Check that the folder exists, is writable and has space.",
            ) from error

    def _stream(self, number: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64([self.seed, number]))

    def _drift(self, month: Array) -> npt.NDArray[np.float64]:
        if self.drift is None:
            return np.zeros(len(month))
        return np.where(month.astype("datetime64[D]") >= np.datetime64(self.drift.starts), self.drift.strength, 0.0)

    def _groups(self, loan_id: Array, month: Array, state: Array) -> pa.Table:
        lives_there = np.array([name in PROXY_STATES for name in published.STATE])[state]
        in_b = self._stream(3).random(len(loan_id)) < np.take(_GROUP_B_SHARE, lives_there.astype(np.int64))
        return pa.Table.from_arrays(
            [pa.array(loan_id), pa.array(np.where(in_b, "b", "a")), timestamps(month)], schema=pa.schema(_RESTRICTED)
        )

    def _duplicated(self, applications: pa.Table, faults: np.random.Generator) -> pa.Table:
        twice = faults.random(self.loans) < self.duplicate_applications
        rows: npt.NDArray[np.int64] = np.repeat(np.arange(self.loans), 1 + twice)
        return applications.take(rows)

    def _outcomes(self, loan_id: Array, truth: Truth, faults: np.random.Generator) -> pa.Table:
        late = faults.random(self.loans) < self.late_outcomes
        wrong = faults.random(self.loans) < self.corrected_outcomes
        known_at = truth.known_at + np.where(late, _LATE_DAYS, 0)
        ids = np.concatenate([loan_id, loan_id[wrong]])
        defaulted = np.concatenate([truth.defaulted ^ wrong, truth.defaulted[wrong]])
        known = np.concatenate([known_at, known_at[wrong] + _CORRECTION_DAYS])
        order = np.lexsort((ids, known))  # as a lender's book is written: by the time of knowing
        columns = [pa.array(ids[order]), pa.array(defaulted[order].astype(np.int8)), timestamps(known[order])]
        return pa.Table.from_arrays(columns, schema=pa.schema(_OUTCOMES))


def _write_whole(table: pa.Table, path: Path) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        pq.write_table(table, part, compression="zstd")
        with part.open("rb+") as written:
            os.fsync(written.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
