from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.core.errors import DataError
from ml_platform.stats import chi_square_quantile

scipy_stats = pytest.importorskip("scipy.stats")


@given(st.floats(3, 10_000), st.floats(0.9, 0.999))
def test_it_is_within_two_percent_from_three_degrees_on(freedom, p):
    assert chi_square_quantile(freedom, p) == pytest.approx(scipy_stats.chi2.ppf(p, freedom), rel=0.02)


@pytest.mark.parametrize("freedom", [1, 2])
@pytest.mark.parametrize("p", [0.5, 0.95, 0.999])
def test_one_and_two_degrees_are_exact(freedom, p):
    assert chi_square_quantile(freedom, p) == pytest.approx(scipy_stats.chi2.ppf(p, freedom), rel=1e-9)


def test_a_table_agrees():
    # Table of critical values in every textbook: 9 degrees, 5 % and 0.1 %.
    assert chi_square_quantile(9, 0.95) == pytest.approx(16.919, abs=0.03)
    assert chi_square_quantile(9, 0.999) == pytest.approx(27.877, rel=0.01)


@pytest.mark.parametrize("freedom", [0, -1, float("nan"), float("inf")])
def test_degrees_must_be_positive(freedom):
    with pytest.raises(DataError, match="freedom"):
        chi_square_quantile(freedom, 0.9)
