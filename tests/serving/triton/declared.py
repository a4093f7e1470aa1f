"""The model of `tests.serving.triton.routed` as a team would declare it, for `mlp serve --models`."""

from __future__ import annotations

from ml_platform import Decline, Entity, Label, LightGBM, Model, Serving, Source, at_least
from tests.serving.triton.routed import APPLICATION

OUTCOMES = Source(
    "outcomes",
    columns={"loan_id": "int64", "known_at": "timestamp", "defaulted": "int64"},
    keys=("loan_id",),
    event_time="known_at",
    known_time="known_at",
)

credit_risk = Model(
    name="credit_risk",
    entity=Entity("loan", keys=("loan_id",), personal=True),
    features=[APPLICATION],
    label=Label(rows=APPLICATION, outcome=OUTCOMES, column="defaulted", kind="event_within", horizon="12mo"),
    trainer=LightGBM(rounds=5),
    gates=[at_least("auc", 0.5)],
    decision=Decline(above=0.5, reasons=dict.fromkeys(("amount", "income", "term", "grade", "burden"), "A reason")),
    serving=Serving(max_batch=16),
)
