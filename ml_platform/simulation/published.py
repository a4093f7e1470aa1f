"""What the published LendingClub loans of 2007–2011 look like, as small tables.

Monthly volumes, shares and quantiles, measured once on the public file and rounded, so that the simulated
market resembles it without carrying any of its rows. A quantile table is read by linear interpolation at
``QUANTILES``: arithmetic alone, so equal on every machine.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "EMPLOYMENT",
    "EXCEPTION_SHARE",
    "FIRST_LONG_TERM",
    "FIRST_MONTH",
    "FROM_CREDIT_REPORT",
    "HOME",
    "INQUIRIES",
    "LONG_TERM_SHARE",
    "MONTHLY_LOANS",
    "PURPOSE",
    "QUANTILES",
    "RATE_ADDED",
    "RATE_SPREAD",
    "STATE",
    "SUB_GRADE",
    "SUB_GRADE_RATE",
    "VALUES",
]

FIRST_MONTH: Final = "2007-06"

# Loans issued in each month, June 2007 to December 2011.
MONTHLY_LOANS: Final = (
    *(24, 63, 74, 53, 105, 112, 172),
    *(305, 306, 402, 259, 115, 124, 141, 100, 57, 122, 209, 253),
    *(269, 302, 324, 333, 359, 406, 411, 446, 507, 604, 662, 658),
    *(662, 682, 828, 912, 989, 1105, 1204, 1175, 1189, 1232, 1224, 1335),
    *(1380, 1298, 1448, 1563, 1704, 1835, 1875, 1934, 2067, 2118, 2232, 2267),
)

FIRST_LONG_TERM: Final = "2010-05"
# From this month on, the share of 60-month loans; none before May 2010.
LONG_TERM_SHARE: Final = {FIRST_LONG_TERM: 0.18, "2010-06": 0.40, "2010-12": 0.34, "2011-03": 0.41, "2011-06": 0.33}

# From this month on, the share of loans made as exceptions to the credit policy.
EXCEPTION_SHARE: Final = {
    "2007-06": 0.58,
    "2008-01": 0.42,
    "2008-08": 0.30,
    "2008-11": 0.12,
    "2010-05": 0.07,
    "2011-01": 0.0,
}

QUANTILES: Final = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0)
VALUES: Final = {
    "loan_amnt": (500, 1200, 2400, 3000, 5200, 9700, 15000, 22000, 25000, 35000, 35000, 35000),
    "annual_inc": (1900, 14400, 24000, 30000, 40000, 59000, 82500, 116800, 144000, 242800, 700000, 1500000),
    "dti": (0, 0.33, 2.1, 4.06, 8.2, 13.47, 18.68, 22.43, 23.92, 26.93, 29.59, 29.99),
    "open_acc": (1, 2, 3, 4, 6, 9, 12, 15, 18, 23, 31, 47),
    "other_acc": (0, 1, 2, 3, 6, 11, 18, 26, 31, 41, 50, 64),
    "revol_bal": (0, 0, 295, 1060, 3635, 8821, 17251, 30328, 44544, 100058, 229637, 500000),
    "revol_util": (0, 0, 0.027, 0.087, 0.257, 0.497, 0.727, 0.88, 0.937, 0.986, 0.999, 1.19),
    "mths_since_last_delinq": (0, 1, 3, 7, 17, 33, 51, 69, 75, 81, 83, 120),
    "history_years": (0.5, 3.2, 4.6, 5.9, 9.0, 12.5, 17.0, 22.8, 26.8, 35.9, 45.0, 65.0),
}

# Cumulative share of applicants with at most 0, 1, 2, … credit inquiries in six months.
INQUIRIES: Final = (0.50, 0.765, 0.893, 0.956, 0.977, 0.987, 0.993, 0.996, 0.998, 0.999)

EMPLOYMENT: Final = {
    "10+ years": 0.226,
    "< 1 year": 0.122,
    "1 year": 0.087,
    "2 years": 0.114,
    "3 years": 0.105,
    "4 years": 0.088,
    "5 years": 0.083,
    "6 years": 0.057,
    "7 years": 0.045,
    "8 years": 0.038,
    "9 years": 0.035,
}
HOME: Final = {"RENT": 0.4745, "MORTGAGE": 0.4457, "OWN": 0.0764, "OTHER": 0.0032, "NONE": 0.0002}
PURPOSE: Final = {
    "debt_consolidation": 0.465,
    "credit_card": 0.129,
    "other": 0.104,
    "home_improvement": 0.075,
    "major_purchase": 0.054,
    "small_business": 0.047,
    "car": 0.038,
    "wedding": 0.024,
    "medical": 0.018,
    "moving": 0.015,
    "house": 0.010,
    "educational": 0.010,
    "vacation": 0.009,
    "renewable_energy": 0.002,
}
STATE: Final = {
    state: per_mille / 1000
    for per_mille, states in {
        175: ("CA",),
        96: ("NY",),
        73: ("FL",),
        69: ("TX",),
        47: ("NJ",),
        39: (
            "IL",
            "PA",
        ),
        35: (
            "GA",
            "VA",
        ),
        34: ("MA",),
        31: ("OH",),
        26: ("MD",),
        22: ("AZ",),
        21: ("WA",),
        20: (
            "CO",
            "NC",
        ),
        19: (
            "CT",
            "MI",
        ),
        18: ("MO",),
        15: ("MN",),
        12: (
            "NV",
            "WI",
        ),
        11: (
            "SC",
            "AL",
            "OR",
            "LA",
        ),
        8: ("KY",),
        7: (
            "OK",
            "KS",
            "UT",
        ),
        6: ("AR",),
        5: (
            "DC",
            "RI",
            "NM",
        ),
        4: (
            "NH",
            "WV",
            "HI",
        ),
        3: ("DE",),
        2: (
            "MT",
            "WY",
            "AK",
            "SD",
        ),
        1: (
            "VT",
            "TN",
            "MS",
        ),
    }.items()
    for state in states
}

# Shares of A1, A2 … G5 and the interest rate that each pays, before the year's change of prices.
_GRADES: Final = {
    "A": ((0.027, 0.036, 0.043, 0.068, 0.066), (0.0580, 0.0640, 0.0717, 0.0767, 0.0827)),
    "B": ((0.044, 0.050, 0.070, 0.061, 0.066), (0.1000, 0.1049, 0.1098, 0.1140, 0.1177)),
    "C": ((0.053, 0.051, 0.039, 0.032, 0.030), (0.1282, 0.1330, 0.1360, 0.1397, 0.1442)),
    "D": ((0.025, 0.035, 0.031, 0.027, 0.024), (0.1473, 0.1526, 0.1563, 0.1596, 0.1641)),
    "E": ((0.021, 0.019, 0.016, 0.013, 0.012), (0.1678, 0.1709, 0.1742, 0.1783, 0.1833)),
    "F": ((0.009, 0.007, 0.006, 0.005, 0.004), (0.1876, 0.1896, 0.1947, 0.1983, 0.2010)),
    "G": ((0.003, 0.003, 0.002, 0.002, 0.002), (0.2039, 0.2042, 0.2061, 0.2080, 0.2100)),
}
SUB_GRADE: Final = {
    f"{grade}{number + 1}": share for grade, (shares, _) in _GRADES.items() for number, share in enumerate(shares)
}
SUB_GRADE_RATE: Final = tuple(rate for _, rates in _GRADES.values() for rate in rates)

# Prices by year of application: what is added to every rate, and the spread between good and bad grades.
RATE_ADDED: Final = ((2007, 2008, 2009, 2010, 2011), (0.0, 0.0, 0.004, -0.003, 0.0))
RATE_SPREAD: Final = ((2007, 2008, 2009, 2010, 2011), (0.9, 0.9, 0.95, 1.0, 1.15))

# Columns that a credit report fills; null where there was none.
FROM_CREDIT_REPORT: Final = (
    "delinq_2yrs",
    "inq_last_6mths",
    "mths_since_last_delinq",
    "open_acc",
    "pub_rec",
    "total_acc",
    "pub_rec_bankruptcies",
)
