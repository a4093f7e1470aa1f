"""OpenLineage events: every feature is there, traced to the columns that it is really computed from."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from assets.credit_risk import credit_risk
from ml_platform import Entity, FeatureView, Model, Platform, Source, number
from ml_platform.features import About
from ml_platform.lifecycle import export_lineage
from ml_platform.lifecycle.openlineage import lineage_events
from tests.conftest import missing
from tests.features.support import same

AT = datetime(2011, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True, scope="module")
def client() -> None:
    try:
        import openlineage.client  # noqa: F401
    except ImportError:
        missing("the extra lineage (openlineage-python) is not installed")


def events() -> dict[str, dict[str, Any]]:
    return {one["job"]["name"]: one for one in lineage_events([credit_risk], namespace="here", at=AT)}


def lineage(event: dict[str, Any]) -> dict[str, set[tuple[str, str]]]:
    facet = event["outputs"][0]["facets"]["columnLineage"]
    return {
        name: {(read["name"], read["field"]) for read in fields["inputFields"]}
        for name, fields in facet["fields"].items()
    }


def test_there_is_one_event_a_view_and_one_a_training_set_and_it_is_one_of_the_specification() -> None:
    (view,) = credit_risk.stored_views
    found = events()
    assert set(found) == {view.table, "credit_risk/training_set"}
    for event in found.values():
        assert event["schemaURL"].startswith("https://openlineage.io/spec/")
        assert event["schemaURL"].endswith("JobEvent")
        assert event["eventTime"] == "2011-01-01T00:00:00.000000Z"
        assert all(facet["_schemaURL"] for facet in event["outputs"][0]["facets"].values())
    assert found[view.table]["outputs"][0]["name"] in {
        one["name"] for one in found["credit_risk/training_set"]["inputs"]
    }


def test_every_feature_is_traced_and_the_views_by_hand() -> None:
    (view,) = credit_risk.stored_views
    found = events()
    traced = lineage(found["credit_risk/training_set"])
    assert set(traced) == {*credit_risk.feature_names, "defaulted"}
    assert traced["annual_inc"] == {("sources/applications", "annual_inc")}
    assert traced["defaulted_mean_720d"] == {(view.table, "defaulted_mean_720d")}
    derived = credit_risk.request.derived
    assert derived
    assert all(traced[name] for name in derived)
    assert set(lineage(found[view.table])) == {"defaulted_mean_720d"}
    assert ("sources/outcomes", "defaulted") in lineage(found[view.table])["defaulted_mean_720d"]


def test_sql_is_traced_through_joins_and_renames() -> None:
    loans = Source(
        "loans",
        columns={"loan": "int64", "who": "int64", "at": "timestamp", "amount": "float64"},
        keys=("loan",),
        event_time="at",
        known_time=same(),
    )
    people = Source(
        "people",
        columns={"who": "int64", "since": "timestamp", "income": "float64", "unused": "float64"},
        keys=("who",),
        event_time="since",
        known_time=same(),
    )
    view = FeatureView(
        "burden",
        entity=Entity("loan", ("loan",)),
        sql="with p as (select who, income * 12 as yearly from people) "
        "select l.loan as loan, l.at, l.amount / p.yearly as share from loans l join p on l.who = p.who",
        inputs=(loans, people),
        columns=(number("share", nullable=True),),
        event_time="at",
        known_time=same(),
        about=About(owners=("team:x",), description="How much of a year"),
    )
    model = _with(view)
    (event, _) = lineage_events([model], namespace="here", at=AT)
    assert lineage(event) == {"share": {("sources/loans", "amount"), ("sources/people", "income")}}
    assert event["job"]["facets"]["ownership"]["owners"] == [{"name": "team:x"}]
    assert event["job"]["facets"]["documentation"]["description"] == "How much of a year"
    assert "join" in event["job"]["facets"]["sql"]["query"]


def _with(view: FeatureView) -> Model:
    from ml_platform import Label, LightGBM, RequestView, at_least

    rows = Source(
        "requests",
        columns={"loan": "int64", "at": "timestamp", "amount_asked": "float64"},
        keys=("loan",),
        event_time="at",
        known_time=same(),
    )
    ends = Source(
        "ends",
        columns={"loan": "int64", "at": "timestamp", "bad": "int64"},
        keys=("loan",),
        event_time="at",
        known_time=same(),
    )
    loan = Entity("loan", ("loan",))
    request = RequestView("request", entity=loan, source=rows, time="at", columns=(number("amount_asked"),))
    label = Label(rows=request, outcome=ends, column="bad", kind="event_within", horizon="1mo")
    trainer = LightGBM(objective="binary", num_leaves=4, learning_rate=0.1, rounds=5, min_data_in_leaf=5)
    return Model("m", entity=loan, features=[request, view], label=label, trainer=trainer, gates=[at_least("auc", 0.5)])


def test_aggregations_say_what_they_are_grouped_by() -> None:
    (view,) = credit_risk.stored_views
    facet = events()[view.table]["outputs"][0]["facets"]["columnLineage"]
    how = {
        (read["field"], step["type"], step["subtype"]) for read in facet["dataset"] for step in read["transformations"]
    }
    assert ("purpose", "INDIRECT", "GROUP_BY") in how
    direct = {
        step["subtype"]
        for field in facet["fields"].values()
        for read in field["inputFields"]
        for step in read["transformations"]
    }
    assert direct == {"AGGREGATION"}


def test_dagster_shows_the_same_columns() -> None:
    from ml_platform.orchestration.columns import training_lineage, view_lineage
    from ml_platform.orchestration.keys import SourceKeys

    (view,) = credit_risk.stored_views
    found, keys = events(), SourceKeys()
    for event, shown in (
        (found[view.table], view_lineage([view], keys)),
        (found["credit_risk/training_set"], training_lineage(credit_risk, keys)),
    ):
        inside = {
            name: {("/".join(dep.asset_key.path), dep.column_name) for dep in deps}
            for name, deps in shown.deps_by_column.items()
        }
        # Dagster has one asset for all definitions of a view, the catalogue a data set for each.
        ours = {
            name: {(dataset.replace(view.table, "features/purpose_history"), column) for dataset, column in pairs}
            for name, pairs in lineage(event).items()
        }
        assert ours == inside


def test_the_namespace_is_the_root_unless_one_is_given(empty: Platform, tmp_path: Path) -> None:
    found = export_lineage(empty, [credit_risk])
    assert {one["job"]["namespace"] for one in found} == {f"ml-platform/{empty.root_id}"}
    assert {one["job"]["namespace"] for one in export_lineage(empty, [credit_risk], "bank")} == {"bank"}
    assert json.dumps(found)
