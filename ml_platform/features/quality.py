"""Quality checks of stored features: what a period's rows must be like before anybody sees them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.core.errors import DeclarationError

__all__ = ["Judged", "QualityCheck", "check_quality", "in_range", "judge", "null_rate", "unique", "volume"]

Kind = Literal["null_rate", "range", "volume", "unique"]
_KINDS: Final = get_args(Kind)


@dataclass(frozen=True)
class QualityCheck:
    """One declared check; made by ``null_rate``, ``in_range``, ``volume`` and ``unique``. Never in a digest.

    ``most`` bounds a share for ``null_rate`` and ``range``, and rows for ``volume``; ``change`` is the largest relative
    change of a period's rows from the period before it.
    """

    kind: Kind
    columns: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    change: float | None = None
    share: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise DeclarationError(
                "There is no such check.", field="quality", next_step=f"Choose one of {', '.join(_KINDS)}."
            )
        if self.kind == "null_rate" and not 0 <= (self.most if self.most is not None else -1) <= 1:
            raise DeclarationError("A null rate is a share.", field="quality", next_step="Give most= from 0 to 1.")
        if self.kind == "range" and self.least is None and self.most is None:
            raise DeclarationError("The range has no bound.", field="quality", next_step="Give least= or most=.")
        if self.kind == "volume" and self.least is None and self.most is None and self.change is None:
            raise DeclarationError(
                "The volume has no bound.", field="quality", next_step="Give least=, most=, change=."
            )

    @property
    def name(self) -> str:
        """``null_rate_<column>``, ``range_<column>``, ``volume``, ``unique_<columns>``: unique within a view."""
        return "_".join((self.kind, *self.columns))

    def describe(self) -> str:
        """The rule in words."""
        words = {
            "null_rate": f"At most {self.most} of the values of {', '.join(self.columns)} are null.",
            "range": f"All but {self.share} of the values of {', '.join(self.columns)} lie in "
            f"[{_bound(self.least, '−∞')}, {_bound(self.most, '∞')}].",
            "volume": f"A period has {_bound(self.least, '0')} to {_bound(self.most, 'any number of')} rows"
            + ("." if self.change is None else f", and at most {self.change:+.0%} from the period before."),
            "unique": f"No two rows have the same {', '.join(self.columns)}.",
        }
        return words[self.kind]

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "least": self.least,
            "most": self.most,
            "change": self.change,
            "share": self.share,
        }


def _bound(value: float | None, without: str) -> str:
    return without if value is None else f"{value:g}"


def null_rate(column: str, *, most: float) -> QualityCheck:
    """At most this share of a feature's values in a period are null."""
    return QualityCheck("null_rate", (column,), most=most)


def in_range(column: str, *, least: float | None = None, most: float | None = None, share: float = 0.0) -> QualityCheck:
    """Values of a number lie in [least, most], except for at most this share of those that are not null."""
    return QualityCheck("range", (column,), least=least, most=most, share=share)


def volume(*, least: int | None = None, most: int | None = None, change: float | None = None) -> QualityCheck:
    """Rows of a period; ``change=0.5`` allows half to one and a half times the rows of the period written before it."""
    return QualityCheck("volume", (), least=least, most=most, change=change)


def unique(*columns: str) -> QualityCheck:
    """No two rows of a period have the same values in these columns."""
    return QualityCheck("unique", columns)


@dataclass(frozen=True)
class Judged:
    """A check of one period: whether it passed, and the numbers that say so. No values of rows."""

    check: QualityCheck
    passed: bool
    measured: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        return {**self.check.to_json(), "passed": self.passed, "measured": dict(self.measured)}

    def words(self) -> str:
        """``null_rate_income: null_rate 0.4 (most 0.1)``."""
        bounds = {name: getattr(self.check, name) for name in ("least", "most", "change")}
        allowed = ", ".join(f"{name} {value:g}" for name, value in bounds.items() if value is not None)
        found = ", ".join(f"{name} {value:g}" for name, value in self.measured.items())
        return f"{self.check.name}: {found}" + (f" ({allowed})" if allowed else "")


def judge(checks: Sequence[QualityCheck], part: pa.Table, *, rows_before: int | None) -> list[Judged]:
    """Holds the rows of a period against the checks.

    Args:
        checks: as declared; their columns are columns of the part.
        part: the rows that are to be written; an empty part has no null, no value out of range, no duplicate.
        rows_before: rows of the newest period before this one; None where there is none, and nothing to compare with.
    """
    rules = {"null_rate": _null_rate, "range": _range, "unique": _unique}
    return [
        _volume(check, part.num_rows, rows_before) if check.kind == "volume" else rules[check.kind](check, part)
        for check in checks
    ]


def _null_rate(check: QualityCheck, part: pa.Table) -> Judged:
    nulls = part.column(check.columns[0]).null_count
    rate = nulls / part.num_rows if part.num_rows else 0.0
    return Judged(check, rate <= (check.most or 0.0), {"null_rate": rate, "nulls": nulls, "rows": part.num_rows})


def _range(check: QualityCheck, part: pa.Table) -> Judged:
    values: Any = part.column(check.columns[0]).drop_null()
    outside: Any = 0
    if check.least is not None:
        outside += pc.sum(pc.less(values, pa.scalar(check.least, pa.float64()))).as_py() or 0
    if check.most is not None:
        outside += pc.sum(pc.greater(values, pa.scalar(check.most, pa.float64()))).as_py() or 0
    share = outside / len(values) if len(values) else 0.0
    return Judged(check, share <= check.share, {"outside": outside, "share": share, "values": len(values)})


def _unique(check: QualityCheck, part: pa.Table) -> Judged:
    distinct = part.group_by(list(check.columns), use_threads=False).aggregate([]).num_rows
    return Judged(check, distinct == part.num_rows, {"duplicates": part.num_rows - distinct, "rows": part.num_rows})


def _volume(check: QualityCheck, rows: int, before: int | None) -> Judged:
    low = check.least is None or rows >= check.least
    high = check.most is None or rows <= check.most
    steady = check.change is None or before is None or abs(rows - before) <= check.change * before
    measured: dict[str, float] = {"rows": rows, **({} if before is None else {"rows_before": before})}
    return Judged(check, low and high and steady, measured)


def check_quality(checks: Sequence[QualityCheck], *, numbers: Collection[str], columns: Collection[str]) -> None:
    """Refuses checks of columns that the stored rows do not have, and ranges of what is no number.

    Raises:
        DeclarationError: names the column and the choices.
    """
    for check in checks:
        for column in check.columns:
            choices = sorted(numbers if check.kind == "range" else columns)
            if column not in choices:
                raise DeclarationError(
                    f"{check.name} checks a column that the stored rows do not have as such.",
                    field="quality",
                    next_step=f"Choose one of {', '.join(choices)}.",
                )
