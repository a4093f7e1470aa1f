from __future__ import annotations

import sys
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from ml_platform.core.errors import DataError
from ml_platform.core.fields import category, number
from ml_platform.profiles import ReferenceProfile, profile_window
from ml_platform.profiles import whylogs as sketching
from ml_platform.profiles.whylogs import Sketches
from tests.conftest import missing

if sketching.why_absent():
    missing("whylogs is not installed (extra: profiles)")

AT = datetime(2010, 5, 1, tzinfo=UTC)
FIELDS = [number("dti", nullable=True), category("purpose"), category("grade", public=True)]
SECRET = "Ann Doe, 12 Elm Street"


def rows(n=5_000, seed=0):
    random = np.random.default_rng(seed)
    return pa.table(
        {
            "dti": pa.array(random.normal(10, 3, n).astype(np.float32), mask=random.random(n) < 0.1),
            "purpose": pa.array(np.where(random.random(n) < 0.3, SECRET, "sailing boat")),
            "grade": pa.array(random.choice(["A", "B"], n)),
        }
    )


REFERENCE = ReferenceProfile.of(rows(), FIELDS, inputs_digest="sha256:" + "00" * 32, scores=np.linspace(0, 1, 5_000))


def profiled(table):
    return profile_window(table, REFERENCE, AT, scores=np.linspace(0, 1, table.num_rows, dtype=np.float32))


def test_sketches_of_days_merge_to_about_the_week_and_counts_are_exact():
    week = rows(7_000, seed=3)
    days = [profiled(week.slice(day * 1_000, 1_000)) for day in range(7)]
    merged = days[0].sketches
    for day in days[1:]:
        merged = merged + day.sketches
    whole, found = profiled(week), merged.summary()
    known = whole.sketches.summary()
    exact = whole.exact.fields["dti"]
    assert found["dti"]["counts/n"] == known["dti"]["counts/n"] == exact.rows == 7_000
    assert found["dti"]["counts/null"] == exact.nulls
    assert found["dti"]["distribution/n"] == exact.values
    assert found["dti"]["distribution/mean"] == pytest.approx(exact.moments.mean)
    assert found["dti"]["distribution/stddev"] == pytest.approx(exact.moments.variance**0.5)
    values = np.sort(week.column("dti").drop_null().to_numpy())
    for name, q in (("q_10", 0.1), ("median", 0.5), ("q_90", 0.9)):
        rank = np.searchsorted(values, found["dti"][f"distribution/{name}"]) / len(values)
        assert rank == pytest.approx(q, abs=0.02)
    items = {item.value: item.est for item in found["grade"]["frequent_items/frequent_strings"]}
    assert items == dict(whole.exact.fields["grade"].counts)


def test_it_says_what_whylogs_own_logger_says():
    import whylogs

    table = rows()
    logged = whylogs.log(table.to_pandas()).view()
    found = profiled(table).sketches.summary()
    for name, figures in (
        ("dti", ("counts/n", "types/fractional", "distribution/n", "distribution/min", "distribution/max")),
        ("grade", ("counts/n", "types/string")),
    ):
        theirs = logged.get_column(name).to_summary_dict()
        for figure in figures:
            assert found[name][figure] == theirs[figure], (name, figure)
    assert found["dti"]["cardinality/est"] == pytest.approx(
        logged.get_column("dti").to_summary_dict()["cardinality/est"], rel=0.01
    )
    assert found["purpose"]["cardinality/est"] == pytest.approx(2, abs=0.01)


def test_no_raw_text_of_a_personal_field_is_in_the_file_and_a_public_one_is():
    raw = profiled(rows()).sketches.to_bytes()
    assert b"Elm Street" not in raw
    assert b"sailing boat" not in raw
    names = {item.value for item in Sketches.read(raw).summary()["purpose"]["frequent_items/frequent_strings"]}
    assert all(len(name) == 32 for name in names)
    public = {item.value for item in Sketches.read(raw).summary()["grade"]["frequent_items/frequent_strings"]}
    assert public == {"A", "B"}


def test_the_file_is_whylogs_own_and_is_read_back(tmp_path):
    from whylogs.core.view.dataset_profile_view import DatasetProfileView

    found = profiled(rows()).sketches
    path = tmp_path / "profile.bin"
    path.write_bytes(found.to_bytes())
    assert set(DatasetProfileView.read(str(path)).get_columns()) == {"dti", "purpose", "grade", "output.score"}
    assert Sketches.read(found.to_bytes()).summary()["dti"]["counts/n"] == 5_000
    with pytest.raises(DataError, match="whylogs"):
        Sketches.read(b"this is no profile of anybody")


def test_a_column_of_nine_values_is_counted_and_not_sketched():
    few = pa.table(
        {
            "dti": pa.array([1.0] * 9 + [None] * 5, pa.float32()),
            "purpose": pa.array(["sailing boat"] * 14),
            "grade": pa.array(["A"] * 14),
        }
    )
    found = profiled(few).sketches.summary()["dti"]
    assert (found["counts/n"], found["counts/null"], found["distribution/n"]) == (14, 5, 0)


def test_without_whylogs_the_exact_profile_stands_and_the_absence_has_its_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "whylogs", None)
    monkeypatch.setitem(sys.modules, "whylogs.core", None)
    found = profiled(rows())
    assert found.sketches is None
    assert "whylogs" in found.absent
    assert found.exact.rows == 5_000
