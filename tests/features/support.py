"""Builders that the tests of features share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from ml_platform.features import SameAsEvent, Source

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UTC_US = pa.timestamp("us", "UTC")


def at(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)


def times(values: list[int]) -> pa.Array:
    return pa.array(values, pa.int64()).cast(UTC_US)


def same() -> SameAsEvent:
    return SameAsEvent("the row is the event")


def applications() -> Source:
    return Source(
        "applications",
        columns={
            "loan_id": "int64",
            "applied_at": "timestamp",
            "amount": "float64",
            "installment": "float64",
            "annual_inc": "float64",
            "term": "string",
            "purpose": "string",
        },
        keys=("loan_id",),
        event_time="applied_at",
        known_time=same(),
    )


def outcomes() -> Source:
    return Source(
        "outcomes",
        columns={"loan_id": "int64", "happened_at": "timestamp", "known_at": "timestamp", "defaulted": "int64"},
        keys=("loan_id",),
        event_time="happened_at",
        known_time="known_at",
    )


def history_rows(**columns: Any) -> pa.Table:
    return pa.table(columns)
