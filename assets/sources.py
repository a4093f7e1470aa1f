"""The tables that this company's models read, as others deliver them."""

from ml_platform import SameAsEvent, Source

applications = Source(
    "applications",
    columns={
        "loan_id": "int64",
        "applied_at": "timestamp",
        "loan_amnt": "float64",
        "term": "int64",
        "int_rate": "float64",
        "installment": "float64",
        "grade": "string",
        "sub_grade": "string",
        "emp_length": "string",
        "home_ownership": "string",
        "annual_inc": "float64",
        "verification_status": "string",
        "purpose": "string",
        "addr_state": "string",
        "dti": "float64",
        "delinq_2yrs": "float64",
        "earliest_cr_line": "timestamp",
        "inq_last_6mths": "float64",
        "mths_since_last_delinq": "float64",
        "open_acc": "float64",
        "pub_rec": "float64",
        "revol_bal": "float64",
        "revol_util": "float64",
        "total_acc": "float64",
        "pub_rec_bankruptcies": "float64",
        "meets_credit_policy": "bool",
    },
    keys=("loan_id",),
    event_time="applied_at",
    known_time=SameAsEvent(reason="an application is known the moment it arrives"),
)

outcomes = Source(
    "outcomes",
    columns={"loan_id": "int64", "defaulted": "int64", "known_at": "timestamp"},
    keys=("loan_id",),
    event_time="known_at",
    known_time="known_at",
)

restricted_applicants = Source(
    "restricted_applicants",
    columns={"loan_id": "int64", "applicant_group": "string", "known_at": "timestamp"},
    keys=("loan_id",),
    event_time="known_at",
    known_time="known_at",
)
