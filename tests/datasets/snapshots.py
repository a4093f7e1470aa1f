"""A small training set with stored features, and its snapshot."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pyarrow as pa

from ml_platform.core.digests import keyed
from ml_platform.core.fields import number
from ml_platform.datasets import Inputs, SourceInput, TimeSplit, TrainingSetSpec, build_training_set, write_snapshot
from ml_platform.features import Entity, FeatureView, SameAsEvent, Source
from tests.datasets.loans import application, at, defaulted, table_of

DAY = timedelta(days=1)
AS_OF = at("2012-01-01")
PATH = "snapshots/credit_risk/20120101T000000Z_0123456789ab"

RATES = Source(
    "rates",
    columns={"purpose": "string", "published_at": "timestamp", "rate": "float64"},
    keys=("purpose",),
    event_time="published_at",
    known_time=SameAsEvent("The central bank publishes at once."),
)
PURPOSE_RATES = FeatureView(
    "purpose_rates", entity=Entity("purpose", keys=("purpose",)), source=RATES, columns=[number("rate", nullable=True)]
)


def spec(**changes) -> TrainingSetSpec:
    declared = {"label": defaulted(), "features": (application(), PURPOSE_RATES), "split": TimeSplit(test=0.3)}
    return TrainingSetSpec(**{**declared, **changes})


def request(loan, applied, **changes):
    declared = {"loan_id": loan, "applied_at": applied, "received_at": applied, "revision": 0, "withdrawn": False}
    return {**declared, "purpose": "car" if loan % 2 else "house", "amount": loan / 3, **changes}


def outcome(loan, known, **changes):
    declared = {"loan_id": loan, "happened_at": known, "known_at": known, "revision": 0, "withdrawn": False}
    return {**declared, "defaulted": 1, "loss": 1.0, "closed": True, **changes}


def requests(rows=40):
    start = at("2010-10-01")
    return [request(loan, start + loan * 5 * DAY) for loan in range(rows)]


def outcomes(rows=40):
    start = at("2010-10-01")
    return [outcome(loan, start + (loan * 5 + 20) * DAY) for loan in range(0, rows, 4)]


def join(rows: pa.Table, views) -> pa.Table:
    """A rate for cars from 2010-11-01 on, none for houses."""
    published = at("2010-11-01")
    found = [
        row["purpose"] == "car" and row["applied_at"] >= published
        for row in rows.select(["purpose", "applied_at"]).to_pylist()
    ]
    rate = pa.array([0.1 if one else None for one in found], pa.float64())
    event = pa.array([published if one else None for one in found], pa.timestamp("us", "UTC"))
    return rows.append_column("rate", rate).append_column("purpose_rates__event_time", event)


def build(declared=None, rows=None, known=None, as_of=AS_OF, join=join):
    declared = declared or spec()
    return build_training_set(
        declared,
        rows=table_of(declared.label.rows.source, requests() if rows is None else rows),
        outcomes=table_of(declared.label.outcome, outcomes() if known is None else known),
        as_of=as_of,
        join=join,
    )


def inputs(declared=None, version=3) -> Inputs:
    label = (declared or spec()).label
    return Inputs(
        sources={
            label.rows.source.name: SourceInput(label.rows.source.digest, version, "lake/applications"),
            label.outcome.name: SourceInput(label.outcome.digest, version, "lake/outcomes"),
        },
        features={view.reference: 0 for view in (declared or spec()).stored},
    )


def seeds(entity, keys):
    return [keyed(bytes(32), "test", ("text", entity), ("bytes", key)) for key in keys]


def write(objects, training_set=None, **changes):
    training_set = training_set or build()
    declared = {"path": PATH, "inputs": inputs(training_set.spec), "seeds": seeds}
    return write_snapshot(objects, training_set, **{**declared, **changes})


def float32(value):
    return float(np.float32(value))
