from __future__ import annotations

import json
import math
import statistics

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core.digests import canonical_json
from ml_platform.core.errors import DataError, NotEnoughData, SchemaMismatch
from ml_platform.core.fields import category, number
from ml_platform.profiles import CategoryProfile, NumberProfile, ReferenceProfile, psi, score_psi

DIGEST = "sha256:" + "00" * 32
FIELDS = [number("dti", nullable=True), category("term"), category("grade", public=True)]


def table(n=200, seed=0, terms=("36",)):
    random = np.random.default_rng(seed)
    dti = random.normal(10, 3, n).astype(np.float32)
    return pa.table(
        {
            "dti": pa.array(dti, mask=random.random(n) < 0.1),
            "term": pa.array(random.choice(terms, n)),
            "grade": pa.array(random.choice(["A", "B"], n)),
        }
    )


def profile(rows=None, scores=None):
    return ReferenceProfile.of(table() if rows is None else rows, FIELDS, inputs_digest=DIGEST, scores=scores)


def test_a_number_is_counted_exactly():
    rows = table()
    values = [value for value in rows.column("dti").to_pylist() if value is not None]
    found = profile(rows).fields["dti"]
    assert isinstance(found, NumberProfile)
    assert (found.rows, found.nulls) == (200, 200 - len(values))
    assert found.mean == math.fsum(values) / len(values)
    assert found.variance == pytest.approx(statistics.variance(values), rel=1e-12)
    assert sum(found.counts) == len(values)
    assert len(found.counts) == len(found.edges) + 1 == 10
    low, high = (-math.inf, *found.edges), (*found.edges, math.inf)
    assert found.counts == tuple(
        sum(start <= value < end for value in values) for start, end in zip(low, high, strict=True)
    )


def test_edges_exclude_extremes_and_rows_own_values_and_bins_hold_ten_rows():
    rows = table(150)
    values = {value for value in rows.column("dti").to_pylist() if value is not None}
    found = profile(rows).fields["dti"]
    assert min(values) < min(found.edges)
    assert max(found.edges) < max(values)
    assert not values & set(found.edges)
    assert min(found.counts) >= 10


def test_a_category_is_hashed_unless_public_and_rare_ones_are_not_named():
    rows = pa.table(
        {
            "dti": pa.array([1.0] * 30),
            "term": pa.array(["36"] * 20 + ["60"] * 9 + [None]),
            "grade": pa.array(["A"] * 10 + ["B"] * 11 + ["C"] * 9),
        }
    )
    found = profile(rows)
    term, grade = found.fields["term"], found.fields["grade"]
    assert isinstance(term, CategoryProfile)
    assert list(term.counts.values()) == [20]
    assert all(len(name) == 32 and name != "36" for name in term.counts)
    assert (term.other, term.nulls, term.rows) == (9, 1, 30)
    assert grade.counts == {"A": 10, "B": 11}
    assert grade.other == 9
    assert b"36" not in json.dumps(found.to_json()["fields"]["term"]["counts"]).encode().replace(
        next(iter(term.counts)).encode(), b""
    )


def test_hashes_of_two_training_sets_cannot_be_joined_and_differ_by_field():
    rows = table().rename_columns(["dti", "grade", "term"])
    fields = [category("term"), category("grade")]
    one = ReferenceProfile.of(rows, fields, inputs_digest=DIGEST)
    other = ReferenceProfile.of(rows, fields, inputs_digest="sha256:" + "11" * 32)
    assert not set(one.fields["term"].counts) & set(other.fields["term"].counts)
    same = pa.table({"term": rows.column("term"), "grade": rows.column("term")})
    both = ReferenceProfile.of(same, fields, inputs_digest=DIGEST)
    assert not set(both.fields["term"].counts) & set(both.fields["grade"].counts)


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(60)), st.integers(1, 59), st.booleans())
def test_the_bytes_ignore_order_chunks_and_dictionaries(order, cut, dictionary):
    rows = table(60)
    shape = rows.take(pa.array(order))
    if dictionary:
        shape = shape.set_column(1, "term", shape.column("term").dictionary_encode())
    shape = pa.concat_tables([shape.slice(cut), shape.slice(0, cut)])
    assert profile(shape).to_bytes() == profile(rows).to_bytes()


def test_a_profile_is_read_back_from_its_canonical_form():
    found = profile(scores=np.linspace(0, 1, 200))
    raw = found.to_bytes()
    assert raw == canonical_json(json.loads(raw))
    again = ReferenceProfile.from_json(json.loads(raw))
    assert again == found
    assert again.digest == found.digest
    assert profile().digest != found.digest
    with pytest.raises(DataError, match="profile/1"):
        ReferenceProfile.from_json({"format": "other"})


def test_an_unshifted_window_is_near_and_a_shifted_one_far():
    reference = profile(table(5_000))
    near = psi(reference, table(5_000, seed=1))
    assert set(near) == {"dti", "term", "grade"}
    assert max(near.values()) < 0.02
    shifted = table(5_000, seed=1)
    shifted = shifted.set_column(0, "dti", pa.array(np.asarray(shifted.column("dti").fill_null(0.0)) + 3))
    assert psi(reference, shifted)["dti"] > 0.5


def by_hand(expected, actual):
    held = [(e, a) for e, a in zip(expected, actual, strict=True) if e + a]
    total_e, total_a = (sum(one) + 0.5 * len(held) for one in zip(*held, strict=True))
    return sum(
        ((a + 0.5) / total_a - (e + 0.5) / total_e) * math.log(((a + 0.5) / total_a) / ((e + 0.5) / total_e))
        for e, a in held
    )


def test_unseen_categories_and_nulls_have_their_own_bins():
    reference = profile()
    window = pa.table({"dti": [10.0] * 10, "term": ["36"] * 5 + ["60"] * 3 + [None] * 2, "grade": ["A"] * 10})
    assert psi(reference, window)["term"] == pytest.approx(by_hand([200, 0, 0], [5, 3, 2]))
    missing = pa.table({"dti": pa.array([None] * 10, pa.float64()), "term": ["36"] * 10, "grade": ["A"] * 10})
    found = reference.fields["dti"]
    assert psi(reference, missing)["dti"] == pytest.approx(
        by_hand([*found.counts, found.nulls], [*([0] * len(found.counts)), 10])
    )
    assert psi(reference, missing)["term"] == 0.0


def test_a_category_may_come_as_an_integer():
    rows = pa.table({"term": pa.array([36] * 20 + [60] * 20)})
    reference = ReferenceProfile.of(rows, [category("term")], inputs_digest=DIGEST)
    assert psi(reference, pa.table({"term": ["36"] * 20 + ["60"] * 20}))["term"] == 0.0


def test_values_are_compared_as_the_model_sees_them():
    rows = pa.table({"dti": [0.1] * 20 + [0.2] * 20})
    reference = ReferenceProfile.of(rows, [number("dti")], inputs_digest=DIGEST)
    assert reference.fields["dti"].mean == pytest.approx(float(np.float32(0.1) + np.float32(0.2)) / 2, abs=1e-8)
    assert reference.fields["dti"].mean != 0.15000000000000002
    as_float32 = pa.table({"dti": rows.column("dti").cast(pa.float32())})
    assert ReferenceProfile.of(as_float32, [number("dti")], inputs_digest=DIGEST) == reference


def test_scores_have_edges_of_their_own():
    scores = np.linspace(0, 1, 200)
    reference = profile(scores=scores)
    assert score_psi(reference, scores) == 0.0
    assert score_psi(reference, scores / 2) > 0.5
    with pytest.raises(DataError, match="score"):
        score_psi(profile(), scores)


def test_what_has_no_values_says_so():
    empty = pa.table({"dti": pa.array([None, None], pa.float64())})
    found = ReferenceProfile.of(empty, [number("dti")], inputs_digest=DIGEST).fields["dti"]
    assert (found.nulls, found.mean, found.variance, found.edges, found.counts) == (2, None, None, (), (0,))
    single = ReferenceProfile.of(pa.table({"dti": [3.0]}), [number("dti")], inputs_digest=DIGEST).fields["dti"]
    assert (single.mean, single.variance) == (3.0, None)
    with pytest.raises(NotEnoughData):
        psi(profile(), table().slice(0, 0))


def test_a_missing_column_and_infinity_are_refused():
    with pytest.raises(SchemaMismatch, match=r"^dti: "):
        psi(profile(), table().drop_columns(["dti"]))
    with pytest.raises(DataError, match="infinite"):
        ReferenceProfile.of(pa.table({"dti": [math.inf]}), [number("dti")], inputs_digest=DIGEST)


def golden_profile():
    rows = pa.table(
        {
            "dti": pa.array([*[float(value) for value in range(20)], None], pa.float64()),
            "term": pa.array(["36"] * 11 + ["60"] * 10),
            "grade": pa.array(["A"] * 12 + ["B"] * 9),
        }
    )
    return ReferenceProfile.of(rows, FIELDS, inputs_digest=DIGEST)


def test_the_golden_bytes_never_change():
    assert golden_profile().to_bytes().decode() == GOLDEN
    assert golden_profile().digest == GOLDEN_DIGEST


GOLDEN = '{"fields":{"dti":{"counts":[10,10],"edges":[9.5],"kind":"number","mean":9.5,"nulls":1,"rows":21,"variance":35},"grade":{"counts":{"A":12},"kind":"category","nulls":0,"other":9,"public":true,"rows":21},"term":{"counts":{"11275c7c2b6e2ee2787d528b060638b5":11,"2021a76e71afc139a262c895fe6263a8":10},"kind":"category","nulls":0,"other":0,"public":false,"rows":21}},"format":"ml-platform/profile/1","inputs_digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000","rows":21,"score":null}'
GOLDEN_DIGEST = "sha256:5f63d61a4e8abccf8bf37e6eab7a62e0e3a626393043c48a96c4349a157a4799"
