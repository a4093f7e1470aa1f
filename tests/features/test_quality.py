"""Quality checks against the slow, obvious way; at each bound a step beyond it turns the verdict."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.core.errors import DeclarationError
from ml_platform.core.fields import category, number
from ml_platform.features import Entity, FeatureView, Source, count
from ml_platform.features.about import About, Deprecated
from ml_platform.features.quality import in_range, judge, null_rate, unique, volume
from tests.features.support import same

VALUES = st.lists(st.none() | st.floats(-3, 3), max_size=12)


def part(values: list[Any]) -> pa.Table:
    return pa.table({"v": pa.array(values, pa.float64()), "k": [number_ % 3 for number_ in range(len(values))]})


def verdict(check: Any, table: pa.Table, before: int | None = None) -> bool:
    (one,) = judge([check], table, rows_before=before)
    return one.passed


@given(VALUES, st.floats(0, 1))
def test_null_rates_are_shares_of_all_rows(values: list[Any], most: float) -> None:
    rate = sum(value is None for value in values) / len(values) if values else 0.0
    (one,) = judge([null_rate("v", most=most)], part(values), rows_before=None)
    assert one.passed == (rate <= most)
    assert one.measured["null_rate"] == rate


@given(VALUES, st.none() | st.floats(-3, 0), st.none() | st.floats(0, 3), st.floats(0, 1))
def test_ranges_count_what_lies_outside(values: list[Any], least: Any, most: Any, share: float) -> None:
    if least is None and most is None:
        return
    present = [value for value in values if value is not None]
    outside = [v for v in present if (least is not None and v < least) or (most is not None and v > most)]
    (one,) = judge([in_range("v", least=least, most=most, share=share)], part(values), rows_before=None)
    assert one.measured["outside"] == len(outside)
    assert one.passed == ((len(outside) / len(present) if present else 0.0) <= share)


@given(VALUES)
def test_duplicates_are_rows_beyond_the_distinct_ones(values: list[Any]) -> None:
    table = part(values)
    pairs = list(zip(table["k"].to_pylist(), table["v"].to_pylist(), strict=True))
    (one,) = judge([unique("k", "v")], table, rows_before=None)
    assert one.measured["duplicates"] == len(pairs) - len(set(pairs))
    assert one.passed == (len(pairs) == len(set(pairs)))


def test_volumes_have_two_bounds_and_a_change() -> None:
    rows = part([1.0] * 10)
    assert verdict(volume(least=10, most=10), rows)
    assert not verdict(volume(least=11), rows)
    assert not verdict(volume(most=9), rows)
    assert verdict(volume(change=0.5), rows)  # nothing to compare with
    assert verdict(volume(change=0.5), rows, 20)
    assert not verdict(volume(change=0.5), rows, 21)
    assert verdict(volume(change=0.25), rows, 8)
    assert not verdict(volume(change=0.24), rows, 8)


def test_words_have_the_numbers_and_no_values() -> None:
    (one,) = judge([null_rate("v", most=0.25)], part([None, 7.5]), rows_before=None)
    assert one.words() == "null_rate_v: null_rate 0.5, nulls 1, rows 2 (most 0.25)"


ROWS = Source(
    "x",
    columns={"key": "string", "t": "timestamp", "v": "float64", "w": "string"},
    keys=("key",),
    event_time="t",
    known_time=same(),
)


def view(**about: Any) -> FeatureView:
    return FeatureView(
        "x",
        entity=Entity("thing", ("key",)),
        source=ROWS,
        columns=(number("v"), category("w")),
        about=About(**about),
    )


@pytest.mark.parametrize(
    "check", [null_rate("absent", most=0.1), in_range("w", least=0), unique("key", "absent"), in_range("key", most=1)]
)
def test_a_check_of_what_is_not_stored_is_refused_with_the_choices(check: Any) -> None:
    with pytest.raises(DeclarationError, match=r"quality.*Choose one of"):
        view(quality=(check,))


def test_keys_and_times_may_be_checked() -> None:
    view(quality=(unique("key", "t"), null_rate("w", most=0.0), volume(least=1)))
    FeatureView(
        "windows",
        entity=Entity("thing", ("key",)),
        source=ROWS,
        aggregations=(count(over="2d"),),
        refresh="1d",
        about=About(quality=(unique("key", "refreshed_at"), in_range("count_2d", least=0))),
    )


def test_what_is_said_about_a_view_is_in_no_digest() -> None:
    said = view(
        description="x",
        owners=("team:x",),
        partition="day",
        freshness="2d",
        quality=(volume(least=1),),
        deprecated=Deprecated("2011-01-01", "old"),
    )
    assert said.digest == view().digest
    assert said == view()


@pytest.mark.parametrize(
    "about",
    [
        lambda: About(owners=("nobody",)),
        lambda: About(partition="week"),  # type: ignore[arg-type]
        lambda: About(freshness="1mo"),
        lambda: About(freshness="0d"),
        lambda: About(quality=(volume(least=1), volume(most=2))),
        lambda: null_rate("v", most=1.5),
        lambda: in_range("v"),
        volume,
        lambda: Deprecated("yesterday", "old"),
        lambda: Deprecated("2011-01-01", " "),
    ],
)
def test_what_makes_no_sense_is_refused(about: Any) -> None:
    with pytest.raises(DeclarationError):
        about()
