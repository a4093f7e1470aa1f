"""When a training can help, and what to do until then. Pure: rows' starts, declared policies and times come in.

Labels take their horizon to mature, and what has not matured teaches nothing, however loudly the alarm rings. Rows that
are here tell exactly when they will have matured, so the date is counted and not guessed.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, Self

import numpy as np
import numpy.typing as npt

from ml_platform.core.clock import format_utc
from ml_platform.core.contract import ResolvedField
from ml_platform.core.durations import Duration
from ml_platform.core.errors import NotEnoughData
from ml_platform.core.rows import micros
from ml_platform.datasets import TimeSplit
from ml_platform.monitoring.retrain import Retraining

__all__ = ["BaseRate", "Meanwhile", "RowTimes", "Usefulness", "meanwhile", "usefulness"]

Ints = npt.NDArray[np.int64]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class BaseRate:
    """Events among mature rows; both 0 where nothing is mature yet."""

    positives: int
    rows: int

    @property
    def estimate(self) -> float:
        """(positives + 1) / (rows + 2): never 0, so that a young model is not told to wait for ever (Laplace)."""
        return (self.positives + 1) / (self.rows + 2)


@dataclass(frozen=True, eq=False)
class RowTimes:
    """Label starts of the requests known now, microseconds UTC, and which are of the drifted population."""

    starts_us: Ints
    drifted: npt.NDArray[np.bool_]
    horizon: Duration
    lag: Duration

    @property
    def matured_us(self) -> Ints:
        return self.lag.after_us(self.horizon.after_us(self.starts_us))


@dataclass(frozen=True)
class Usefulness:
    """Since when, or from when on, a training can learn about the drifted population.

    Attributes:
        rows: of the population, known now; ``mature`` of them now; ``needed`` of them mature.
        useful_from: when the last needed row matures: exact, for the rows are here. None where too few have come.
        projected_from: then, when it would be if rows went on coming as they did: an estimate, not a promise.
        mature_then, trained_on_then: at ``useful_from``: mature rows, and those of them that the declared split puts
            into the training part. The newest mature rows are the test: a young population is measured first and
            learned from later.
        learned_from: when the training part has ``needed`` of them; None where the rows known now do not say.
    """

    rows: int
    mature: int
    needed: int
    useful_from: datetime | None
    projected_from: datetime | None
    mature_then: int
    trained_on_then: int
    learned_from: datetime | None

    @classmethod
    def at_once(cls) -> Self:
        """Of a request about no population: all mature rows are of use."""
        return cls(0, 0, 0, None, None, 0, 0, None)

    def is_useful(self, now: datetime) -> bool:
        return self.needed == 0 or (self.useful_from is not None and self.useful_from <= now)

    def to_json(self) -> dict[str, Any]:
        return {
            name: format_utc(value) if isinstance(value, datetime) else value for name, value in asdict(self).items()
        }


def usefulness(
    times: RowTimes, rules: Retraining, split: TimeSplit, now: datetime, rate: BaseRate | None
) -> Usefulness:
    """When enough mature rows of the drifted population exist.

    Enough are ``min_rows``, and so many that ``min_positives`` events are to be expected at the base rate.

    Args:
        times: all requests known now.
        rules: as declared with the model.
        split: as declared; says which mature rows are trained on.
        now: the platform's time.
        rate: of all mature rows; None for labels that are values.
    """
    needed = rules.min_rows
    if rate is not None:
        needed = max(needed, math.ceil(rules.min_positives / rate.estimate))
    matured, drifted = times.matured_us, times.drifted
    order = np.sort(matured[drifted])
    mature = int(np.searchsorted(order, micros(now), side="right"))
    if len(order) < needed:
        projected = _projected(times, needed, now)
        return Usefulness(len(order), mature, needed, None, projected, 0, 0, None)
    at = int(order[needed - 1])
    return Usefulness(
        rows=len(order),
        mature=mature,
        needed=needed,
        useful_from=_time(at),
        projected_from=None,
        mature_then=int(np.searchsorted(order, at, side="right")),
        trained_on_then=_trained_on(times, split, at),
        learned_from=_learned_from(times, split, needed, order),
    )


def _time(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)


def _projected(times: RowTimes, needed: int, now: datetime) -> datetime | None:
    """When the missing row would mature, if rows came at the rate of the population's time so far."""
    starts = times.starts_us[times.drifted]
    since = micros(now) - int(starts.min()) if len(starts) else 0
    if since <= 0:
        return None
    start = int(starts.min()) + math.ceil(needed * since / len(starts))
    return _time(int(times.lag.after_us(times.horizon.after_us(np.array([start], np.int64)))[0]))


def _trained_on(times: RowTimes, split: TimeSplit, at_us: int) -> int:
    """Rows of the population in the training part of a candidate as of a time."""
    matured = times.matured_us
    mature = matured <= at_us
    try:
        parts = split.split(times.starts_us[mature], matured[mature])
    except NotEnoughData:
        return 0
    return int(np.count_nonzero(parts.train & times.drifted[mature]))


def _learned_from(times: RowTimes, split: TimeSplit, needed: int, order: Ints) -> datetime | None:
    """The first maturity at which the training part has the needed rows; the cut only moves forward in time."""
    instants = np.unique(times.matured_us[times.matured_us >= order[needed - 1]])
    low, high = 0, len(instants)
    while low < high:
        middle = (low + high) // 2
        if _trained_on(times, split, int(instants[middle])) >= needed:
            high = middle
        else:
            low = middle + 1
    return _time(int(instants[low])) if low < len(instants) else None


@dataclass(frozen=True)
class Meanwhile:
    """What happens to the drifted rows until a version knows them: ``refuse``, ``flag`` or ``person``."""

    action: Literal["refuse", "flag", "person"]
    text: str

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def meanwhile(field: ResolvedField | None, *, unknown: bool) -> Meanwhile:
    """What the declared policy of the drifted field does with its rows, and what a person can do instead.

    Args:
        field: of the contract in production; None where no single field has drifted.
        unknown: whether the drift is new categories, which the field's ``on_unknown`` catches.
    """
    if field is None:
        return Meanwhile("person", "The version decides all rows as before: have a person look at a sample of them.")
    if not unknown:
        return Meanwhile(
            "person",
            f"The version decides rows with the drifted {field.name} as before: send those that matter to a person.",
        )
    if field.on_unknown == "reject":
        return Meanwhile("refuse", f"Rows with an unknown {field.name} are refused: a person decides them.")
    how = "as missing" if field.on_unknown == "flag" else "as the declared default"
    return Meanwhile(
        "flag",
        f"Rows with an unknown {field.name} are decided with it {how}, and flagged in their records: have a person look"
        f" at the flagged ones, or declare on_unknown='reject' to refuse them.",
    )
