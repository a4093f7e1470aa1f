from __future__ import annotations

import pytest

from ml_platform.core.errors import DeclarationError
from ml_platform.datasets.labels import Label
from ml_platform.features import FeatureView, SameAsEvent, mean
from ml_platform.features.entity import Entity
from tests.datasets.loans import application, defaulted, outcomes_source, requests_source


def test_an_outcome_without_known_time_cannot_be_declared():
    with pytest.raises(DeclarationError, match=r"known_time.*SameAsEvent"):
        defaulted(outcome=outcomes_source(known_time=None))


def test_the_reason_for_a_missing_known_time_is_in_the_label():
    label = defaulted(outcome=outcomes_source(known_time=SameAsEvent("The court publishes at once.")))
    assert label.spec()["outcome"]["known_time"] == {"same_as_event": "The court publishes at once."}
    assert label.digest != defaulted().digest


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kind": "count"}, "kind"),
        ({"horizon": "a year"}, "horizon"),
        ({"lag": "soon"}, "lag"),
        ({"horizon": "0d"}, "horizon"),
        ({"horizon": "0d", "lag": "1d"}, "horizon"),
        ({"horizon": "0d", "kind": "value"}, "horizon"),
        ({"column": "known_at"}, "column"),
        ({"column": "absent"}, "column"),
    ],
)
def test_an_impossible_label_names_its_field(changes, field):
    with pytest.raises(DeclarationError, match=f"^{field}: "):
        defaulted(**changes)


def test_a_value_may_exist_at_once_and_be_reported_late():
    assert defaulted(kind="value", column="loss", horizon="0d", lag="3d").lag == "3d"


def test_the_outcome_must_have_the_entity_keys():
    columns = {name: kind for name, kind in outcomes_source().columns.items() if name != "loan_id"}
    with pytest.raises(DeclarationError, match=r"loan_id"):
        defaulted(outcome=outcomes_source(columns={**columns, "account": "int64"}, keys=("account",)))


def test_the_key_has_one_type():
    with pytest.raises(DeclarationError, match=r"^loan_id: .*another type"):
        defaulted(outcome=outcomes_source(columns={**outcomes_source().columns, "loan_id": "string"}))


@pytest.mark.parametrize("column", ["defaulted", "matured_at", "split"])
def test_what_is_predicted_is_never_a_column_of_the_request(column):
    source = requests_source(columns={**requests_source().columns, column: "int64"})
    with pytest.raises(DeclarationError, match=f"^{column}: "):
        defaulted(rows=application(source))


def test_the_start_is_the_event_time_of_the_requests():
    source = requests_source(event_time="received_at", known_time="received_at")
    with pytest.raises(DeclarationError, match=r"^rows: "):
        defaulted(rows=application(source))


def test_requests_and_outcomes_are_different_sources():
    source = requests_source(columns={**requests_source().columns, "defaulted": "int64"})
    with pytest.raises(DeclarationError, match=r"^outcome: "):
        defaulted(outcome=source)


def test_the_matured_source_is_known_at_maturity_and_groups_by_the_columns_of_the_request():
    matured = defaulted().matured
    assert matured.name == "applications.defaulted.matured"
    assert matured.event_time == matured.known_column == "matured_at"
    assert matured.columns == {
        "loan_id": "int64",
        "applied_at": "timestamp",
        "received_at": "timestamp",
        "revision": "int64",
        "purpose": "string",
        "defaulted": "int64",
        "matured_at": "timestamp",
    }
    assert matured.inputs == (requests_source(), outcomes_source())


def test_the_column_of_a_matured_source_is_traced_to_the_outcomes():
    assert ("outcomes", "defaulted") in defaulted().matured.lineage()["defaulted"]
    assert defaulted().matured.lineage()["purpose"] == [("applications", "purpose")]


def test_a_feature_can_be_made_of_mature_outcomes():
    view = FeatureView(
        "purpose_history",
        entity=Entity("purpose", keys=("purpose",)),
        source=defaulted().matured,
        aggregations=[mean("defaulted", over="720d")],
        refresh="1d",
    )
    assert [field.name for field in view.features] == ["defaulted_mean_720d"]


def test_equal_labels_have_equal_digests_and_every_part_counts():
    label = defaulted()
    assert label == defaulted()
    assert hash(label) == hash(defaulted())
    assert defaulted(lag="1d") == defaulted(lag="24h")
    others = [
        defaulted(horizon="11mo"),
        defaulted(lag="1d"),
        defaulted(column="closed"),
        defaulted(kind="value"),
        defaulted(outcome=outcomes_source(deleted=None)),
        defaulted(rows=application(requests_source(deleted=None))),
    ]
    assert len({label.digest, *(other.digest for other in others)}) == len(others) + 1


@pytest.mark.parametrize(
    "changes", [{}, {"horizon": "90m", "lag": "24h"}, {"kind": "value", "column": "loss", "lag": "30s"}]
)
def test_a_label_is_rebuilt_from_its_canonical_form(changes):
    label = defaulted(**changes)
    again = Label.from_spec(label.spec())
    assert again.digest == label.digest
    assert again.matured.digest == label.matured.digest


def test_another_definition_is_no_label():
    with pytest.raises(DeclarationError, match=r"kind"):
        Label.from_spec(requests_source().spec())
