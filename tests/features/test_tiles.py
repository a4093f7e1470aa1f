from __future__ import annotations

import random
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_platform.core.errors import DataError, DeclarationError
from ml_platform.features import FeatureView
from ml_platform.features.partials import EMPTY, answered, lifted, merged
from ml_platform.features.tiles import WindowTiles, oldest_inside, tile_widths
from ml_platform.testing import TileFeatures, check_feature_engine, feature_values
from ml_platform.testing.histories import EVENTS, SECOND_US, VIEWS, history
from ml_platform.testing.reference import aggregate

WINDOWED = [name for name, view in VIEWS.items() if view.aggregations]
DAY = 86_400 * SECOND_US


@pytest.mark.parametrize("view", WINDOWED)
def test_tiles_answer_thousands_of_histories_as_brute_force_does(view: str) -> None:
    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 2**32))
    def check(seed: int) -> None:
        check_feature_engine(TileFeatures(), Random(seed), view=view)

    check()


@given(st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_parts_add_up_to_the_whole_in_any_order_and_grouping(generator: Random) -> None:
    view = VIEWS["exact"]
    rows = [row for row in history(generator, view, 0) if row["customer"] is not None]
    ranked = sorted(rows, key=lambda row: (row["event"], row["known"], row["tie"], row["id"]))
    for item in view.aggregations:
        states = [lifted(item, row, (row["event"], row["known"], row["tie"], row["id"])) for row in rows]
        generator.shuffle(states)
        while len(states) > 1:
            place = generator.randrange(len(states) - 1)
            states[place : place + 2] = [merged(item, states[place], states[place + 1])]
        assert answered(item, states[0] if states else EMPTY) == aggregate(item, ranked), item.feature


def event(number: int, at_us: int, **changes: Any) -> dict[str, Any]:
    plain = {"id": number, "customer": "a", "shop": 1, "event": at_us, "known": at_us, "tie": 0, "withdrawn": False}
    return plain | {"amount": 0.1, "units": 1, "channel": "web", "express": None} | changes


def yearly() -> FeatureView:
    from ml_platform.features import Entity, count, last, max_, sum_

    items = [sum_("amount", over="360d"), count(over="10m"), max_("units", over="12mo"), last("units", over="1d")]
    return FeatureView("year", entity=Entity("c", ("customer",)), source=EVENTS, aggregations=items, refresh="exact")


def test_a_year_of_rows_corrected_and_withdrawn_is_answered_exactly() -> None:
    view, generator = yearly(), random.Random(7)
    rows = [event(n, generator.randrange(800 * DAY), units=n % 97, amount=generator.gauss(0, 1)) for n in range(900)]
    for row in generator.choices(rows, k=150):
        later = row["event"] + generator.randrange(200 * DAY)
        rows.append(row | {"known": later, "withdrawn": generator.random() < 0.5, "units": 200, "tie": 1})
    rows = list({(row["id"], row["known"], row["tie"]): row for row in rows}.values())
    rows.sort(key=lambda row: max(row["event"], row["known"]))
    tiles = WindowTiles(view)
    asked = 0
    for number, row in enumerate(rows):
        tiles.apply(row)
        if number % 60 == 0:
            t_us = max(row["event"], row["known"])
            assert tiles.values(("a",), t_us) == feature_values(view, rows[: number + 1], ("a",), t_us)
            asked += 1
    assert asked > 10
    assert tiles.forget(10**16) == len({(row["id"], row["event"]) for row in rows})
    assert tiles.values(("a",), 10**16) == feature_values(view, [], ("a",), 10**16)


def test_what_was_let_go_was_out_of_every_window() -> None:
    view = yearly()
    tiles = WindowTiles(view)
    rows = [event(n, n * 7 * DAY) for n in range(100)]
    for row in rows:
        tiles.apply(row)
    now = rows[-1]["event"]
    assert tiles.forget(min(oldest_inside(item, now) for item in view.aggregations)) > 40
    assert tiles.values(("a",), now) == feature_values(view, rows, ("a",), now)


def test_the_oldest_row_inside_is_the_first_that_has_not_left() -> None:
    for item in VIEWS["months"].aggregations:
        for r_us in [day * DAY + shift for day in (-1, 58, 59, 423, 425, 789, 790) for shift in (-1, 0, 1)]:
            oldest = oldest_inside(item, r_us)
            leave = item.window.after_us
            assert leave(_array(oldest))[0] > r_us >= leave(_array(oldest - 1))[0]


def _array(value: int) -> Any:
    import numpy as np

    return np.array([value])


def test_widths_follow_the_longest_window() -> None:
    assert tile_widths(VIEWS["exact"]) == (SECOND_US,)
    assert tile_widths(yearly()) == tuple(n * SECOND_US for n in (1, 60, 3_600, 86_400, 30 * 86_400))
    assert all(
        wide % narrow == 0 for narrow, wide in zip(tile_widths(yearly()), tile_widths(yearly())[1:], strict=False)
    )


def test_a_version_that_is_not_the_newest_changes_nothing() -> None:
    tiles = WindowTiles(yearly())
    tiles.apply(event(1, DAY, known=2 * DAY, tie=1, units=5))
    tiles.apply(event(1, DAY, known=2 * DAY, tie=0, units=7))
    assert tiles.values(("a",), 2 * DAY)["units_max_12mo"] == 5


def test_tiles_say_nothing_about_the_past() -> None:
    tiles = WindowTiles(yearly())
    tiles.apply(event(1, DAY))
    with pytest.raises(DataError) as caught:
        tiles.values(("a",), DAY - 1)
    assert caught.value.field == "t_us"
    with pytest.raises(DataError) as caught:
        tiles.apply(event(2, DAY - 1))
    assert caught.value.field == "known"
    assert tiles.values((None,), DAY)["count_10m"] is None


def test_an_integer_that_a_double_cannot_hold_is_refused_and_changes_nothing() -> None:
    tiles = WindowTiles(yearly())
    tiles.apply(event(1, DAY, units=3))
    with pytest.raises(DataError) as caught:
        tiles.apply(event(1, DAY, known=2 * DAY, units=2**53 + 1))
    assert caught.value.field == "units"
    assert tiles.values(("a",), 2 * DAY)["units_max_12mo"] == 3


def test_a_view_of_columns_has_no_tiles() -> None:
    with pytest.raises(DeclarationError):
        WindowTiles(VIEWS["held"])
