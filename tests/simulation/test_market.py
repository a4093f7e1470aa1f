"""The simulated market resembles the published loans, keeps its promises about time, and says its truth."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ml_platform.core.errors import DeclarationError, StorageFailed
from ml_platform.simulation import PROXY_STATES, Drift, LendingMarket, MarketTables

NAMES = ("applications", "outcomes", "restricted_applicants", "truth")


@pytest.fixture(scope="module")
def market() -> MarketTables:
    return LendingMarket().generate()


def months(column: pa.ChunkedArray) -> np.ndarray:
    return column.cast(pa.timestamp("us")).to_numpy().astype("datetime64[M]")


def defaulted_within_12_months(tables: MarketTables) -> np.ndarray:
    """The label of every loan, in the order of the applications, by the plain definition."""
    outcomes = tables.outcomes.sort_by("loan_id")
    horizon = (months(tables.applications["applied_at"]) + 12).astype("datetime64[us]")
    known = outcomes["known_at"].cast(pa.timestamp("us")).to_numpy()
    return (outcomes["defaulted"].to_numpy() == 1) & (known <= horizon)


def approval_ratio(tables: MarketTables, penalty: float, rows: slice = slice(None)) -> float:
    """Group b's approval rate over group a's, for the truth as score, declined above 0.06."""
    states = np.array(tables.applications["addr_state"].to_pylist())[rows]
    group = np.array(tables.restricted_applicants["applicant_group"].to_pylist())[rows]
    score = tables.truth["default_12mo_probability"].to_numpy()[rows] + penalty * np.isin(states, list(PROXY_STATES))
    rate = {name: (score[group == name] <= 0.06).mean() for name in ("a", "b")}
    return float(min(rate.values()) / max(rate.values()))


def test_tables_have_the_published_columns_types_and_number_of_rows(market: MarketTables, lending_club: Path) -> None:
    for name in ("applications", "outcomes"):
        published = pq.read_table(lending_club / f"{name}.parquet")
        simulated = getattr(market, name)
        assert simulated.schema.equals(published.schema.remove_metadata())
        assert simulated.num_rows == published.num_rows


def test_nulls_and_numbers_look_like_the_published_ones(market: MarketTables, lending_club: Path) -> None:
    published = pq.read_table(lending_club / "applications.parquet")
    for name in published.column_names:
        ours, theirs = market.applications[name], published[name]
        assert (ours.null_count > 0) == (theirs.null_count > 0), name
        assert ours.null_count == pytest.approx(theirs.null_count, rel=0.3, abs=10), name
        if pa.types.is_floating(theirs.type) or pa.types.is_integer(theirs.type):
            spread = pc.stddev(theirs).as_py()
            assert abs(pc.mean(ours).as_py() - pc.mean(theirs).as_py()) < 0.15 * spread, name
        if pa.types.is_string(theirs.type):
            assert set(ours.unique().to_pylist()) <= set(theirs.unique().to_pylist()), name


def test_volume_grows_month_by_month_as_the_published_one(market: MarketTables, lending_club: Path) -> None:
    published = pq.read_table(lending_club / "applications.parquet", columns=["applied_at"])
    theirs = np.unique(months(published["applied_at"]), return_counts=True)
    ours = np.unique(months(market.applications["applied_at"]), return_counts=True)
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_array_equal(ours[1], theirs[1])


def test_equal_fields_give_equal_tables_and_another_seed_gives_others() -> None:
    first, again, other = (LendingMarket(seed=s, loans=500).generate() for s in (11, 11, 12))
    for name in NAMES:
        assert getattr(first, name).equals(getattr(again, name))
        assert not getattr(first, name).equals(getattr(other, name))


def test_the_market_of_today_is_the_market_of_yesterday() -> None:
    """A change here changes every number that the demo prints: it must be meant."""
    tables = LendingMarket(loans=2_000).generate()
    digest = hashlib.sha256()
    for name in NAMES:
        for column in getattr(tables, name).itercolumns():
            plain = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
            digest.update(repr(plain.to_pylist()).encode())
    assert digest.hexdigest() == "4efe07103bfce2e6a74d5c9f465f725455edff0341b9fd88257d03fa827e7259"


def test_keys_are_unique_and_every_table_has_every_loan(market: MarketTables) -> None:
    for name in NAMES:
        np.testing.assert_array_equal(np.sort(getattr(market, name)["loan_id"].to_numpy()), np.arange(1, 42_536))


def test_no_label_is_known_before_its_application() -> None:
    tables = LendingMarket(late_outcomes=0.2, corrected_outcomes=0.2).generate()
    applied = tables.applications["applied_at"].cast(pa.int64()).to_numpy()
    known = tables.outcomes["known_at"].cast(pa.int64()).to_numpy()
    assert (known > applied[tables.outcomes["loan_id"].to_numpy() - 1]).all()


def test_a_default_is_known_150_days_after_the_last_payments_month_and_a_repayment_at_its_end(
    market: MarketTables,
) -> None:
    known = market.outcomes["known_at"].cast(pa.timestamp("us")).to_numpy().astype("datetime64[D]")
    month_end = np.where(market.outcomes["defaulted"].to_numpy() == 1, known - 150, known)
    np.testing.assert_array_equal(month_end, month_end.astype("datetime64[M]").astype("datetime64[D]"))


def test_the_first_60_month_loans_are_of_may_2010_and_two_in_five_by_august(market: MarketTables) -> None:
    month = months(market.applications["applied_at"])
    long_term = market.applications["term"].to_numpy() == 60
    assert set(np.unique(market.applications["term"].to_numpy())) == {36, 60}
    assert month[long_term].min() == np.datetime64("2010-05")
    assert 0.10 < long_term[month == np.datetime64("2010-05")].mean() < 0.25
    assert 0.35 < long_term[month == np.datetime64("2010-08")].mean() < 0.45


@pytest.mark.parametrize(
    ("as_of", "mature", "low", "high"), [("2010-01", 3265, 105, 155), ("2011-07", 14659, 440, 620)]
)
def test_mature_loans_and_their_defaults_are_as_many_as_stated(
    market: MarketTables, as_of: str, mature: int, low: int, high: int
) -> None:
    seen = months(market.applications["applied_at"]) + 12 <= np.datetime64(as_of)
    assert seen.sum() == mature
    assert low <= defaulted_within_12_months(market)[seen].sum() <= high


def test_in_the_end_15_percent_default_and_more_of_the_long_loans(market: MarketTables) -> None:
    defaulted = market.outcomes.sort_by("loan_id")["defaulted"].to_numpy()
    long_term = market.applications["term"].to_numpy() == 60
    assert 0.14 < defaulted.mean() < 0.165
    assert defaulted[long_term].mean() > 1.5 * defaulted[~long_term].mean()


def test_what_is_known_early_is_far_worse_than_the_truth(market: MarketTables) -> None:
    at = pa.scalar(datetime(2010, 1, 1, tzinfo=UTC), pa.timestamp("us", tz="UTC"))
    known = market.outcomes.filter(pc.less_equal(market.outcomes["known_at"], at))
    eventually = market.outcomes.filter(pc.is_in(market.outcomes["loan_id"], pa.array(np.arange(1, 7_000))))
    naive, true = (np.mean(t["defaulted"].to_numpy()) for t in (known, eventually))
    assert naive > 1.4 * true


def test_outcomes_follow_the_stated_probabilities(market: MarketTables) -> None:
    soon = market.truth["default_12mo_probability"].to_numpy()
    ever = market.truth["default_probability"].to_numpy()
    assert (soon > 0).all()
    assert (soon <= ever).all()
    assert (ever < 1).all()
    label = defaulted_within_12_months(market)
    defaulted = market.outcomes.sort_by("loan_id")["defaulted"].to_numpy()
    for probability, happened in ((soon, label), (ever, defaulted)):
        for part in np.array_split(np.argsort(probability, kind="stable"), 10):
            error = np.sqrt(np.sum(probability[part] * (1 - probability[part]))) / len(part)
            assert abs(happened[part].mean() - probability[part].mean()) < 4 * error


def test_the_groups_are_approved_alike_until_someone_declines_by_state(market: MarketTables) -> None:
    newest_mature = slice(2255, 3265)  # what a test part of 2010-01-01 holds
    for rows in (slice(None), newest_mature):
        assert approval_ratio(market, 0.0, rows) > 0.9
        assert approval_ratio(market, 0.04, rows) < 0.7


def test_states_tell_the_group_but_nothing_about_default(market: MarketTables) -> None:
    states = np.array(market.applications["addr_state"].to_pylist())
    proxy = np.isin(states, list(PROXY_STATES))
    group_b = np.array(market.restricted_applicants["applicant_group"].to_pylist()) == "b"
    assert group_b[proxy].mean() > 0.8
    assert group_b[~proxy].mean() < 0.1
    assert 0.27 < group_b.mean() < 0.35
    for truth in ("default_12mo_probability", "default_probability"):
        p = market.truth[truth].to_numpy()
        assert abs(p[proxy].mean() - p[~proxy].mean()) < 4 * p.std() / np.sqrt(proxy.sum())


def test_a_recent_delinquency_shows_in_both_of_its_columns(market: MarketTables) -> None:
    later = market.applications.slice(2_000)  # the first loans were published with 0 for "never"
    since = later["mths_since_last_delinq"].to_numpy(zero_copy_only=False)
    np.testing.assert_array_equal(later["delinq_2yrs"].to_numpy() > 0, since < 24)


def test_a_drift_moves_debt_and_risk_from_its_day_on_and_leaves_earlier_loans_alone(market: MarketTables) -> None:
    drifted = LendingMarket(drift=Drift(starts=date(2010, 9, 1), strength=0.5)).generate()
    before = int((months(market.applications["applied_at"]) < np.datetime64("2010-09")).sum())
    for name in ("applications", "restricted_applicants", "truth"):
        assert getattr(drifted, name).slice(0, before).equals(getattr(market, name).slice(0, before))
    for column in ("dti", "revol_util"):
        was, now = (pc.mean(t.applications[column].slice(before)).as_py() for t in (market, drifted))
        assert now > was + 0.3 * pc.stddev(market.applications[column]).as_py()
    was, now = (t.truth["default_12mo_probability"].slice(before).to_numpy() for t in (market, drifted))
    assert now.mean() > 1.2 * was.mean()
    first_day = (months(market.applications["applied_at"]) == np.datetime64("2010-09"))[before:]
    assert (now[first_day] > was[first_day]).mean() > 0.95
    assert drifted.applications["loan_amnt"].equals(market.applications["loan_amnt"])


def test_late_outcomes_come_90_days_later_and_change_nothing_else() -> None:
    plain, late = LendingMarket(loans=2_000).generate(), LendingMarket(loans=2_000, late_outcomes=0.25).generate()
    assert late.applications.equals(plain.applications)
    a, b = (t.outcomes.sort_by("loan_id") for t in (plain, late))
    assert a["defaulted"].equals(b["defaulted"])
    days = (b["known_at"].cast(pa.int64()).to_numpy() - a["known_at"].cast(pa.int64()).to_numpy()) / 86_400e6
    assert set(days) == {0.0, 90.0}
    assert 0.2 < (days == 90).mean() < 0.3


def test_corrected_outcomes_are_wrong_first_and_right_60_days_later() -> None:
    plain = LendingMarket(loans=2_000).generate().outcomes.to_pandas().set_index("loan_id")
    rows = LendingMarket(loans=2_000, corrected_outcomes=0.1).generate().outcomes.to_pandas()
    assert 150 < len(rows) - 2_000 < 250
    for loan, versions in rows.groupby("loan_id"):
        true = plain.loc[loan]
        assert versions["defaulted"].iloc[-1] == true["defaulted"]
        assert versions["known_at"].iloc[0] == true["known_at"]
        if len(versions) == 2:
            assert versions["defaulted"].iloc[0] == 1 - true["defaulted"]
            assert (versions["known_at"].iloc[1] - versions["known_at"].iloc[0]).days == 60


def test_duplicate_applications_arrive_word_for_word() -> None:
    plain = LendingMarket(loans=2_000).generate().applications
    twice = LendingMarket(loans=2_000, duplicate_applications=0.1).generate().applications
    assert 150 < twice.num_rows - 2_000 < 250
    ids = twice["loan_id"].to_numpy()
    assert twice.take(np.unique(ids, return_index=True)[1]).equals(plain)
    assert twice.take(pa.array(ids.size - 1 - np.unique(ids[::-1], return_index=True)[1])).equals(plain)


@pytest.mark.parametrize(
    "fields",
    [
        {"loans": 0},
        {"seed": -1},
        {"late_outcomes": 1.01},
        {"corrected_outcomes": -0.01},
        {"duplicate_applications": float("nan")},
    ],
)
def test_an_impossible_market_is_refused_and_names_its_field(fields: dict[str, float]) -> None:
    with pytest.raises(DeclarationError) as refused:
        LendingMarket(**fields)
    assert refused.value.field == next(iter(fields))


def test_the_smallest_market_and_the_fullest_faults_are_allowed() -> None:
    tables = LendingMarket(
        loans=1, seed=0, late_outcomes=1.0, corrected_outcomes=1.0, duplicate_applications=1.0
    ).generate()
    assert [getattr(tables, name).num_rows for name in NAMES] == [2, 2, 1, 1]


def test_write_leaves_three_whole_files_and_never_the_truth(tmp_path: Path) -> None:
    market = LendingMarket(loans=300)
    market.write(tmp_path / "new" / "folder")
    market.write(tmp_path / "new" / "folder")
    files = {path.name: path for path in (tmp_path / "new" / "folder").iterdir()}
    assert sorted(files) == ["applications.parquet", "outcomes.parquet", "restricted_applicants.parquet"]
    tables = market.generate()
    for name, path in files.items():
        assert pq.read_table(path).equals(getattr(tables, name.removesuffix(".parquet")))


def test_a_folder_that_cannot_be_made_is_a_storage_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageFailed):
        LendingMarket(loans=10).write(tmp_path / "file")
