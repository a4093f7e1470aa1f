"""What becomes of the loans: the truth that no lender sees, and the outcomes that he sees late.

Default within 12 months follows a logistic law in columns that are known at the application; a later default
follows another; the rest is repaid, half of it only at the end of the term. So bad news comes early, good news
late: whoever learns from "what is known" learns a default rate that is several times too high.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ml_platform.simulation import published
from ml_platform.simulation.applicants import Applicants

__all__ = ["CHARGE_OFF_DAYS", "Truth", "draw_truth"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

CHARGE_OFF_DAYS: Final = 150
"""A default is known this long after the end of the last payment's month; a repayment at that end."""

_PURPOSE_LOG_ODDS: Final = {
    "small_business": 0.8,
    "educational": 0.7,
    "medical": 0.45,
    "moving": 0.4,
    "other": 0.35,
    "credit_card": -0.35,
    "car": -0.6,
}
# Weights of a last payment 0 to 6 months after the application: then a default is known within 12 months.
_QUICK_DEFAULT: Final = (78, 63, 128, 152, 189, 190, 196)
# Deciles of a later default's last payment, from month 7 (0) to the month after the term's end (1).
_LATE_DEFAULT: Final = (0.0, 0.07, 0.15, 0.24, 0.33, 0.42, 0.52, 0.62, 0.73, 0.85, 1.0)


@dataclass(frozen=True, slots=True)
class Truth:
    """One entry a loan, in the order of the applicants.

    Attributes:
        default_12mo_probability: chance of a default that is known within 12 months of the application.
        default_probability: chance of a default at any time; at least the one above.
        defaulted: what happened in the end.
        known_at: when the lender could know it, ``datetime64[D]``.
    """

    default_12mo_probability: Floats
    default_probability: Floats
    defaulted: Array
    known_at: Array


def draw_truth(rng: np.random.Generator, applicants: Applicants, risk_shift: Floats) -> Truth:
    """Draw what becomes of each loan.

    Args:
        rng: the only source of randomness; always drawn from in the same order.
        applicants: the loans.
        risk_shift: log-odds added to the default within 12 months that no column shows (drift), one a loan.
    """
    risk = _risk(applicants)
    soon = _logistic(-4.02 + 1.1 * risk + risk_shift)
    long_term = applicants.columns["term"] == 60
    later: Floats = (1.0 - soon) * _logistic(np.where(long_term, -1.85, -2.45) + 0.55 * risk)
    drawn = rng.random(len(risk))
    quick, late = drawn < soon, (drawn >= soon) & (drawn < soon + later)
    month = _last_payment(rng, applicants.columns["term"], quick, late)
    end = (applicants.month + month + 1).astype("datetime64[D]")
    return Truth(
        default_12mo_probability=np.round(soon, 9),
        default_probability=np.round(soon + later, 9),
        defaulted=quick | late,
        known_at=end + np.where(quick | late, CHARGE_OFF_DAYS, 0),
    )


def _risk(applicants: Applicants) -> Floats:
    """Log-odds of a default within 12 months, up to a constant."""
    columns = applicants.columns
    purpose = np.array([_PURPOSE_LOG_ODDS.get(name, 0.0) for name in published.PURPOSE])
    income = np.nan_to_num(columns["annual_inc"] / 59_000.0, nan=1.0)
    inquiries = np.nan_to_num(columns["inq_last_6mths"], nan=0.0)
    risk = 0.075 * (columns["sub_grade"] - 10.0) + 0.2 * np.minimum(inquiries, 6.0)
    risk += np.clip(-0.5 * np.log(income), -0.8, 0.8) + purpose[columns["purpose"]]
    risk += 0.3 * (np.nan_to_num(columns["revol_util"], nan=0.5) - 0.5)
    risk += 0.1 * (columns["term"] == 60) + 0.15 * (columns["home_ownership"] == 0)
    return np.asarray(risk, np.float64)


def _last_payment(rng: np.random.Generator, term: Array, quick: Array, late: Array) -> Array:
    """Months from the application to the last payment."""
    n = len(term)
    weights = np.cumsum(_QUICK_DEFAULT) / sum(_QUICK_DEFAULT)
    soon = np.searchsorted(weights[:-1], rng.random(n), side="right")
    later = 7 + np.floor(np.interp(rng.random(n), np.linspace(0.0, 1.0, 11), _LATE_DEFAULT) * (term - 6))
    # Of the loans that are repaid, about half are repaid before their time, at a steadily growing rate.
    early = rng.random(n) < np.where(term == 60, 0.7, 0.55)
    early_month = 1 + np.floor(rng.random(n) ** 0.75 * (term - 3))
    full_term = term + (rng.random(n) < 0.45)
    return np.where(quick, soon, np.where(late, later, np.where(early, early_month, full_term))).astype(np.int64)


def _logistic(log_odds: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-log_odds)), np.float64)
