"""Durations as declared: calendar months (``12mo``) or exact time (``360d``, ``6h``, ``15m``, ``30s``)."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from ml_platform.core.errors import DeclarationError
from ml_platform.core.rows import utc

__all__ = ["Duration"]

_PATTERN: Final = re.compile(r"(\d{1,6})(mo|d|h|m|s)")
_MICROSECONDS: Final = {"d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000}


@dataclass(frozen=True)
class Duration:
    """Months are calendar months in UTC, clamped to the month's end; everything else is exact.

    >>> Duration.parse("1mo").after(datetime(2011, 1, 31, tzinfo=UTC)).isoformat()  # doctest: +SKIP
    '2011-02-28T00:00:00+00:00'
    """

    text: str
    months: int
    microseconds: int

    @classmethod
    def parse(cls, text: str, *, field: str = "duration") -> Self:
        """Reads a declared duration.

        Raises:
            DeclarationError: the text is none.
        """
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise DeclarationError(
                "A duration is a whole number and a unit.",
                field=field,
                next_step='Write it as "12mo", "360d", "6h", "15m" or "30s".',
            )
        number, unit = int(match[1]), match[2]
        if unit == "mo":
            return cls(text, months=number, microseconds=0)
        return cls(text, months=0, microseconds=number * _MICROSECONDS[unit])

    def __str__(self) -> str:
        return self.text

    @property
    def is_zero(self) -> bool:
        return self.months == 0 and self.microseconds == 0

    def after(self, at: datetime) -> datetime:
        """The instant this long after ``at``, UTC."""
        return _add_months(utc(at), self.months) + timedelta(microseconds=self.microseconds)

    def before(self, at: datetime) -> datetime:
        """The instant this long before ``at``, UTC."""
        return _add_months(utc(at), -self.months) - timedelta(microseconds=self.microseconds)

    def after_us(self, at_us: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """``after`` for an array of microseconds since 1970 UTC."""
        if self.months == 0:
            return at_us + np.int64(self.microseconds)
        times = at_us.astype("datetime64[us]")
        months = times.astype("datetime64[M]")
        within_month = times - months.astype("datetime64[us]")
        target = months + np.timedelta64(self.months, "M")
        last_day = (target + np.timedelta64(1, "M")).astype("datetime64[D]") - np.timedelta64(1, "D")
        day = within_month.astype("timedelta64[D]")
        time_of_day = within_month - day.astype("timedelta64[us]")
        clamped = np.minimum(target.astype("datetime64[D]") + day, last_day)
        result: npt.NDArray[np.int64] = (clamped.astype("datetime64[us]") + time_of_day).astype(np.int64)
        return result

    def interval_sql(self) -> str:
        """The same duration as a DuckDB interval, which clamps months as we do."""
        if self.months:
            return f"INTERVAL {self.months} MONTH"
        return f"INTERVAL {self.microseconds} MICROSECOND"


def _add_months(at: datetime, months: int) -> datetime:
    index = at.year * 12 + at.month - 1 + months
    year, month = divmod(index, 12)
    day = min(at.day, calendar.monthrange(year, month + 1)[1])
    return at.replace(year=year, month=month + 1, day=day)
