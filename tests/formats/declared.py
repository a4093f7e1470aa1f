"""Golden vectors of declarations: their canonical forms and digests, from one small model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ml_platform import (
    Approvals,
    Attribute,
    Decline,
    Entity,
    FeatureView,
    Label,
    LightGBM,
    Model,
    Monitor,
    RequestView,
    Rollout,
    SameAsEvent,
    Source,
    TimeSplit,
    approx_distinct,
    at_least,
    calibrated,
    category,
    count,
    group_ratio,
    mean,
    number,
    quantile,
    stddev,
)
from ml_platform.core.digests import canonical_json
from ml_platform.datasets import TrainingSetSpec
from ml_platform.features.expressions import parse

LOAN = Entity("loan", keys=("loan_id",), personal=True)
PURPOSE = Entity("purpose", keys=("purpose",))
APPLICATIONS = Source(
    "applications",
    columns={"loan_id": "int64", "applied_at": "timestamp", "purpose": "string", "dti": "float64"},
    keys=("loan_id",),
    event_time="applied_at",
    known_time=SameAsEvent(reason="It arrives as it happens."),
)
OUTCOMES = Source(
    "outcomes",
    columns={"loan_id": "int64", "known_at": "timestamp", "defaulted": "int64"},
    keys=("loan_id",),
    event_time="known_at",
    known_time="known_at",
)
RESTRICTED = Source(
    "restricted_applicants",
    columns={"loan_id": "int64", "known_at": "timestamp", "applicant_group": "string"},
    keys=("loan_id",),
    event_time="known_at",
    known_time="known_at",
)
LATE = Source(
    "late_outcomes",
    columns={"loan_id": "int64", "known_at": "timestamp"},
    keys=("loan_id",),
    event_time="known_at",
    known_time="known_at",
    sql="SELECT loan_id, known_at\nFROM outcomes WHERE defaulted = 1;",
    inputs=(OUTCOMES,),
)
APPLICATION = RequestView(
    "application",
    entity=LOAN,
    source=APPLICATIONS,
    time="applied_at",
    columns=(number("dti", range=(0, None), description="Not in the digest."), category("purpose", on_unknown="flag")),
    derived={"dti_share": "dti / 100"},
)
BORROWER_HISTORY = FeatureView(
    "borrower_history",
    entity=LOAN,
    source=OUTCOMES,
    aggregations=(count(over="24h"), mean("defaulted", over="12mo")),
    refresh="6h",
)
FILTERED = FeatureView(
    "late_history",
    entity=LOAN,
    source=OUTCOMES,
    aggregations=(
        approx_distinct("loan_id", over="12mo"),
        quantile("defaulted", 0.95, over="24h"),
        stddev("defaulted", over="30d", name="spread", where="defaulted >= 1"),
    ),
    refresh="exact",
)
LABEL = Label(rows=APPLICATION, outcome=OUTCOMES, column="defaulted", horizon="12mo", lag="2d")
PURPOSE_HISTORY = FeatureView(
    "purpose_history",
    entity=PURPOSE,
    source=LABEL.matured,
    aggregations=(mean("defaulted", over="720d"),),
    refresh="1d",
)
MODEL = Model(
    name="credit_risk",
    entity=LOAN,
    owners=["team:credit"],
    description="Not in the digest.",
    features=[APPLICATION, PURPOSE_HISTORY],
    label=LABEL,
    split=TimeSplit(test=0.3),
    protected=[Attribute("applicant_group", source=RESTRICTED)],
    trainer=LightGBM(),
    gates=[
        at_least("auc", 0.55),
        calibrated(on_inconclusive="ask"),
        group_ratio("approval_rate", by="applicant_group"),
    ],
    decision=Decline(
        above=0.06,
        reasons=dict.fromkeys(("dti", "dti_share", "defaulted_mean_720d"), "High debt") | {"purpose": "Purpose"},
    ),
    approvals=Approvals(canary=1, production=2),
    rollout=Rollout(shadow="1d", canary=[5, 25]),
    monitor=Monitor(critical=["dti"], freshness="540d"),
)
TRAINING_SET = TrainingSetSpec(label=LABEL, features=(APPLICATION, PURPOSE_HISTORY))
RATIO = "CASE WHEN (annual_inc > 0) THEN installment * 12 / annual_inc ELSE -1 END"


def text(document: Mapping[str, Any]) -> str:
    return canonical_json(dict(document)).decode()


def expression() -> str:
    return text(parse(RATIO, {"annual_inc": "number", "installment": "number"}).spec())


SHOWN = {
    "entity": LOAN,
    "source": APPLICATIONS,
    "source with SQL": LATE,
    "request_view": APPLICATION,
    "feature_view": BORROWER_HISTORY,
    "feature_view with a condition and sketches": FILTERED,
    "model": MODEL,
}
DIGESTED = {**SHOWN, "label": LABEL, "source of mature outcomes": LABEL.matured, "training_set": TRAINING_SET}

COMPUTED: dict[str, Callable[[], str]] = {
    **{f"definition/1 {name}": lambda one=one: text(one.spec()) for name, one in SHOWN.items()},  # type: ignore[misc]
    **{f"definition/1 {name} digest": lambda one=one: one.digest for name, one in DIGESTED.items()},  # type: ignore[misc]
    "definition/1 expression": expression,
    "definition/1 training_set": lambda: text(TRAINING_SET.spec()),
    "definition/1 table": lambda: BORROWER_HISTORY.table,
}
