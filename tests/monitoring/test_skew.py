"""The reason of a difference, against the slow, obvious way over plain histories."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core.contract import ResolvedField
from ml_platform.core.fields import number
from ml_platform.features import Entity, FeatureView, SameAsEvent, Source
from ml_platform.features.online import ChangePoint
from ml_platform.monitoring.skew import as_used, skew_reason

SECOND = 1_000_000
SOURCE = Source(
    "x",
    columns={"key": "string", "t": "timestamp", "v": "float64"},
    keys=("key",),
    event_time="t",
    known_time=SameAsEvent("the row is the event"),
)
PLAIN = ResolvedField("v", "x@sha256:00:v", "stored", "number", "float64", nullable=True)


def view(**options: Any) -> FeatureView:
    return FeatureView(
        "x", entity=Entity("thing", ("key",)), source=SOURCE, columns=(number("v", nullable=True),), **options
    )


def held(points: list[tuple[int, int]], t: int, refresh: int, ttl: int | None) -> int | None:
    """The value at T by brute force over (second, value), each known as it happens."""
    before = [(at, value) for at, value in points if at <= t // refresh * refresh]
    if not before:
        return None
    at, value = max(before)
    return value if ttl is None or t < at + ttl else None


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, int]]:
    times = sorted(draw(st.sets(st.integers(0, 30), max_size=6)))
    return [(at, draw(st.integers(0, 4))) for at in times]


@given(histories(), st.integers(0, 40), st.sampled_from([1, 4]), st.none() | st.just(7), st.none() | st.integers(0, 5))
@settings(max_examples=300, deadline=None)
def test_a_difference_is_found_exactly_where_there_is_one_and_named(
    points: list[tuple[int, int]], t: int, refresh: int, ttl: int | None, logged: int | None
) -> None:
    options = {name: f"{value}s" for name, value in (("refresh", refresh), ("ttl", ttl)) if value is not None}
    declared = view(**options)
    made = [ChangePoint(at * SECOND, at * SECOND, (float(value),)) for at, value in points]
    got = skew_reason(declared, PLAIN, 0, made, t * SECOND, None if logged is None else float(logged))
    right = held(points, t, refresh, ttl)
    if logged == right:
        assert got is None
        return
    known = [(at, value) for at, value in points if at <= t // refresh * refresh]
    forgot = known and ttl is not None and logged == (known[-1][1] if right is None else None)
    older = {None, *(value for _, value in known[:-1])}
    assert got == ("ttl" if forgot else "late_data" if logged in older else "code")


def test_values_are_compared_as_records_hold_them() -> None:
    assert as_used(PLAIN, 0.1) != 0.1  # float32
    default = ResolvedField("v", "r", "stored", "number", "float64", on_null="default", default=0.5)
    assert as_used(default, None) == 0.5
    ranged = ResolvedField("v", "r", "stored", "number", "float64", range=(0.0, 1.0), on_range="default", default=0.25)
    assert (as_used(ranged, 2.0), as_used(ranged, 1.0)) == (0.25, 1.0)
    flagged = ResolvedField("v", "r", "stored", "number", "float64", range=(0.0, 1.0), on_range="flag")
    assert as_used(flagged, 2.0) == 2.0
    word = ResolvedField("w", "r", "stored", "category", "string", nullable=True)
    assert (as_used(word, "a"), as_used(word, None)) == ("a", None)
