from __future__ import annotations

import numpy as np
import pytest

from ml_platform.core.errors import DataError, NotEnoughData
from ml_platform.stats import psi, psi_noise


def share_above(shares, n, m, level, times=300):
    random = np.random.default_rng(11)
    above = 0
    for _ in range(times):
        e, a = random.multinomial(n, shares), random.multinomial(m, shares)
        held = (e + a) > 0
        above += psi(e[held], a[held]) > psi_noise(e, a, level=level)
    return above / times


@pytest.mark.parametrize(("n", "m"), [(2_000, 700), (500, 500), (100_000, 60)])
def test_unshifted_samples_exceed_it_as_rarely_as_the_level_says(n, m):
    share = share_above(np.full(10, 0.1), n, m, 0.95)
    assert 0.01 < share < 0.11


def test_rare_categories_are_drawn_and_do_not_page_for_nothing():
    shares = np.arange(1, 401) ** -1.0
    assert share_above(shares / shares.sum(), 3_000, 900, 0.999, times=60) < 0.05


def test_five_thousand_categories_exceed_a_fixed_limit_without_any_shift_but_not_their_noise():
    random = np.random.default_rng(1)
    e, a = (random.multinomial(n, np.full(5_000, 1 / 5_000)) for n in (45_000, 45_000))
    found = psi(e, a)
    assert found > 0.2
    assert found < psi_noise(e, a)


def test_a_real_shift_exceeds_it():
    assert psi([500, 500], [450, 550]) < psi_noise([500, 500], [450, 550]) < psi([500, 500], [350, 650])


def test_it_is_the_published_limit_where_bins_are_full():
    # Yurdakul (2018), 3.3: (1/n + 1/m) times the chi-square quantile with bins - 1 degrees of freedom.
    assert psi_noise([1000] * 10, [400] * 10, level=0.95) == pytest.approx((1 / 10_000 + 1 / 4_000) * 16.919, rel=2e-3)


def test_the_limit_changes_at_five_expected_rows():
    at_five = psi_noise([5, 95], [5, 95], level=0.95)
    assert at_five == pytest.approx(3.841 * 0.02, rel=1e-3)
    assert psi_noise([4, 96], [5, 95], level=0.95) != pytest.approx(at_five, rel=1e-6)


def test_the_same_seed_gives_the_same_bound_and_one_bin_has_no_noise():
    counts = [3, 2, 1, 50]
    assert psi_noise(counts, counts, seed=7) == psi_noise(counts, counts, seed=7)
    assert psi_noise(counts, counts, seed=7) != psi_noise(counts, counts, seed=8)
    assert psi_noise([0, 9], [0, 4]) == 0.0


def test_bad_counts_are_refused():
    with pytest.raises(DataError, match="actual_counts"):
        psi_noise([1, 2], [1])
    with pytest.raises(NotEnoughData, match="actual_counts"):
        psi_noise([1, 2], [0, 0])
