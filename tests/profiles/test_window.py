from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core.digests import canonical_json
from ml_platform.core.errors import Conflict, DataError
from ml_platform.core.fields import category, number
from ml_platform.profiles import ReferenceProfile, WindowCategory, WindowNumber, WindowProfile
from ml_platform.stats import bin_counts

DIGEST = "sha256:" + "00" * 32
FIELDS = [number("dti", nullable=True), category("term"), category("grade", public=True)]


def rows(n=400, seed=0, terms=("36",), grades=("A", "B")):
    random = np.random.default_rng(seed)
    return pa.table(
        {
            "dti": pa.array(random.normal(10, 3, n).astype(np.float32), mask=random.random(n) < 0.1),
            "term": pa.array(random.choice(terms, n)),
            "grade": pa.array(random.choice(grades, n), mask=random.random(n) < 0.05),
        }
    )


def scores(n=400, seed=0):
    return np.random.default_rng(seed).random(n).astype(np.float32)


REFERENCE = ReferenceProfile.of(rows(), FIELDS, inputs_digest=DIGEST, scores=scores())


def window(table, seed=5, decisions=None):
    return WindowProfile.of(table, REFERENCE, scores=scores(table.num_rows, seed), decisions=decisions)


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.just(float("nan")), st.floats(-5, 5, width=32), st.integers(-3, 3).map(float)), max_size=80),
    st.lists(st.one_of(st.floats(-5, 5), st.integers(-3, 3).map(float)), max_size=6, unique=True),
)
def test_bins_hold_what_the_slow_count_says(values, edges):
    column = np.array(values, np.float32)
    found = WindowNumber.of(column, sorted(edges))
    slow = bin_counts(column.astype(float), sorted(edges))
    assert (found.counts, found.nulls, found.rows) == (slow.counts, slow.nulls, len(values))


def test_a_value_on_an_edge_that_float32_cannot_hold_is_in_the_right_bin():
    edge = 0.1  # between two float32
    below, above = np.nextafter(np.float32(edge), np.float32(0)), np.nextafter(np.float32(edge), np.float32(1))
    found = WindowNumber.of(np.array([below, np.float32(edge), above], np.float32), [edge])
    assert found.counts == (1, 2) if float(np.float32(edge)) >= edge else (2, 1)
    assert WindowNumber.of(np.array([np.float32(0.3)]), [0.3]).counts == (
        (0, 1) if float(np.float32(0.3)) >= 0.3 else (1, 0)
    )
    assert WindowNumber.of(np.array([np.float32(0.7)]), [0.7]).counts == (
        (0, 1) if float(np.float32(0.7)) >= 0.7 else (1, 0)
    )


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=6), st.permutations(range(400)))
def test_days_add_up_to_the_week_bit_for_bit(cuts, order):
    table = rows(terms=("36", "60", "84")).take(pa.array(order))
    score = scores()[list(order)]
    places = [0, *sorted(cuts), 400]
    days = [
        WindowProfile.of(table.slice(a, b - a), REFERENCE, scores=score[a:b], decisions={"declined": b - a})
        for a, b in pairwise(places)
        if b > a
    ]
    whole = days[0]
    for day in days[1:]:
        whole = whole + day
    week = WindowProfile.of(table, REFERENCE, scores=score, decisions={"declined": 400})
    assert whole.stored(REFERENCE).to_bytes() == week.stored(REFERENCE).to_bytes()
    assert whole.digest == week.digest


def test_what_is_stored_names_no_rare_category_and_no_single_value():
    table = pa.table(
        {
            "dti": pa.array([1.5] * 3 + [None] * 20, pa.float32()),
            "term": pa.array(["36"] * 2 + ["60"] * 9 + ["84"] * 12),
            "grade": pa.array(["A"] * 2 + ["Z"] * 9 + ["Y"] * 12),
        }
    )
    found = window(table).stored(REFERENCE)
    text = found.to_bytes().decode()
    assert found.fields["grade"].counts == {"A": 2, "Y": 12}
    assert found.fields["grade"].other == 9
    assert sorted(found.fields["term"].counts.values()) == [2, 12]
    assert "36" not in json.dumps(list(found.fields["term"].counts)) or all(
        len(name) == 32 for name in found.fields["term"].counts
    )
    assert '"Z"' not in text
    assert json.loads(text)["fields"]["dti"]["moments"] is None  # three values would be nearly told by their sums
    assert found.fields["dti"].counts == window(table).fields["dti"].counts


def test_ten_values_have_moments_in_what_is_stored():
    def moments(values):
        table = pa.table(
            {"dti": pa.array(values, pa.float32()), "term": pa.array(["36"] * 10), "grade": pa.array(["A"] * 10)}
        )
        return window(table).stored(REFERENCE).to_json()["fields"]["dti"]["moments"]

    assert moments([1.0] * 10)["n"] == 10
    assert moments([1.0] * 9 + [None]) is None
    assert moments([None] * 10)["n"] == 0


def test_a_profile_is_read_back_and_small_parts_merge_without_moments():
    found = window(rows(5)).stored(REFERENCE)
    again = WindowProfile.from_json(json.loads(found.to_bytes()))
    assert again.to_bytes() == canonical_json(json.loads(found.to_bytes()))
    assert again.fields["dti"].moments is None
    assert (again + window(rows(50))).fields["dti"].moments is None
    assert (again + window(rows(50))).rows == 55
    with pytest.raises(DataError, match="window-profile/1"):
        WindowProfile.from_json({"format": "ml-platform/profile/1"})


def test_a_missing_column_is_said_and_others_are_profiled():
    found = window(rows().drop_columns(["term"]))
    assert found.missing == ("term",)
    assert set(found.fields) == {"dti", "grade"}
    assert (found + window(rows())).missing == ("term",)


def test_profiles_over_the_bins_of_two_references_do_not_merge():
    other = ReferenceProfile.of(rows(seed=9), FIELDS, inputs_digest="sha256:" + "11" * 32)
    with pytest.raises(Conflict, match="reference"):
        window(rows()) + WindowProfile.of(rows(), other)


def test_an_infinite_value_is_refused():
    with pytest.raises(DataError, match="infinite"):
        WindowNumber.of(np.array([np.inf], np.float32), [0.0])


def test_the_reference_itself_as_a_window_has_its_counts():
    found = WindowProfile.of(rows(), REFERENCE, scores=scores())
    for name, known in REFERENCE.fields.items():
        one = found.fields[name]
        assert (one.rows, one.nulls) == (known.rows, known.nulls)
        if isinstance(one, WindowNumber):
            assert one.counts == known.counts
            assert one.moments.mean == pytest.approx(known.mean, rel=1e-15)
            assert one.moments.variance == pytest.approx(known.variance, rel=1e-12)
        else:
            assert isinstance(one, WindowCategory)
            assert dict(one.counts) == dict(known.counts)
    assert found.score.counts == REFERENCE.score.counts
