from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from assets.sources import applications, outcomes
from ml_platform import Platform
from ml_platform.core.errors import DataError, DuplicateKeys, NotFound, SchemaMismatch
from ml_platform.core.rows import micros
from ml_platform.lifecycle import land_source
from ml_platform.lifecycle.sources import read_source
from tests.lifecycle.conftest import AS_OF


def rewritten(market: Path, tmp_path: Path, change) -> Path:
    table = change(pq.read_table(market / "outcomes.parquet"))
    pq.write_table(table, tmp_path / "outcomes.parquet")
    return tmp_path / "outcomes.parquet"


def test_a_file_is_landed_once(empty: Platform, market: Path) -> None:
    first = land_source(empty, applications, market / "applications.parquet")
    again = land_source(empty, applications, market / "applications.parquet")
    assert (first.added, again.added) == (36_000, 0)
    assert again.table_version == first.table_version


def test_reading_sees_only_what_was_known(empty: Platform, market: Path) -> None:
    land_source(empty, outcomes, market / "outcomes.parquet")
    rows = read_source(empty, outcomes, known_until_us=micros(AS_OF))
    expected = pd.read_parquet(market / "outcomes.parquet")
    assert rows.num_rows == (expected["known_at"] <= AS_OF).sum() > 0


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda t: t.drop(["defaulted"]), SchemaMismatch, "missing defaulted"),
        (lambda t: t.append_column("note", t["loan_id"]), SchemaMismatch, "not declared note"),
        (
            lambda t: t.set_column(1, "defaulted", t["defaulted"].cast(pa.string())),
            SchemaMismatch,
            "defaulted.*string.*int64",
        ),
        (
            lambda t: t.set_column(2, "known_at", t["known_at"].cast(pa.timestamp("us"))),
            SchemaMismatch,
            "no time zone",
        ),
        (
            lambda t: pa.concat_tables(
                [t, t.slice(0, 1).set_column(1, "defaulted", pa.array([9], t["defaulted"].type))]
            ),
            DuplicateKeys,
            "differ",
        ),
        (lambda t: t.set_column(0, "loan_id", pa.nulls(t.num_rows, pa.int64())), DataError, "loan_id"),
    ],
)
def test_a_wrong_file_lands_nothing(empty: Platform, market: Path, tmp_path: Path, change, error, says: str) -> None:
    with pytest.raises(error, match=says):
        land_source(empty, outcomes, rewritten(market, tmp_path, change))
    assert not empty.lake.exists("sources/outcomes")


def test_reordered_columns_are_the_same_rows(empty: Platform, market: Path, tmp_path: Path) -> None:
    land_source(empty, outcomes, rewritten(market, tmp_path, lambda t: t.select(["known_at", "defaulted", "loan_id"])))
    stored = read_source(empty, outcomes, known_until_us=2**62).sort_by("loan_id")
    assert (
        stored["defaulted"].to_pylist()
        == pq.read_table(market / "outcomes.parquet").sort_by("loan_id")["defaulted"].to_pylist()
    )


def test_what_is_no_parquet_file_is_said(empty: Platform, tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(SchemaMismatch, match="Parquet"):
        land_source(empty, outcomes, tmp_path / "x.parquet")
    with pytest.raises(NotFound):
        land_source(empty, outcomes, tmp_path / "missing.parquet")


def test_a_csv_file_lands_as_its_declaration_says(empty: Platform, market: Path, tmp_path: Path) -> None:
    table = pq.read_table(market / "outcomes.parquet").slice(0, 500)
    csv.write_csv(table, tmp_path / "outcomes.csv")
    assert land_source(empty, outcomes, tmp_path / "outcomes.csv").added == 500
    read = read_source(empty, outcomes, known_until_us=2**60)
    assert (
        read.sort_by("loan_id").to_pylist()
        == outcomes.conform(table).select(read.column_names).sort_by("loan_id").to_pylist()
    )


@pytest.mark.parametrize(
    "text", ["loan_id,defaulted,known_at\nSECRET,0,2010-01-01T00:00:00Z\n", "loan_id;defaulted\n1;0\n"]
)
def test_a_csv_file_of_other_types_or_columns_is_refused_without_its_values(
    empty: Platform, tmp_path: Path, text: str
) -> None:
    (tmp_path / "outcomes.csv").write_text(text)
    with pytest.raises(SchemaMismatch) as caught:
        land_source(empty, outcomes, tmp_path / "outcomes.csv")
    assert "SECRET" not in str(caught.value)
