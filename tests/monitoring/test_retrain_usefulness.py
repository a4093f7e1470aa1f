"""From when on a training can help: counted from rows that are here, on real loans too."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core.contract import ResolvedField
from ml_platform.core.durations import Duration
from ml_platform.core.rows import micros
from ml_platform.datasets import TimeSplit
from ml_platform.monitoring.retrain import Retraining
from ml_platform.monitoring.usefulness import BaseRate, RowTimes, Usefulness, meanwhile, usefulness

YEAR, NO_LAG = Duration.parse("12mo"), Duration.parse("0d")
FIRST = datetime(2010, 1, 1, tzinfo=UTC)
SPLIT = TimeSplit(test=0.3)


def rows(days: list[int], drifted: list[bool], lag: str = "0d") -> RowTimes:
    starts = [micros(FIRST + timedelta(days=day)) for day in days]
    return RowTimes(np.array(starts, np.int64), np.array(drifted, np.bool_), YEAR, Duration.parse(lag))


def slow_usefulness(times: RowTimes, needed: int) -> datetime | None:
    """The first maturity at which enough are mature, one row after the other."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    starts = [
        epoch + timedelta(microseconds=int(us))
        for us, one in zip(times.starts_us, times.drifted, strict=True) if one
    ]  # fmt: skip
    matured = [times.lag.after(times.horizon.after(start)) for start in starts]
    return next((at for at in sorted(matured) if sum(other <= at for other in matured) >= needed), None)


@settings(deadline=None)
@given(
    found=st.lists(st.tuples(st.integers(0, 400), st.booleans()), min_size=1, max_size=40),
    needed=st.integers(1, 12),
    lag=st.sampled_from(["0d", "30d", "1mo"]),
)
def test_the_date_is_that_of_counting_one_by_one(found: list[tuple[int, bool]], needed: int, lag: str) -> None:
    times = rows([day for day, _ in found], [one for _, one in found], lag)
    made = usefulness(times, Retraining(min_rows=needed), SPLIT, FIRST + timedelta(days=400), None)
    assert made.useful_from == slow_usefulness(times, needed)
    if made.useful_from is not None:
        assert made.mature_then >= needed
        assert 0 <= made.trained_on_then <= made.mature_then
        assert made.learned_from is None or made.learned_from >= made.useful_from


@settings(deadline=None, max_examples=50)
@given(found=st.lists(st.tuples(st.integers(0, 400), st.booleans()), min_size=3, max_size=40), needed=st.integers(1, 6))
def test_the_training_part_is_what_the_split_makes_of_the_rows_mature_then(
    found: list[tuple[int, bool]], needed: int
) -> None:
    times = rows([day for day, _ in found], [one for _, one in found])
    made = usefulness(times, Retraining(min_rows=needed), SPLIT, FIRST + timedelta(days=400), None)
    instants = sorted(set(times.matured_us.tolist()))
    taught = []
    for at in instants:
        mature = times.matured_us <= at
        starts = times.starts_us[mature]
        cut = np.sort(starts)[len(starts) - math.ceil(0.3 * len(starts) - 1e-9)]
        taught.append(int(np.count_nonzero((starts < cut) & times.drifted[mature])))
    if made.useful_from is None:
        return
    assert made.trained_on_then == taught[instants.index(micros(made.useful_from))]
    enough = [at for at, count in zip(instants, taught, strict=True) if count >= needed]
    assert (None if made.learned_from is None else micros(made.learned_from)) == (enough[0] if enough else None)


def test_enough_rows_are_those_in_which_twenty_events_are_to_be_expected() -> None:
    times = rows([0] * 100, [True] * 100)
    assert usefulness(times, Retraining(min_rows=10), SPLIT, FIRST, BaseRate(98, 398)).needed == 81
    assert usefulness(times, Retraining(min_rows=10), SPLIT, FIRST, BaseRate(199, 399)).needed == 41
    assert usefulness(times, Retraining(min_rows=90), SPLIT, FIRST, BaseRate(199, 399)).needed == 90
    assert usefulness(times, Retraining(min_rows=90), SPLIT, FIRST, None).needed == 90


def test_a_model_without_any_event_so_far_still_gets_a_date() -> None:
    assert BaseRate(0, 998).estimate == pytest.approx(0.001)
    assert BaseRate(0, 0).estimate == 0.5


def test_too_few_rows_give_no_date_but_an_estimate() -> None:
    times = rows([0, 10, 20, 30], [True] * 4)
    made = usefulness(times, Retraining(min_rows=8), SPLIT, FIRST + timedelta(days=40), None)
    assert (made.useful_from, made.rows, made.needed) == (None, 4, 8)
    assert made.projected_from == datetime(2011, 3, 22, tzinfo=UTC)  # one in ten days: the eighth after 80, a year on
    assert not made.is_useful(FIRST + timedelta(days=4000))


def test_no_row_at_all_gives_not_even_an_estimate() -> None:
    made = usefulness(rows([0], [False]), Retraining(min_rows=8), SPLIT, FIRST, None)
    assert (made.useful_from, made.projected_from, made.rows) == (None, None, 0)


def test_a_request_becomes_useful_at_the_instant_itself() -> None:
    made = usefulness(rows([0, 0], [True, True]), Retraining(min_rows=2), SPLIT, FIRST, None)
    due = datetime(2011, 1, 1, tzinfo=UTC)
    assert made.useful_from == due
    assert (made.is_useful(due), made.is_useful(due - timedelta(microseconds=1))) == (True, False)


def test_a_request_about_no_population_is_useful_at_once() -> None:
    assert Usefulness.at_once().is_useful(FIRST)


def real_loans(folder: Path, now: datetime) -> tuple[RowTimes, BaseRate]:
    table = pq.read_table(folder / "applications.parquet", columns=["loan_id", "applied_at", "term"])
    table = table.join(pq.read_table(folder / "outcomes.parquet"), "loan_id")
    table = table.filter(pc.field("applied_at") <= now)
    starts, known = (
        table.column(name).cast(pa.timestamp("us", "UTC")).cast(pa.int64()).fill_null(2**62).to_numpy()
        for name in ("applied_at", "known_at")
    )
    times = RowTimes(starts, table.column("term").to_numpy() == 60, YEAR, NO_LAG)
    mature = times.matured_us <= micros(now)
    bad = mature & (table.column("defaulted").to_numpy() == 1) & (known <= times.matured_us)
    return times, BaseRate(int(bad.sum()), int(mature.sum()))


@pytest.mark.parametrize("now", [datetime(2010, 6, 1, tzinfo=UTC), datetime(2010, 7, 1, tzinfo=UTC)])
def test_a_retrain_for_the_sixty_month_loans_is_useful_from_june_2011(lending_club: Path, now: datetime) -> None:
    times, rate = real_loans(lending_club, now)
    made = usefulness(times, Retraining(), SPLIT, now, rate)
    assert 182 < made.needed <= 648  # the loans of May alone are too few, those of May and June enough
    assert made.useful_from == datetime(2011, 6, 1, tzinfo=UTC)
    assert (made.mature, made.mature_then) == (0, 648)


def test_before_the_loans_of_june_are_known_there_is_no_date(lending_club: Path) -> None:
    times, rate = real_loans(lending_club, datetime(2010, 5, 31, tzinfo=UTC))
    made = usefulness(times, Retraining(), SPLIT, datetime(2010, 5, 31, tzinfo=UTC), rate)
    assert (made.rows, made.useful_from) == (182, None)
    assert made.projected_from is not None


def test_the_declared_split_measures_the_sixty_month_loans_months_before_it_learns_from_them(
    lending_club: Path,
) -> None:
    """The newest 30 % of the mature rows are the test: in June and July 2011 all mature loans of the kind are in it."""
    now = datetime(2011, 7, 1, tzinfo=UTC)
    times, rate = real_loans(lending_club, now)
    made = usefulness(times, Retraining(), SPLIT, now, rate)
    assert (made.mature, made.mature_then, made.trained_on_then) == (1067, 1067, 0)
    assert made.learned_from == datetime(2012, 1, 1, tzinfo=UTC)
    smaller = usefulness(times, Retraining(), TimeSplit(test=0.15), now, rate)
    assert smaller.learned_from == datetime(2011, 10, 1, tzinfo=UTC)


def field(**how: object) -> ResolvedField:
    return ResolvedField("term", "v@d:term", "input", "category", "int64", **how)  # type: ignore[arg-type]


def test_what_to_do_meanwhile_follows_from_the_declared_policy() -> None:
    assert meanwhile(field(), unknown=True).action == "refuse"
    flagged = meanwhile(field(on_unknown="flag"), unknown=True)
    assert (flagged.action, "as missing" in flagged.text) == ("flag", True)
    default = meanwhile(field(on_unknown="default", default="36"), unknown=True)
    assert (default.action, "declared default" in default.text) == ("flag", True)
    assert meanwhile(field(on_unknown="flag"), unknown=False).action == "person"
    assert meanwhile(None, unknown=False).action == "person"
