"""Who applies, and for what: the columns that are known at the application.

Every applicant is drawn on his own: eight standard normal traits, correlated, and uniform draws for the
categories. A trait becomes a published column through the quantile tables of `published`. No row depends on
another, so a drift that starts in a month leaves every earlier row as it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml_platform.simulation import published

__all__ = ["Applicants", "applied_months", "draw_applicants", "timestamps"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

_TIME: Final = pa.timestamp("us", tz="UTC")
_COLUMNS: Final[dict[str, pa.DataType]] = {
    "loan_id": pa.int64(),
    "applied_at": _TIME,
    "loan_amnt": pa.int32(),
    "term": pa.int64(),
    "int_rate": pa.float64(),
    "installment": pa.float64(),
    "grade": pa.string(),
    "sub_grade": pa.string(),
    "emp_length": pa.string(),
    "home_ownership": pa.string(),
    "annual_inc": pa.float64(),
    "verification_status": pa.string(),
    "purpose": pa.string(),
    "addr_state": pa.string(),
    "dti": pa.float64(),
    "delinq_2yrs": pa.float64(),
    "earliest_cr_line": _TIME,
    "inq_last_6mths": pa.float64(),
    "mths_since_last_delinq": pa.float64(),
    "open_acc": pa.float64(),
    "pub_rec": pa.float64(),
    "revol_bal": pa.int32(),
    "revol_util": pa.float64(),
    "total_acc": pa.float64(),
    "pub_rec_bankruptcies": pa.float64(),
    "meets_credit_policy": pa.bool_(),
}

_VERIFICATION: Final = ("Not Verified", "Verified", "Source Verified")
_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "grade": tuple(name[0] for name in published.SUB_GRADE),
    "sub_grade": tuple(published.SUB_GRADE),
    "emp_length": tuple(published.EMPLOYMENT),
    "home_ownership": tuple(published.HOME),
    "verification_status": _VERIFICATION,
    "purpose": tuple(published.PURPOSE),
    "addr_state": tuple(published.STATE),
}

# The standard normal distribution function on a grid, read by interpolation: equal on every machine.
_NORMAL_X: Final = np.linspace(-6.0, 6.0, 481)
_NORMAL_CDF: Final = np.array([round(0.5 * (1.0 + math.erf(x / math.sqrt(2.0))), 12) for x in _NORMAL_X])


@dataclass(frozen=True, slots=True)
class Applicants:
    """One entry a loan, in the order of application.

    Attributes:
        month: month of application, ``datetime64[M]``, ascending.
        columns: the published columns as numpy; a category is its code in the published table, −1 for null.
    """

    month: Array
    columns: Mapping[str, Array]

    def table(self) -> pa.Table:
        """The published columns, with their names, types and order."""
        arrays = [self._column(name, kind) for name, kind in _COLUMNS.items()]
        return pa.Table.from_arrays(arrays, schema=pa.schema(_COLUMNS))

    def _column(self, name: str, kind: pa.DataType) -> pa.Array[Any]:
        values = self.columns[name]
        if name in _WORDS:
            words = np.array((*_WORDS[name], None), object)  # code −1 is the last: null
            return pa.array(words[values], pa.string())
        if kind == _TIME:
            return timestamps(values)
        return pa.array(values, kind, from_pandas=kind == pa.float64())  # NaN is written as null


@dataclass(frozen=True, slots=True)
class _Traits:
    """What stands behind the columns: standard normal, save for drift and exceptions; higher is more."""

    credit: Floats  # poor credit standing
    size: Floats
    income: Floats
    debt: Floats
    used: Floats
    inquiries: Floats
    history: Floats
    accounts: Floats


def applied_months(loans: int) -> Array:
    """The month of application of each of `loans` loans, ascending; volume grows as the published one did."""
    share = np.cumsum(published.MONTHLY_LOANS) / sum(published.MONTHLY_LOANS)
    counts = np.diff(np.rint(share * loans).astype(np.int64), prepend=0)
    return np.repeat(np.datetime64(published.FIRST_MONTH, "M") + np.arange(len(counts)), counts)


def timestamps(times: Array) -> pa.Array[Any]:
    """Numpy times as Arrow timestamps in microseconds, UTC; NaT is null."""
    return pa.array(times.astype("datetime64[us]"), pa.timestamp("us")).cast(_TIME)


def draw_applicants(rng: np.random.Generator, month: Array, debt_shift: Floats) -> Applicants:
    """Draw one applicant for each entry of `month`.

    Args:
        rng: the only source of randomness; always drawn from in the same order.
        month: month of application, ``datetime64[M]``, ascending.
        debt_shift: standard deviations by which debt and use of credit lines are raised (drift), one a loan.
    """
    exception = rng.random(len(month)) < _by_month(published.EXCEPTION_SHARE, month)
    traits = _traits(rng, exception, debt_shift)
    columns: dict[str, Array] = {
        "loan_id": np.arange(1, len(month) + 1),
        "applied_at": month,
        "meets_credit_policy": ~exception,
        **_person(rng, traits, month),
        **_bureau(rng, traits, month),
    }
    columns |= _loan(rng, traits, month, columns)
    return Applicants(month, _without_bureau(rng, month, columns))


def _traits(rng: np.random.Generator, exception: Array, debt_shift: Floats) -> _Traits:
    credit, size, income, debt, used, inquiries, history, accounts = (
        rng.standard_normal(len(exception)) for _ in range(8)
    )
    income = 0.95 * income + 0.3 * accounts
    debt = 0.25 * accounts - 0.1 * income + 0.95 * debt
    return _Traits(
        credit=credit,
        size=0.42 * income + 0.9 * size,
        income=income - 0.08 * exception,
        debt=debt + debt_shift,
        used=0.25 * debt + 0.38 * credit + 0.88 * used + debt_shift,
        inquiries=0.15 * credit + 0.97 * inquiries + 1.2 * exception,
        history=0.95 * history + 0.3 * accounts,
        accounts=accounts,
    )


def _person(rng: np.random.Generator, traits: _Traits, month: Array) -> dict[str, Array]:
    n = len(month)
    years = _years(month)
    employment = _choice(published.EMPLOYMENT.values(), rng.random(n))
    home = _uniform(0.97 * rng.standard_normal(n) - 0.25 * traits.income)
    unverified = np.interp(years, (2007, 2008, 2009, 2010, 2011), (1.0, 0.8, 0.6, 0.5, 0.31))
    verified = rng.random(n)
    income = np.rint(_quantile("annual_inc", traits.income) / 100.0) * 100.0
    return {
        "emp_length": np.where(rng.random(n) < 0.026, -1, employment),
        "home_ownership": _choice(published.HOME.values(), home),
        "annual_inc": np.where((rng.random(n) < 0.02) & (month < _month("2007-09")), np.nan, income),
        "verification_status": (verified >= unverified) + (verified >= (1 + unverified) / 2).astype(np.int64),
        "purpose": _choice(published.PURPOSE.values(), rng.random(n)),
        "addr_state": _choice(published.STATE.values(), rng.random(n)),
    }


def _bureau(rng: np.random.Generator, traits: _Traits, month: Array) -> dict[str, Array]:
    n = len(month)
    early = month < _month("2008-03")  # then published as 0 where nothing is known
    delinquent = rng.random(n) < np.where(early, 0.2, 0.35)
    since = np.floor(_quantile("mths_since_last_delinq", rng.standard_normal(n)))
    recent = delinquent & (since < 24)
    record = rng.random(n) < 0.055
    bankrupt = record & (rng.random(n) < 0.78)
    open_accounts = np.floor(_quantile("open_acc", 0.92 * traits.accounts + 0.3 * traits.debt))
    others = np.floor(_quantile("other_acc", 0.75 * traits.accounts + 0.35 * traits.history + 0.4 * traits.income))
    balance = 0.6 * traits.used + 0.4 * traits.income + 0.5 * traits.accounts
    days = np.rint(_quantile("history_years", traits.history) * 365.25).astype("timedelta64[D]")
    return {
        "dti": np.round(_quantile("dti", traits.debt), 2),
        "delinq_2yrs": np.where(recent, 1.0 + (since < 5), 0.0),
        "earliest_cr_line": (month.astype("datetime64[D]") - days).astype("datetime64[M]"),
        "inq_last_6mths": np.searchsorted(published.INQUIRIES, _uniform(traits.inquiries)).astype(np.float64),
        "mths_since_last_delinq": np.where(delinquent, since, np.where(early, 0.0, np.nan)),
        "open_acc": open_accounts,
        "pub_rec": record.astype(np.float64),
        "revol_bal": np.floor(_quantile("revol_bal", balance)).astype(np.int32),
        "revol_util": np.round(_quantile("revol_util", traits.used), 3),
        "total_acc": open_accounts + others,
        "pub_rec_bankruptcies": np.where(early & (rng.random(n) < 0.95), np.nan, bankrupt.astype(np.float64)),
    }


def _loan(rng: np.random.Generator, traits: _Traits, month: Array, known: Mapping[str, Array]) -> dict[str, Array]:
    years = _years(month)
    size = traits.size + np.interp(years, (2007, 2009, 2011), (-0.35, -0.1, 0.05))
    # Long terms are taken for large loans, and cost more.
    long_term = rng.random(len(month)) < _by_month(published.LONG_TERM_SHARE, month) * (0.3 + 1.4 * _uniform(size))
    risk = 0.72 * traits.credit + 0.38 * traits.used + 0.2 * traits.inquiries
    risk += 0.4 * (known["delinq_2yrs"] > 0) + 0.3 * known["pub_rec"] - 0.15
    risk += np.where(long_term, 0.6, -0.25 * (month >= _month(published.FIRST_LONG_TERM)))
    grade = _choice(published.SUB_GRADE.values(), _uniform(risk))
    amount = np.maximum(500.0, np.rint(_quantile("loan_amnt", size) / 50.0) * 50.0)
    added = np.interp(years, *published.RATE_ADDED)
    spread = np.interp(years, *published.RATE_SPREAD)
    rate = np.take(published.SUB_GRADE_RATE, grade)
    rate = np.round(np.maximum(0.0542, 0.11 + (rate - 0.11) * spread + added), 4)
    term = np.where(long_term, 60, 36)
    return {
        "loan_amnt": amount.astype(np.int32),
        "term": term,
        "int_rate": rate,
        "installment": np.round(amount * (rate / 12) / (1.0 - (1.0 + rate / 12) ** -term), 2),
        "grade": grade,
        "sub_grade": grade,
    }


def _without_bureau(rng: np.random.Generator, month: Array, columns: dict[str, Array]) -> dict[str, Array]:
    """The very first loans were made without a credit report; a few later ones lack `revol_util`."""
    n = len(month)
    missing = rng.random(n) < np.where(month < _month("2007-07"), 0.875, 0.06 * (month < _month("2007-09")))
    columns["revol_util"] = np.where(missing | (rng.random(n) < 0.0015), np.nan, columns["revol_util"])
    columns["revol_bal"] = np.where(missing, 0, columns["revol_bal"]).astype(np.int32)
    columns["earliest_cr_line"] = np.where(missing, np.datetime64("NaT", "M"), columns["earliest_cr_line"])
    for name in published.FROM_CREDIT_REPORT:
        columns[name] = np.where(missing, np.nan, columns[name])
    return columns


def _quantile(column: str, trait: Floats) -> Floats:
    return np.interp(_uniform(trait), published.QUANTILES, published.VALUES[column])


def _uniform(trait: Floats) -> Floats:
    return np.interp(trait, _NORMAL_X, _NORMAL_CDF)


def _choice(shares: Iterable[float], uniform: Floats) -> Codes:
    weights = np.fromiter(shares, np.float64)
    edges = np.cumsum(weights / weights.sum())[:-1]
    return np.searchsorted(edges, uniform, side="right").astype(np.int64)


def _by_month(shares: Mapping[str, float], month: Array) -> Floats:
    """The share that holds in each month; 0 before the first one listed."""
    starts = np.array(list(shares), "datetime64[M]")
    return np.concatenate(([0.0], list(shares.values())))[np.searchsorted(starts, month, side="right")]


def _month(text: str) -> np.datetime64:
    return np.datetime64(text, "M")


def _years(month: Array) -> Codes:
    return month.astype("datetime64[Y]").astype(np.int64) + 1970
