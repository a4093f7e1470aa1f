from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.features import datasketches, ddsketch

FINITE = st.floats(allow_nan=False, allow_infinity=False)
TINY = 2.3e-308


@pytest.mark.parametrize("size", [0, 1, 30, 384, 385, 390, 700, 1_000, 5_000, 30_000])
def test_an_estimate_depends_on_the_set_alone(size: int) -> None:
    generator = random.Random(size)
    values = [f"s{number}" for number in range(size)]
    estimates = set()
    for _ in range(8):
        generator.shuffle(values)
        cuts = sorted(generator.randint(0, size) for _ in range(generator.randint(0, 5)))
        parts = [values[low:high] for low, high in zip([0, *cuts], [*cuts, size], strict=True)]
        again = generator.choices(values, k=20) if values else []
        sketches = [datasketches.sketch_of([*part, *again]) for part in parts]
        estimates.add(datasketches.estimate(datasketches.union(*sketches)))
    assert len(estimates) == 1
    (estimate,) = estimates
    assert estimate == round(estimate)
    assert abs(estimate - size) <= (0 if size <= 384 else 0.06 * size)


def test_every_kind_of_value_is_one() -> None:
    columns: list[pa.ChunkedArray[Any]] = [
        pa.chunked_array([pa.array(["", "a", None, "a"])]),
        pa.chunked_array([pa.array([0.0, -0.0, None, 1.5])]),
        pa.chunked_array([pa.array([True, False, None, True])]),
        pa.chunked_array([pa.array([0, 2**62, None, 0])]),
        pa.chunked_array([pa.array([0, 1, None, 1], pa.int32()).cast(pa.date32())]),
        pa.chunked_array([pa.array([0, 1, None, 1], pa.int64()).cast(pa.timestamp("us", "UTC"))]),
    ]
    for column in columns:
        items = datasketches.items(column)
        assert items[2] is None
        assert datasketches.estimate(datasketches.sketch_of(item for item in items if item is not None)) == 2


@given(FINITE)
@settings(max_examples=500, deadline=None)
def test_a_represented_value_is_within_one_percent(value: float) -> None:
    (got,) = ddsketch.represented(np.array([value])).tolist()
    if abs(value) < TINY:
        assert got == 0
    else:
        assert abs(got - value) <= 0.01 * abs(value) * (1 + 1e-9)
        assert math.copysign(1, got) == math.copysign(1, value)


@given(st.lists(FINITE | st.integers(-5, 5).map(float), min_size=1, max_size=30), st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_a_quantile_of_counts_is_the_represented_value_at_the_rank(values: list[float], q: float) -> None:
    at_rank = sorted(values)[math.floor(q * (len(values) - 1))]
    wanted = ddsketch.represented(np.array([at_rank])).tolist()[0]
    assert ddsketch.quantile(Counter(ddsketch.bucket(value) for value in values), q) == wanted


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=30), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 0.99, 1.0]))
@settings(max_examples=200, deadline=None)
def test_it_is_what_the_librarys_own_sketch_answers(values: list[float], q: float) -> None:
    from ddsketch.ddsketch import BaseDDSketch
    from ddsketch.mapping import LinearlyInterpolatedMapping
    from ddsketch.store import DenseStore

    judge = BaseDDSketch(
        mapping=LinearlyInterpolatedMapping(0.01), store=DenseStore(), negative_store=DenseStore(), zero_count=0.0
    )
    for value in values:
        judge.add(value)
    assert ddsketch.quantile(Counter(ddsketch.bucket(value) for value in values), q) == judge.get_quantile_value(q)


def test_no_values_have_no_quantile_and_nulls_stay_nulls() -> None:
    assert ddsketch.quantile({}, 0.5) is None
    assert np.isnan(ddsketch.represented(np.array([np.nan, 1.0]))).tolist() == [True, False]
    assert ddsketch.represented(np.empty(0)).tolist() == []
