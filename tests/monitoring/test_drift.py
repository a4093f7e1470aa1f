from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core.digests import canonical_json
from ml_platform.core.errors import NotEnoughData
from ml_platform.monitoring.drift import Limits, measure_drift
from ml_platform.profiles import WindowProfile, hashed_category
from ml_platform.profiles import psi as psi_of_rows
from tests.monitoring.drifting import CONTRACT, DIGEST, REFERENCE, rows, window


def drift(table, refused=None, critical=("term",), limits=None, **more):
    return measure_drift(REFERENCE, window(table, **more), CONTRACT, critical=critical, limits=limits, refused=refused)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1_000), st.integers(20, 800), st.floats(-3, 3), st.sampled_from([0.0, 0.2]))
def test_psi_is_that_of_the_rows_themselves(seed, n, shift, nulls):
    table = rows(n, seed, shift=shift, nulls=nulls)
    found = drift(table).psi
    assert found == pytest.approx(psi_of_rows(REFERENCE, table), rel=1e-12)


def test_js_and_kl_are_scipys():
    spatial = pytest.importorskip("scipy.spatial.distance")
    entropy = pytest.importorskip("scipy.stats").entropy
    table = rows(500, 3, shift=1.0)
    known, found = REFERENCE.fields["dti"], window(table).fields["dti"]
    shift = drift(table).field("dti").shift
    expected, actual = np.array(known.counts, float), np.array(found.counts, float)
    assert shift.js == pytest.approx(spatial.jensenshannon(expected, actual, base=2) ** 2)
    e, a = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (expected, actual))
    assert shift.kl == pytest.approx(entropy(a, e))


def test_an_unshifted_window_moves_nothing_and_a_shifted_one_moves_what_was_shifted():
    still = drift(rows(1_000, 5))
    assert not any(one.shift.moved for one in still.fields)
    assert not still.score.shift.moved
    moved = drift(rows(1_000, 5, shift=3.0))
    assert [one.name for one in moved.fields if one.shift.moved] == ["dti"]
    assert drift(rows(1_000, 5), score_shift=0.2).score.shift.moved


def test_a_psi_above_its_limit_within_its_noise_moves_nothing():
    one = next(found for seed in range(200) if (found := drift(rows(25, seed)).field("dti")).shift.psi > 0.2)
    assert one.shift.psi < one.shift.noise
    assert not one.shift.moved


def test_a_psi_above_its_noise_below_its_limit_moves_nothing():
    one = drift(rows(2_000, 5, shift=1.2)).field("dti")
    assert one.shift.psi > one.shift.noise
    limit = one.shift.psi
    assert not drift(rows(2_000, 5, shift=1.2), limits=Limits(psi=limit)).field("dti").shift.moved
    assert drift(rows(2_000, 5, shift=1.2), limits=Limits(psi=limit * 0.999)).field("dti").shift.moved


def test_a_category_that_the_version_never_saw_is_new_by_its_hashed_name():
    found = drift(rows(400, 1, terms=("36", "36", "36", "60"))).field("term")
    ((name, count),) = found.new
    assert name == hashed_category(DIGEST, "term", "60")
    assert count == found.new_rows > 50
    assert found.shift.moved
    assert found.shift.psi > 0.2
    assert drift(rows(400, 1)).field("term").new == ()


def test_a_few_new_rows_are_counted_though_they_are_not_named():
    table = pa.concat_tables([rows(400, 1), rows(9, 2, terms=("60",))])
    found = drift(table).field("term")
    assert (found.new, found.new_rows) == ((), 9)


def test_a_public_category_is_new_in_the_clear_and_one_that_is_gone_is_missing():
    found = drift(rows(400, 1, grades=("A", "B", "Z"))).field("grade")
    assert dict(found.new)["Z"] == found.new_rows
    assert found.missing == ("C",)
    assert drift(rows(8, 1, grades=("A", "B"))).field("grade").missing == ()  # eight rows may lack a third by chance


def test_a_null_rate_spike_is_large_and_beyond_noise():
    spiked = drift(rows(1_000, 1, nulls=0.1)).field("dti").nulls
    assert spiked.spike
    assert spiked.reference == 0
    assert spiked.change.low > 0
    assert spiked.effect == pytest.approx(2 * math.asin(math.sqrt(spiked.window)))
    assert not drift(rows(1_000, 1, nulls=0.005)).field("dti").nulls.spike  # beyond noise or not: it is small
    few = drift(rows(60, 1, nulls=0.1)).field("dti").nulls
    assert few.change.low > 0
    assert not few.spike  # six rows wake nobody


def test_nulls_that_the_contract_refused_count_as_nulls():
    assert drift(rows(1_000, 1), refused={"term:null": 200}).field("term").nulls.spike
    quiet = drift(rows(1_000, 1), refused={"term:unknown": 200}).field("term").nulls
    assert (quiet.spike, quiet.window) == (False, 0.0)


def test_fewer_nulls_than_before_are_no_spike():
    reference = type(REFERENCE).of(rows(2_000, nulls=0.5), [], inputs_digest=DIGEST)
    assert reference.fields == {}
    found = measure_drift(REFERENCE, window(rows(500, 2)), CONTRACT)
    assert not found.field("dti").nulls.spike


def test_mean_and_variance_are_told_in_units_of_the_reference():
    found = drift(rows(4_000, 2, shift=1.5, spread=2.0)).field("dti")
    assert found.mean_shift == pytest.approx(0.5, abs=0.1)
    assert found.variance_ratio == pytest.approx(4.0, rel=0.15)
    assert abs(found.mean_shift) > found.mean_shift_noise
    still = drift(rows(4_000, 2)).field("dti")
    assert abs(still.mean_shift) < still.mean_shift_noise


def test_schema_findings_are_missing_columns_and_refusals_for_their_shape():
    found = measure_drift(
        REFERENCE,
        WindowProfile.of(rows(50).drop_columns(["grade"]), REFERENCE),
        CONTRACT,
        refused={"dti:type": 4, "dti:range": 3},
    )
    assert [(one.field, one.rule, one.rows) for one in found.schema] == [("grade", "missing", 50), ("dti", "type", 4)]
    assert found.refused == {"dti:range": 3, "dti:type": 4}
    assert found.score.shift is None
    assert found.to_json()["score"]["shift"] is None
    assert drift(rows(50)).to_json()["score"]["shift"]["psi"] == drift(rows(50)).score.shift.psi


def test_decisions_are_told_as_shares_and_the_report_is_json():
    found = drift(rows(100), decisions={"approved": 75, "declined": 25})
    assert found.score.decisions == (("approved", 0.75), ("declined", 0.25))
    assert canonical_json(found.to_json()) == canonical_json(
        drift(rows(100), decisions={"approved": 75, "declined": 25}).to_json()
    )


def test_an_empty_window_is_refused():
    with pytest.raises(NotEnoughData, match="window"):
        drift(rows(0))


def test_a_spike_begins_at_its_effect_and_at_its_least_rows():
    table = rows(1_000, 1, nulls=0.1)
    found = drift(table).field("dti").nulls
    assert drift(table, limits=Limits(null_effect=found.effect)).field("dti").nulls.spike
    assert not drift(table, limits=Limits(null_effect=found.effect * 1.001)).field("dti").nulls.spike
    nulls = table.column("dti").null_count
    assert drift(table, limits=Limits(least_rows=nulls)).field("dti").nulls.spike
    assert not drift(table, limits=Limits(least_rows=nulls + 1)).field("dti").nulls.spike
