from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta
from functools import cache

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core.errors import DataError, LabelError, SchemaMismatch
from ml_platform.datasets.labels import Label
from ml_platform.datasets.maturity import label_rows
from ml_platform.features import Source
from ml_platform.features.sql import rename_tables
from tests.datasets.loans import (
    application,
    at,
    defaulted,
    outcomes_source,
    real_label,
    real_tables,
    requests_source,
    table_of,
)

HOUR = timedelta(hours=1)
START = datetime(2011, 1, 29, 22, tzinfo=UTC)
# Few instants, an hour, a day and a month apart, so that ties, month ends and exact borders are common.
instants = st.builds(
    lambda months, days, hours: START + timedelta(days=days + 30 * months, hours=hours),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 2),
)


def months_after(moment, months):
    index = moment.month - 1 + months
    year, month = moment.year + index // 12, index % 12 + 1
    return moment.replace(year=year, month=month, day=min(moment.day, calendar.monthrange(year, month)[1]))


@st.composite
def deliveries(draw):
    """Requests with corrections, withdrawals, duplicates and several requests a subject."""
    rows = []
    for _ in range(draw(st.integers(1, 6))):
        applied = draw(instants)
        rows.append(
            {
                "loan_id": draw(st.integers(1, 2)),
                "applied_at": applied,
                "received_at": applied + draw(st.sampled_from([0, 0, 1, 24, 24 * 40])) * HOUR,
                "revision": draw(st.integers(0, 1)),
                "withdrawn": draw(st.sampled_from([None, False, False, False, True])),
                "purpose": draw(st.sampled_from(["car", "house"])),
                "amount": 1.0,
            }
        )
    return unique(rows, ("loan_id", "applied_at", "received_at", "revision"))


@st.composite
def reports(draw):
    """Outcomes that are corrected, withdrawn, tied, null; known early, late, exactly at maturity."""
    rows = []
    for _ in range(draw(st.integers(0, 8))):
        happened = draw(instants)
        rows.append(
            {
                "loan_id": draw(st.integers(1, 3)),
                "happened_at": happened,
                "known_at": draw(st.one_of(st.just(happened), instants.map(lambda moment: moment + 33 * 24 * HOUR))),
                "revision": draw(st.integers(0, 1)),
                "withdrawn": draw(st.sampled_from([None, False, False, True])),
                "defaulted": draw(st.sampled_from([None, 0, 1, 1, 2])),
                "loss": draw(st.sampled_from([None, 0.0, 2.5])),
                "closed": draw(st.sampled_from([None, False, True])),
            }
        )
    return unique(rows, ("loan_id", "happened_at", "known_at", "revision"))


def unique(rows, identity):
    return list({tuple(row[name] for name in identity): row for row in rows}.values())


def last(rows, *names):
    return max(rows, key=lambda row: tuple(row[name] for name in names))


def standing_request(versions):
    """The delivery of one request that counts, of those that are visible; None if it was withdrawn."""
    if not versions or last(versions, "received_at", "revision")["withdrawn"]:
        return None
    live = [row for row in versions if not row["withdrawn"]]
    until = max(live[0]["applied_at"], min(row["received_at"] for row in live))
    return last([row for row in live if row["received_at"] <= until], "received_at", "revision")


def outcome_at(outcomes, request, maturity):
    """The obvious reference: the last event of the subject that stands at maturity; None if there is none."""
    mine = [
        row
        for row in outcomes
        if row["loan_id"] == request["loan_id"] and request["applied_at"] <= row["known_at"] <= maturity
    ]
    facts = [
        last([row for row in mine if row["happened_at"] == event], "known_at", "revision")
        for event in {row["happened_at"] for row in mine}
    ]
    facts = [fact for fact in facts if not fact["withdrawn"]]
    return last(facts, "happened_at") if facts else None


def groups(rows):
    return {(row["loan_id"], row["applied_at"]) for row in rows}


def brute_force(rows, outcomes, as_of, mature_at, column):
    """(mature rows, left out, outcomes known too early)."""
    visible = [row for row in rows if row["received_at"] <= as_of]
    requests = [
        standing
        for key in groups(visible)
        if (standing := standing_request([row for row in visible if (row["loan_id"], row["applied_at"]) == key]))
    ]
    known = [row for row in outcomes if row["known_at"] <= as_of]
    early = 0
    for row in known:
        starts = [request["applied_at"] for request in requests if request["loan_id"] == row["loan_id"]]
        early += bool(starts) and row["known_at"] < min(starts)
    mature, left_out = [], []
    for request in sorted(requests, key=lambda row: (row["applied_at"], row["loan_id"])):
        maturity = mature_at(request["applied_at"])
        if maturity <= as_of:
            fact = outcome_at(known, request, maturity)
            mature.append({**request, column: None if fact is None else fact[column], "matured_at": maturity})
        else:
            left_out.append((request["loan_id"], request["applied_at"], "immature"))
    return mature, left_out, early


DECLARED = [
    ("1mo", "0d", lambda moment: months_after(moment, 1)),
    ("1mo", "24h", lambda moment: months_after(moment, 1) + 24 * HOUR),
    ("33d", "0d", lambda moment: moment + 33 * 24 * HOUR),
    ("2h", "1mo", lambda moment: months_after(moment + 2 * HOUR, 1)),
]
declared_label = cache(defaulted)
as_ofs = st.one_of(instants.map(lambda moment: moment + timedelta(days=31)), instants, st.just(at("2012-01-01")))


@settings(max_examples=200, deadline=None)
@given(deliveries(), reports(), as_ofs, st.sampled_from(DECLARED), st.sampled_from(["defaulted", "closed"]))
def test_events_agree_with_brute_force(rows, outcomes, as_of, declared, column):
    horizon, lag, mature_at = declared
    label = declared_label(horizon=horizon, lag=lag, column=column)
    mature, left_out, early = brute_force(rows, outcomes, as_of, mature_at, column)
    tables = table_of(label.rows.source, rows), table_of(label.outcome, outcomes)
    if early:
        with pytest.raises(LabelError, match=rf"^known_at: {early} outcome rows"):
            label_rows(label, *tables, as_of)
        return
    result = label_rows(label, *tables, as_of)
    assert result.mature.to_pylist() == [{**row, column: int(bool(row[column]))} for row in mature]
    assert [tuple(row.values()) for row in result.left_out.to_pylist()] == left_out


@settings(max_examples=100, deadline=None)
@given(deliveries(), reports(), as_ofs, st.sampled_from(DECLARED))
def test_values_agree_with_brute_force_and_unknown_ones_are_counted(rows, outcomes, as_of, declared):
    horizon, lag, mature_at = declared
    label = declared_label(horizon=horizon, lag=lag, column="loss", kind="value")
    mature, _, early = brute_force(rows, outcomes, as_of, mature_at, "loss")
    tables = table_of(label.rows.source, rows), table_of(label.outcome, outcomes)
    unknown = sum(row["loss"] is None for row in mature)
    if early or unknown:
        said = f"{early} outcome rows" if early else f"value of {unknown} of {len(mature)} mature rows"
        with pytest.raises(LabelError, match=said):
            label_rows(label, *tables, as_of)
        return
    assert label_rows(label, *tables, as_of).mature.to_pylist() == mature


@settings(max_examples=60, deadline=None)
@given(deliveries(), reports(), st.sampled_from(DECLARED), st.sampled_from(["UTC", "Pacific/Auckland"]))
def test_the_matured_source_has_each_row_as_of_its_own_maturity(rows, outcomes, declared, zone):
    horizon, lag, mature_at = declared
    label = declared_label(horizon=horizon, lag=lag)
    expected = []
    for key in groups(rows):
        maturity = mature_at(key[1])
        versions = [
            row for row in rows if (row["loan_id"], row["applied_at"]) == key and row["received_at"] <= maturity
        ]
        request = standing_request(versions)
        if request is not None:
            fact = outcome_at(outcomes, request, maturity)
            kept = {name: request[name] for name in ("loan_id", "applied_at", "received_at", "revision", "purpose")}
            event = int(bool(fact and fact["defaulted"]))
            expected.append({**kept, "defaulted": event, "matured_at": maturity})
    tables = {
        label.rows.source.name: table_of(label.rows.source, rows),
        label.outcome.name: table_of(label.outcome, outcomes),
    }
    found = run_sql(label.matured, tables, zone)
    assert sorted(found.to_pylist(), key=str) == sorted(expected, key=str)


@pytest.mark.parametrize(
    ("requests", "outcomes", "tie", "deleted", "column"),
    [
        ("requests", "facts", "revision", "withdrawn", "defaulted"),
        ("versions", "live", "tie_0_", "used_", "value_"),
        ("ranked", "pairs", "requests_", "deleted_", "known_"),
        ("facts_", "requests_", "facts", "nth_", "newest_"),
        ("describe", "grant", "event_", "withdrawn_", "first_known_"),
        ("with.values", "select.from", "revision", "withdrawn", "defaulted"),
    ],
)
def test_sources_and_columns_may_have_the_names_of_the_steps_of_the_query(requests, outcomes, tie, deleted, column):
    plain = requests_source(tie_break=("revision",))
    names = {"revision": tie, "withdrawn": deleted}

    def renamed(source, name, **more):
        new = {**names, **more}
        return Source(
            name,
            columns={new.get(old, old): kind for old, kind in source.columns.items()},
            keys=source.keys,
            event_time=source.event_time,
            known_time=source.known_time,
            tie_break=(tie,),
            deleted=deleted,
        )

    asked, told = renamed(plain, requests), renamed(outcomes_source(), outcomes, defaulted=column)
    label = Label(rows=application(asked), outcome=told, column=column, horizon="1mo")
    loans = [
        {"loan_id": 1, "applied_at": at("2010-01-01"), "received_at": at("2010-01-01"), tie: 0, deleted: False},
        {"loan_id": 1, "applied_at": at("2010-01-01"), "received_at": at("2010-01-01"), tie: 1, deleted: False,
         "purpose": "car"},
        {"loan_id": 2, "applied_at": at("2010-01-02"), "received_at": at("2010-01-02"), tie: 0, deleted: False},
        {"loan_id": 2, "applied_at": at("2010-01-02"), "received_at": at("2010-01-03"), tie: 0, deleted: True},
        {"loan_id": 3, "applied_at": at("2010-01-03"), "received_at": at("2010-01-03"), tie: 0, deleted: False},
    ]  # fmt: skip
    known = [
        {
            "loan_id": 1,
            "happened_at": at("2010-01-20"),
            "known_at": at("2010-01-20"),
            tie: 0,
            deleted: False,
            column: 1,
        },
        {
            "loan_id": 3,
            "happened_at": at("2010-01-20"),
            "known_at": at("2010-01-20"),
            tie: 0,
            deleted: False,
            column: 1,
        },
        {"loan_id": 3, "happened_at": at("2010-01-20"), "known_at": at("2010-01-21"), tie: 0, deleted: True, column: 1},
    ]
    tables = {asked.name: table_of(asked, loans), told.name: table_of(told, known)}
    found = [(row["loan_id"], row["purpose"], row[column]) for row in run_sql(label.matured, tables).to_pylist()]
    assert sorted(found) == [(1, "car", 1), (3, None, 0)]


@cache
def physical(source):
    return rename_tables(source.sql, {item.name: item.name.replace(".", "_") for item in source.inputs})


def run_sql(source, tables, zone="UTC"):
    import duckdb

    with duckdb.connect() as connection:
        connection.execute(f"set timezone = '{zone}'; set threads = 1")
        for name, table in tables.items():
            connection.register(name.replace(".", "_"), table)
        return source.conform(connection.sql(physical(source)).to_arrow_table())


@pytest.mark.parametrize(("as_of", "rows", "positives"), [("2010-01-01", 3_265, 119), ("2011-07-01", 14_659, 421)])
def test_the_public_loans_mature_as_they_should(lending_club, as_of, rows, positives):
    label = real_label()
    result = label_rows(label, *real_tables(lending_club, label), at(as_of))
    assert result.mature.num_rows == rows
    assert sum(result.mature.column("defaulted").to_pylist()) == positives
    assert result.mature.num_rows + result.left_out.num_rows == sum(
        moment <= at(as_of) for moment in real_tables(lending_club, label)[0].column("applied_at").to_pylist()
    )


def test_the_matured_source_of_the_public_loans_says_the_same(lending_club):
    label = real_label()
    rows, outcomes = real_tables(lending_club, label)
    tables = {"applications": label.rows.source.conform(rows), "outcomes": label.outcome.conform(outcomes)}
    matured = run_sql(label.matured, tables)
    labelled = label_rows(label, rows, outcomes, at("2014-01-01")).mature
    names = ["loan_id", "applied_at", "purpose", "term", "defaulted", "matured_at"]
    key = [("loan_id", "ascending")]
    one, other = (table.select(names).sort_by(key) for table in (matured, labelled))
    assert one.cast(other.schema).equals(other)


def test_rows_may_come_in_any_order_and_chunks():
    label = defaulted()
    rows = [request(loan, day) for loan in (2, 1, 3) for day in ("2010-01-02", "2010-01-01")]
    forward, backward = (table_of(label.rows.source, listed) for listed in (rows, rows[::-1]))
    chunked = pa.concat_tables([backward.slice(0, 1), backward.slice(1)])
    nothing = table_of(label.outcome, [])
    one, other = (label_rows(label, table, nothing, at("2012-01-01")).mature for table in (forward, chunked))
    assert one.equals(other)
    assert one.column("applied_at").to_pylist() == sorted(one.column("applied_at").to_pylist())


def request(loan, day, **changes):
    moment = at(day)
    declared = {"loan_id": loan, "applied_at": moment, "received_at": moment, "revision": 0}
    return {**declared, "withdrawn": False, "purpose": "car", "amount": 1.0, **changes}


def test_a_correction_after_the_request_is_never_what_the_model_saw():
    label = defaulted()
    rows = [request(1, "2010-01-01"), request(1, "2010-01-01", received_at=at("2010-01-02"), amount=2.0)]
    result = label_rows(label, table_of(label.rows.source, rows), table_of(label.outcome, []), at("2012-01-01"))
    assert result.mature.column("amount").to_pylist() == [1.0]


def test_no_rows_at_all_are_no_rows():
    label = defaulted()
    result = label_rows(label, table_of(label.rows.source, []), table_of(label.outcome, []), at("2012-01-01"))
    assert result.mature.num_rows == result.left_out.num_rows == 0
    assert result.mature.column_names[-2:] == ["defaulted", "matured_at"]


def test_several_keys_are_joined_together():
    from ml_platform.features import Entity, RequestView
    from tests.datasets.loans import application, outcomes_source

    columns = {**requests_source().columns, "branch": "string"}
    source = requests_source(columns=columns, keys=("loan_id", "branch"))
    view = RequestView(
        "application",
        entity=Entity("loan", keys=("loan_id", "branch")),
        source=source,
        time="applied_at",
        columns=application().columns,
    )
    outcome = outcomes_source(columns={**outcomes_source().columns, "branch": "string"}, keys=("loan_id", "branch"))
    label = defaulted(rows=view, outcome=outcome)
    rows = [
        request(1, "2010-01-01", branch="a"),
        request(1, "2010-01-01", branch="b"),
        request(2, "2010-01-01", branch="b"),
    ]
    moment = at("2010-02-01")
    known = {"loan_id": 1, "branch": "b", "happened_at": moment, "known_at": moment, "revision": 0, "defaulted": 1}
    result = label_rows(label, table_of(source, rows), table_of(outcome, [known]), at("2012-01-01"))
    found = {(row["loan_id"], row["branch"]): row["defaulted"] for row in result.mature.to_pylist()}
    assert found == {(1, "a"): 0, (1, "b"): 1, (2, "b"): 0}


@pytest.mark.parametrize("change", ["missing", "extra", "naive", "mistyped"])
def test_a_table_that_breaks_its_declaration_is_refused(change):
    label = defaulted()
    table = table_of(label.rows.source, [request(1, "2010-01-01")])
    changed = {
        "missing": lambda: table.drop_columns(["purpose"]),
        "extra": lambda: table.append_column("other", table.column("purpose")),
        "naive": lambda: table.set_column(1, "applied_at", table.column("applied_at").cast(pa.timestamp("us"))),
        "mistyped": lambda: table.set_column(5, "purpose", table.column("loan_id")),
    }[change]()
    with pytest.raises(SchemaMismatch):
        label_rows(label, changed, table_of(label.outcome, []), at("2012-01-01"))


def test_nan_is_refused():
    label = defaulted()
    table = table_of(label.rows.source, [request(1, "2010-01-01", amount=float("nan"))])
    with pytest.raises(DataError, match="amount"):
        label_rows(label, table, table_of(label.outcome, []), at("2012-01-01"))


def test_a_naive_as_of_time_is_refused():
    label = defaulted()
    with pytest.raises(SchemaMismatch):
        label_rows(
            label, table_of(label.rows.source, []), table_of(label.outcome, []), at("2012-01-01").replace(tzinfo=None)
        )


def test_an_outcome_known_exactly_at_the_start_counts():
    label = defaulted()
    moment = at("2010-01-01")
    known = {"loan_id": 1, "happened_at": moment, "known_at": moment, "revision": 0, "defaulted": 1}
    tables = table_of(label.rows.source, [request(1, "2010-01-01")]), table_of(label.outcome, [known])
    assert label_rows(label, *tables, at("2012-01-01")).mature.column("defaulted").to_pylist() == [1]


def test_what_becomes_known_at_the_moment_of_maturity_counts_also_when_that_is_the_as_of_time():
    label = defaulted(horizon="1mo")
    end = at("2010-02-01")
    known = {"loan_id": 1, "happened_at": end, "known_at": end, "revision": 0, "defaulted": 1}
    tables = table_of(label.rows.source, [request(1, "2010-01-01")]), table_of(label.outcome, [known])
    assert label_rows(label, *tables, end).mature.column("defaulted").to_pylist() == [1]
    assert label_rows(label, *tables, end - timedelta(microseconds=1)).left_out.num_rows == 1
