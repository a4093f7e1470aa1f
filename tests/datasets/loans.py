"""Declarations and rows that the tests of data sets share."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from ml_platform.core.fields import category, number
from ml_platform.datasets.labels import Label
from ml_platform.features import Entity, RequestView, SameAsEvent, Source

LOAN = Entity("loan", keys=("loan_id",), personal=True)
STAMP = pa.timestamp("us", "UTC")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def requests_source(**changes) -> Source:
    declared = {
        "columns": {
            "loan_id": "int64",
            "applied_at": "timestamp",
            "received_at": "timestamp",
            "revision": "int64",
            "withdrawn": "bool",
            "purpose": "string",
            "amount": "float64",
        },
        "keys": ("loan_id",),
        "event_time": "applied_at",
        "known_time": "received_at",
        "tie_break": ("revision",),
        "deleted": "withdrawn",
    }
    return Source("applications", **{**declared, **changes})


def outcomes_source(**changes) -> Source:
    declared = {
        "columns": {
            "loan_id": "int64",
            "happened_at": "timestamp",
            "known_at": "timestamp",
            "revision": "int64",
            "withdrawn": "bool",
            "defaulted": "int64",
            "loss": "float64",
            "closed": "bool",
        },
        "keys": ("loan_id",),
        "event_time": "happened_at",
        "known_time": "known_at",
        "tie_break": ("revision",),
        "deleted": "withdrawn",
    }
    return Source("outcomes", **{**declared, **changes})


def application(source: Source | None = None) -> RequestView:
    return RequestView(
        "application",
        entity=LOAN,
        source=source or requests_source(),
        time="applied_at",
        columns=[category("purpose", nullable=True), number("amount", nullable=True)],
    )


def defaulted(**changes) -> Label:
    declared = {"rows": application(), "outcome": outcomes_source(), "column": "defaulted", "horizon": "12mo"}
    return Label(**{**declared, **changes})


def table_of(source: Source, rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=source.arrow_schema())


def real_label(horizon: str = "12mo") -> Label:
    """The label of the public loans; the columns that the tests need."""
    applications = Source(
        "applications",
        columns={
            "loan_id": "int64",
            "applied_at": "timestamp",
            "purpose": "string",
            "grade": "string",
            "term": "int64",
            "loan_amnt": "int64",
            "int_rate": "float64",
            "installment": "float64",
            "annual_inc": "float64",
            "revol_util": "float64",
            "mths_since_last_delinq": "float64",
        },
        keys=("loan_id",),
        event_time="applied_at",
        known_time=SameAsEvent("An application is known when it arrives."),
    )
    outcomes = Source(
        "outcomes",
        columns={"loan_id": "int64", "defaulted": "int64", "known_at": "timestamp"},
        keys=("loan_id",),
        event_time="known_at",
        known_time="known_at",
    )
    view = RequestView(
        "application",
        entity=LOAN,
        source=applications,
        time="applied_at",
        columns=[
            number("loan_amnt"),
            category("term", on_unknown="flag"),
            number("int_rate"),
            number("installment"),
            number("annual_inc", nullable=True),
            number("revol_util", nullable=True),
            number("mths_since_last_delinq", nullable=True),
            category("purpose"),
            category("grade"),
        ],
        derived={"payment_to_income": "installment * 12 / annual_inc"},
    )
    return Label(rows=view, outcome=outcomes, column="defaulted", horizon=horizon)


def real_tables(folder, label: Label) -> tuple[pa.Table, pa.Table]:
    rows = pq.read_table(folder / "applications.parquet", columns=list(label.rows.source.columns))
    outcomes = pq.read_table(folder / "outcomes.parquet", columns=list(label.outcome.columns))
    return rows, outcomes
