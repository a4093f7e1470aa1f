from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.profiles.moments import Moments

FLOATS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=60)


def exact(values):
    return [Fraction(float(value)) for value in values]


@settings(deadline=None)
@given(FLOATS)
def test_the_sums_are_exact_for_every_float32(values):
    column, found = exact(values), Moments.of(np.array(values, np.float32))
    assert Fraction(found.total, 2**149) == sum(column)
    assert Fraction(found.squares, 2**298) == sum(value * value for value in column)
    assert found.n == len(values)


@settings(deadline=None)
@given(FLOATS, st.integers(0, 60), st.randoms())
def test_any_order_and_any_split_give_the_same(values, cut, random):
    shuffled = list(values)
    random.shuffle(shuffled)
    parts = [Moments.of(np.array(part, np.float32)) for part in (shuffled[:cut], shuffled[cut:])]
    assert parts[0] + parts[1] == Moments.of(np.array(values, np.float32))


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=60))
def test_mean_and_variance_are_rounded_once(values):
    found, column = Moments.of(np.array(values, np.float32)), exact(values)
    mean = sum(column) / len(column)
    assert found.mean == float(mean)
    assert found.variance == float(sum((value - mean) ** 2 for value in column) / (len(column) - 1))


def test_columns_longer_than_a_chunk_stay_exact():
    values = (np.random.default_rng(0).normal(1e6, 1, 300_001)).astype(np.float32)
    found = Moments.of(values)
    assert found.mean == math.fsum(values.astype(float)) / len(values)
    mean = Fraction(found.total, len(values) * 2**149)
    squares = Fraction(found.squares, 2**298)
    assert squares == sum(
        (Fraction(x) ** 2 * n for x, n in zip(*np.unique(values.astype(float), return_counts=True), strict=True)),
        Fraction(),
    )
    assert found.variance == float((squares - len(values) * mean * mean) / (len(values) - 1))


def test_too_few_values_have_no_moments_and_json_keeps_all_digits():
    assert (Moments().mean, Moments().variance) == (None, None)
    one = Moments.of(np.array([3.0], np.float32))
    assert (one.mean, one.variance) == (3.0, None)
    huge = Moments.of(np.array([3e38, -1e-45], np.float32))
    assert Moments.from_json(json.loads(json.dumps(huge.to_json()))) == huge
    with pytest.raises(KeyError):
        Moments.from_json({"n": 1})
