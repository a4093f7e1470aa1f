"""Will this loan default within twelve months?"""

from assets.sources import applications, outcomes, restricted_applicants
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
    TimeSplit,
    at_least,
    brier_skill,
    calibrated,
    category,
    group_ratio,
    mean,
    not_worse_than_production,
    number,
)

loan = Entity("loan", keys=("loan_id",), personal=True)
purpose = Entity("purpose", keys=("purpose",))

PRICE = "The cost of the credit relative to its risk"
BURDEN = "Payments are high relative to income"
CREDIT_USE = "High use of existing credit"
DELINQUENCY = "Past delinquency or public record"
INQUIRIES = "Number of recent credit inquiries"
HISTORY = "Limited or short credit history"
REQUEST = "Amount, term or purpose of the requested credit"
HOUSING = "Housing status"

REASONS = {
    "loan_amnt": REQUEST,
    "term": REQUEST,
    "int_rate": PRICE,
    "installment": BURDEN,
    "annual_inc": BURDEN,
    "dti": BURDEN,
    "delinq_2yrs": DELINQUENCY,
    "inq_last_6mths": INQUIRIES,
    "mths_since_last_delinq": DELINQUENCY,
    "open_acc": HISTORY,
    "pub_rec": DELINQUENCY,
    "revol_bal": CREDIT_USE,
    "revol_util": CREDIT_USE,
    "total_acc": HISTORY,
    "home_ownership": HOUSING,
    "purpose": REQUEST,
    "grade": PRICE,
    "payment_to_income": BURDEN,
    "defaulted_mean_720d": REQUEST,
}

application = RequestView(
    "application",
    entity=loan,
    source=applications,
    time="applied_at",
    columns=[
        number("loan_amnt", range=(0, None)),
        category("term", on_unknown="flag"),
        number("int_rate", range=(0, 1)),
        number("installment", range=(0, None)),
        number("annual_inc", nullable=True, range=(0, None)),
        number("dti", nullable=True),
        number("delinq_2yrs", nullable=True),
        number("inq_last_6mths", nullable=True),
        number("mths_since_last_delinq", nullable=True),
        number("open_acc", nullable=True),
        number("pub_rec", nullable=True),
        number("revol_bal", nullable=True),
        number("revol_util", nullable=True),
        number("total_acc", nullable=True),
        category("home_ownership"),
        category("purpose"),
        category("grade"),
    ],
    derived={"payment_to_income": "installment * 12 / annual_inc"},
)

default_12mo = Label(rows=application, outcome=outcomes, column="defaulted", kind="event_within", horizon="12mo")

purpose_history = FeatureView(
    "purpose_history",
    entity=purpose,
    source=default_12mo.matured,
    aggregations=[mean("defaulted", over="720d")],
    refresh="1d",
)

credit_risk = Model(
    name="credit_risk",
    entity=loan,
    owners=["team:credit"],
    features=[application, purpose_history],
    label=default_12mo,
    split=TimeSplit(test=0.3),
    protected=[Attribute("applicant_group", source=restricted_applicants)],
    trainer=LightGBM(objective="binary", num_leaves=7, learning_rate=0.03, rounds=120, min_data_in_leaf=50),
    gates=[
        at_least("auc", 0.55),
        calibrated(on_inconclusive="ask"),
        brier_skill(on_inconclusive="ask"),
        group_ratio("approval_rate", by="applicant_group", at_least=0.8),
        not_worse_than_production("auc", by=0.03),
    ],
    decision=Decline(above=0.06, reasons=REASONS),
    approvals=Approvals(production=1),
    rollout=Rollout(shadow="1d", canary=[5, 25, 50]),
    monitor=Monitor(critical=["term", "dti", "revol_util"], retrain="queued", freshness="540d"),
)
