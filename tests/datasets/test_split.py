from __future__ import annotations

import math
from datetime import UTC, datetime
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core.errors import DataError, DeclarationError, NotEnoughData
from ml_platform.core.rows import micros
from ml_platform.datasets.split import TimeSplit, require_two_classes

DAY = 86_400_000_000
starts = st.lists(st.integers(0, 40), min_size=1, max_size=60).map(lambda days: np.array(days, np.int64) * DAY)
shares = st.sampled_from([0.05, 0.07, 0.1, 0.3, 0.5, 0.9])


@settings(max_examples=200, deadline=None)
@given(starts, shares, st.sampled_from([0, 1, 5]))
def test_the_split_is_the_obvious_one(times, share, gap_days):
    rows = len(times)
    newest_first = sorted(times.tolist(), reverse=True)
    cut = newest_first[math.ceil(Fraction(str(share)) * rows) - 1]
    expected_train = [time < cut - gap_days * DAY for time in times.tolist()]
    declared = TimeSplit(test=share, gap=f"{gap_days}d")
    if not any(expected_train):
        with pytest.raises(NotEnoughData, match=f"of {rows} mature rows"):
            declared.split(times, times + 10 * DAY)
        return
    result = declared.split(times, times + 10 * DAY)
    assert result.cut_us == cut
    assert result.train_until_us == cut - gap_days * DAY
    assert result.train.tolist() == expected_train
    assert result.test.tolist() == [time >= cut for time in times.tolist()]
    assert result.matured_after_cut == sum(
        time + 10 * DAY > cut for time, kept in zip(times.tolist(), expected_train, strict=True) if kept
    )


@settings(max_examples=100, deadline=None)
@given(starts, shares)
def test_ties_stay_together_and_the_newest_share_is_kept(times, share):
    try:
        result = TimeSplit(test=share).split(times, times)
    except NotEnoughData:
        return
    assert not set(times[result.train].tolist()) & set(times[result.test].tolist())
    assert times[result.train].max() < times[result.test].min()
    assert (result.train | result.test).all()
    held = int(result.test.sum())
    assert held >= Fraction(str(share)) * len(times)
    without_oldest = held - int((times == result.cut_us).sum())
    assert without_oldest < Fraction(str(share)) * len(times)


def test_a_share_of_seven_percent_of_a_hundred_rows_is_seven():
    times = np.arange(100, dtype=np.int64)
    assert int(TimeSplit(test=0.07).split(times, times).test.sum()) == 7


def test_a_row_that_starts_exactly_a_gap_before_the_cut_is_in_neither_part():
    times = np.array([0, 5, 9, 10], np.int64) * DAY
    result = TimeSplit(test=0.25, gap="5d").split(times, times)
    assert result.train.tolist() == [True, False, False, False]
    assert result.test.tolist() == [False, False, False, True]


def test_a_gap_in_months_is_a_calendar_gap_clamped_to_the_month_end():
    at = [datetime(2011, 2, 27, tzinfo=UTC), datetime(2011, 2, 28, tzinfo=UTC), datetime(2011, 3, 31, tzinfo=UTC)]
    times = np.array([micros(one) for one in at], np.int64)
    result = TimeSplit(test=0.3, gap="1mo").split(times, times)
    assert result.train_until_us == micros(at[1])
    assert result.train.tolist() == [True, False, False]


def test_a_row_that_matured_exactly_at_the_cut_is_not_counted_as_late():
    times = np.array([0, 1, 10], np.int64) * DAY
    matured = np.array([10, 11, 20], np.int64) * DAY
    assert TimeSplit(test=0.3).split(times, matured).matured_after_cut == 1


def test_no_mature_row_is_not_enough_data():
    nothing = np.empty(0, np.int64)
    with pytest.raises(NotEnoughData, match="0 mature rows"):
        TimeSplit().split(nothing, nothing)


def test_arrays_of_different_length_are_refused():
    with pytest.raises(DataError):
        TimeSplit().split(np.zeros(2, np.int64), np.zeros(3, np.int64))


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan"), True])
def test_an_impossible_share_is_refused_when_declared(share):
    with pytest.raises(DeclarationError, match="test"):
        TimeSplit(test=share)


def test_an_impossible_gap_is_refused_when_declared():
    with pytest.raises(DeclarationError, match="gap"):
        TimeSplit(gap="a week")


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
def test_a_single_class_names_rows_and_positives(labels):
    with pytest.raises(NotEnoughData, match=f"3 rows, {sum(labels)} positive"):
        require_two_classes(np.array(labels, float))


def test_two_classes_pass():
    require_two_classes(np.array([0.0, 1.0]))


def test_share_and_gap_are_the_identity_of_a_split():
    assert TimeSplit(test=0.3).digest == TimeSplit(test=0.3, gap="0d").digest
    assert TimeSplit(test=0.3).digest != TimeSplit(test=0.31).digest
    assert TimeSplit().digest != TimeSplit(gap="1d").digest
