"""Differences of definitions: every change of a canonical form is found, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.features import count, mean
from ml_platform.features.about import About
from ml_platform.features.declaration import Declaration
from ml_platform.features.differences import differences
from tests.features.test_tables import PAYMENTS, VIEW


class Shape(Declaration):
    """A declaration of any document."""

    kind = "shape"

    def __init__(self, document: dict[str, Any]) -> None:
        self.name, self._document = "shape", document

    def document(self) -> dict[str, Any]:
        return {"held": self._document}


LEAVES = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["a", "b"])
DOCUMENTS = st.recursive(LEAVES, lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=8)


@given(DOCUMENTS, DOCUMENTS)
def test_applying_the_differences_gives_the_second(before: Any, after: Any) -> None:
    found = differences(Shape({"x": before}), Shape({"x": after}))
    made: Any = {"held": {"x": before}}
    for one in found:
        *way, last = one.path
        place = made
        for name in way:
            place[name] = dict(place[name])
            place = place[name]
        if one.kind == "removed":
            assert place.pop(last) == one.before
        else:
            assert (last in place) == (one.kind == "changed")
            place[last] = one.after
    assert made == {"held": {"x": after}}
    assert all((one.before, type(one.before)) != (one.after, type(one.after)) for one in found if one.kind == "changed")


def test_equal_definitions_do_not_differ_whatever_is_said_about_them() -> None:
    assert differences(VIEW, replace(VIEW, about=About(description="x"))) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"refresh": "2d"}, ["refresh_us (how often it is computed): 86400000000 → 172800000000"]),
        (
            {"aggregations": (mean("late", over="30d"), count(over="20d"))},
            [
                "aggregations.late_mean_20d (windowed features): removed, was",
                "aggregations.late_mean_30d (windowed features): added, {function: mean, column: late",
            ],
        ),
        (
            {"source": replace(PAYMENTS, known_time="paid_at")},
            ["rows.known_time.column (the rows that it reads): known_at → paid_at"],
        ),
    ],
)
def test_a_change_is_said_in_words_at_its_place(change: dict[str, Any], words: list[str]) -> None:
    found = [one.words() for one in differences(VIEW, replace(VIEW, **change))]
    assert len(found) == len(words)
    assert all(said.startswith(want) for said, want in zip(found, words, strict=True)), found
