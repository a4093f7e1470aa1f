from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.core.errors import DataError
from ml_platform.training.reasons import MOST_REASONS, reason_codes

FEATURES = ["a", "b", "c", "d", "e", "f"]
EACH = {name: name.upper() for name in FEATURES}


def codes(*contributions: float, reasons=EACH, most: int = MOST_REASONS) -> tuple[str, ...]:
    return reason_codes(np.array([[*contributions, -2.0]]), FEATURES, reasons, most=most)[0]


def test_the_strongest_stands_first_and_there_are_at_most_four():
    assert codes(0.1, 0.5, 0.3, 0.2, 0.4, 0.6) == ("F", "B", "E", "C")


def test_what_speaks_for_a_person_or_says_nothing_is_no_reason():
    assert codes(-1.0, 0.0, 0.2, -0.1, 0, 0) == ("C",)
    assert codes(-1, 0, 0, 0, 0, 0) == ()


def test_the_baseline_is_no_reason():
    assert reason_codes(np.array([[0.0] * 6 + [9.0]]), FEATURES, EACH) == [()]


def test_features_of_one_text_are_added_before_they_are_compared():
    shared = {**EACH, "a": "Debt", "b": "Debt", "f": "Debt"}
    assert codes(0.2, 0.2, 0.3, 0, 0, 0.2, reasons=shared) == ("Debt", "C")
    assert codes(0.5, -0.4, 0.3, 0, 0, 0, reasons=shared) == ("C", "Debt")
    assert codes(0.5, -0.6, 0.3, 0, 0, 0, reasons=shared) == ("C",)


def test_equal_reasons_stand_in_the_order_of_the_features():
    reversed_texts = dict(zip(FEATURES, "fedcba", strict=True))
    assert codes(0.1, 0.1, 0.1, 0.1, 0.1, 0.1, reasons=reversed_texts) == ("f", "e", "d", "c")


def test_the_order_of_the_declared_reasons_does_not_matter():
    other = dict(reversed(EACH.items()))
    assert codes(0.1, 0.1, 0.2, 0.1, 0.2, 0, reasons=other) == codes(0.1, 0.1, 0.2, 0.1, 0.2, 0)


def test_columns_must_be_those_of_the_features():
    with pytest.raises(DataError, match="contributions"):
        reason_codes(np.zeros((1, 6)), FEATURES, EACH)


@given(st.lists(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0]), min_size=7, max_size=7), max_size=5))
def test_reasons_agree_with_the_obvious_way(rows):
    texts = {"a": "X", "b": "Y", "c": "X", "d": "Z", "e": "W", "f": "V"}
    expected = []
    for row in rows:
        sums = {text: sum(v for v, name in zip(row, FEATURES, strict=False) if texts[name] == text) for text in "XYZWV"}
        ranked = sorted((text for text in "XYZWV" if sums[text] > 0), key=lambda text: -sums[text])
        expected.append(tuple(ranked[:4]))
    assert reason_codes(np.array(rows).reshape(-1, 7), FEATURES, texts) == expected
