from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from ml_platform.core.errors import DataError, DeclarationError, DuplicateKeys, SchemaMismatch
from ml_platform.features import INGESTED, SameAsEvent, Source
from tests.features.support import UTC_US, applications, outcomes, same, times

USERS = {"user_id": "int64", "seen_at": "timestamp", "user_age": "float64", "user_country": "string"}


def users(**changes: Any) -> Source:
    declared: dict[str, Any] = {
        "columns": USERS,
        "keys": ("user_id",),
        "event_time": "seen_at",
        "known_time": same(),
    }
    return Source("users", **(declared | changes))


def delivery(**changes: Any) -> pa.Table:
    columns = {"user_id": [1, 2], "seen_at": times([5, 6]), "user_age": [30.0, None], "user_country": ["NL", None]}
    return pa.table(columns | changes)


def test_a_source_that_does_not_say_when_its_rows_were_known_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"SameAsEvent\(reason=…\).*future") as caught:
        users(known_time=None)
    assert caught.value.field == "known_time"


def test_a_written_reason_gets_through_and_is_in_the_record() -> None:
    assert users().spec()["known_time"] == {"same_as_event": "the row is the event"}
    with pytest.raises(DeclarationError, match="reason"):
        SameAsEvent(" ")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"keys": ()}, "keys"),
        ({"keys": "user_id"}, "keys"),
        ({"keys": ("user_id", "user_id")}, "keys"),
        ({"keys": ("id",)}, "keys"),
        ({"keys": ("user_age",)}, "user_age"),
        ({"event_time": "user_age"}, "event_time"),
        ({"event_time": "when"}, "event_time"),
        ({"known_time": "user_age"}, "known_time"),
        ({"tie_break": ("rank",)}, "tie_break"),
        ({"deleted": "user_age"}, "deleted"),
        ({"columns": USERS | {"photo": "image"}}, "photo"),
        ({"columns": USERS | {"ingested_at": "timestamp"}, "known_time": INGESTED}, "ingested_at"),
        ({"inputs": (applications(),)}, "inputs"),
    ],
)
def test_a_declaration_names_the_field_that_is_wrong(changes: Any, field: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        users(**changes)
    assert caught.value.field == field


def test_the_column_at_a_position_can_never_become_another_column() -> None:
    """The story of ``user_age`` at position 7 that becomes ``user_country``."""
    seven = {f"c{number}": "float64" for number in range(5)}
    declared = users(columns={"user_id": "int64", "seen_at": "timestamp", **seven, "user_age": "float64"})
    good = {"user_id": [1], "seen_at": times([5]), **{name: [0.0] for name in seven}}
    assert declared.conform(pa.table(good | {"user_age": [30.0]})).column_names[7] == "user_age"
    for other in (["NL"], [30.0]):
        with pytest.raises(SchemaMismatch) as caught:
            declared.conform(pa.table(good | {"user_country": other}))
        assert "missing user_age" in str(caught.value)
        assert "user_country" in str(caught.value)
    with pytest.raises(SchemaMismatch) as caught:
        declared.conform(pa.table(good | {"user_age": ["NL"]}))
    assert caught.value.field == "user_age"
    assert "NL" not in str(caught.value)


def test_reordered_columns_are_the_same_rows() -> None:
    table = delivery()
    turned = table.select(["user_country", "user_age", "seen_at", "user_id"])
    assert users().conform(turned).equals(users().conform(table))


@pytest.mark.parametrize(
    ("changes", "error", "field"),
    [
        ({"seen_at": pa.array([5, 6], pa.timestamp("us"))}, SchemaMismatch, "seen_at"),
        ({"extra": [1, 2]}, SchemaMismatch, "extra"),
        ({"user_id": [1.0, 2.0]}, SchemaMismatch, "user_id"),
        ({"user_id": ["1", "2"]}, SchemaMismatch, "user_id"),
        ({"user_country": [1, 2]}, SchemaMismatch, "user_country"),
        ({"user_age": ["30", "31"]}, SchemaMismatch, "user_age"),
        ({"user_age": [2**53 + 1, 1]}, SchemaMismatch, "user_age"),
        ({"user_age": [float("nan"), 1.0]}, DataError, "user_age"),
        ({"user_age": [float("inf"), 1.0]}, DataError, "user_age"),
        ({"user_age": [-float("inf"), None]}, DataError, "user_age"),
        ({"user_id": pa.array([None, 1], pa.int64())}, DataError, "user_id"),
        ({"seen_at": pa.array([None, 1], UTC_US)}, DataError, "seen_at"),
        ({"seen_at": pa.array([1, 2], pa.timestamp("ns", "UTC"))}, SchemaMismatch, "seen_at"),
        ({"user_id": [1, 1], "seen_at": times([5, 5])}, DuplicateKeys, "user_id, seen_at"),
    ],
)
def test_rows_that_break_the_declaration_are_refused_by_name(changes: Any, error: type[Exception], field: str) -> None:
    with pytest.raises(error) as caught:
        users().conform(delivery(**changes))
    assert type(caught.value) is error
    assert caught.value.field == field


def test_a_missing_column_is_named() -> None:
    with pytest.raises(SchemaMismatch, match="missing user_age"):
        users().conform(delivery().drop_columns(["user_age"]))


def test_widths_encodings_units_and_zones_of_the_same_values_do_not_matter() -> None:
    amsterdam = pa.array([5_000, 6_000], pa.timestamp("ns", "Europe/Amsterdam"))
    other = delivery(
        user_id=pa.array([1, 2], pa.int8()),
        seen_at=amsterdam,
        user_age=pa.array([30, None], pa.int32()),
        user_country=pa.array(["NL", None], pa.large_string()).dictionary_encode(),
    )
    assert users().conform(other).equals(users().conform(delivery()))


def test_the_same_row_delivered_twice_is_one_row() -> None:
    twice = pa.concat_tables([delivery(), delivery()])
    assert users().conform(twice).equals(users().conform(delivery()))


def test_a_correction_has_a_later_known_time_or_a_tie_break() -> None:
    rows = {
        "loan_id": [1, 1],
        "happened_at": times([5, 5]),
        "known_at": times([6, 7]),
        "defaulted": [0, 1],
    }
    assert outcomes().conform(pa.table(rows)).num_rows == 2
    with pytest.raises(DuplicateKeys):
        outcomes().conform(pa.table(rows | {"known_at": times([6, 6])}))
    tied = users(columns=USERS | {"n": "int64"}, tie_break=("n",))
    doubled = delivery(user_id=[1, 1], seen_at=times([5, 5]), n=[1, 2])
    assert tied.conform(doubled).num_rows == 2
    with pytest.raises(DataError):
        tied.conform(delivery(n=pa.array([1, None], pa.int64())))


def test_an_empty_frame_conforms() -> None:
    assert users().conform(delivery().slice(0, 0)).num_rows == 0


def test_ingested_rows_are_stamped_when_they_are_appended() -> None:
    declared = users(known_time=INGESTED)
    assert declared.known_column == "ingested_at"
    stamped = declared.stamp(delivery(), datetime(2020, 1, 2, tzinfo=UTC))
    assert declared.conform(stamped)["ingested_at"].to_pylist() == [datetime(2020, 1, 2, tzinfo=UTC)] * 2
    assert users().stamp(delivery(), datetime(2020, 1, 2, tzinfo=UTC)).equals(delivery())


def test_what_changes_a_result_is_in_the_digest_and_order_is_not() -> None:
    turned = users(columns=dict(reversed(USERS.items())))
    assert turned == users()
    assert hash(turned) == hash(users())
    others = [
        users(columns=USERS | {"x": "int64"}),
        users(keys=("user_id", "user_country")),
        users(known_time=INGESTED),
        users(known_time="seen_at"),
        users(known_time=SameAsEvent("another reason")),
        users(tie_break=("user_country",)),
        users(columns=USERS | {"gone": "bool"}, deleted="gone"),
        Source("people", USERS, ("user_id",), "seen_at", same()),
    ]
    assert len({users().digest, *(other.digest for other in others)}) == len(others) + 1


def matured(sql: str, **changes: Any) -> Source:
    declared: dict[str, Any] = {
        "columns": {"loan_id": "int64", "purpose": "string", "defaulted": "float64", "matured_at": "timestamp"},
        "keys": ("loan_id",),
        "event_time": "matured_at",
        "known_time": same(),
        "inputs": (applications(), outcomes()),
    }
    return Source("loan.matured", sql=sql, **(declared | changes))


SQL = """
    select a.loan_id, a.purpose, a.applied_at + interval 12 month as matured_at,
           cast(coalesce(o.defaulted = 1 and o.known_at <= a.applied_at + interval 12 month, false) as double) as defaulted
    from applications a left join outcomes o on a.loan_id = o.loan_id
"""


def test_sql_is_one_definition_however_it_is_written() -> None:
    again = SQL.upper().replace("\n", "\n -- a comment\n") + ";"
    assert matured(again) == matured(SQL)
    assert matured(SQL.replace("12 month", "13 month")) != matured(SQL)
    assert matured(SQL.replace("a.purpose", "'Car' as purpose")) != matured(
        SQL.replace("a.purpose", "'car' as purpose")
    )


def test_every_column_of_sql_is_traced_to_the_sources() -> None:
    lineage = matured(SQL).lineage()
    assert lineage["purpose"] == [("applications", "purpose")]
    assert lineage["defaulted"] == [("applications", "applied_at"), ("outcomes", "defaulted"), ("outcomes", "known_at")]


def test_lineage_goes_through_sources_made_of_sql() -> None:
    outer = Source(
        "outer",
        columns={"loan_id": "int64", "bad": "float64", "matured_at": "timestamp"},
        keys=("loan_id",),
        event_time="matured_at",
        known_time=same(),
        sql='select loan_id, matured_at, defaulted * 2 as bad from "loan.matured"',
        inputs=(matured(SQL),),
    )
    assert ("outcomes", "known_at") in outer.lineage()["bad"]
    assert outer.lineage()["loan_id"] == [("applications", "loan_id")]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("select", "reads nothing|parsed"),
        ("", "empty"),
        ("delete from applications", "one query"),
        ("select 1; select 2", "one query"),
        (SQL.replace("left join outcomes o on a.loan_id = o.loan_id", ""), "reads applications|traced|parsed"),
        (SQL.replace("join outcomes", "join others"), "others"),
        (SQL.replace("a.purpose", "a.colour as purpose"), "traced"),
        (SQL.replace("a.purpose", "cast(random() as varchar) as purpose"), "rand"),
        (SQL.replace("a.purpose", "cast(now() as varchar) as purpose"), "now"),
        (SQL.replace("a.purpose", "cast(current_date as varchar) as purpose"), "current_date"),
        (SQL.replace("a.purpose", "cast(today() as varchar) as purpose"), "today|current"),
        (SQL.replace("a.purpose", "getenv('HOME') as purpose"), "getenv"),
        (SQL.replace("applications a", "read_parquet('x.parquet') a"), "table function"),
        (SQL.replace("applications a", "'x.parquet' a"), "reads|parsed"),
        (SQL.replace("a.purpose", "$1 as purpose"), "parameter"),
        (SQL.replace("a.purpose", "'open as purpose"), "read"),
    ],
)
def test_sql_reads_its_inputs_and_nothing_else(sql: str, said: str) -> None:
    with pytest.raises(DeclarationError, match=said):
        matured(sql)


def test_the_rows_of_sql_are_not_ingested() -> None:
    with pytest.raises(DeclarationError) as caught:
        matured(SQL, known_time=INGESTED)
    assert caught.value.field == "known_time"
