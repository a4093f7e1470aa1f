from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from assets.credit_risk import credit_risk
from ml_platform import FeatureView, Model
from ml_platform.core.digests import short
from ml_platform.core.errors import DeclarationError, SettingsError
from ml_platform.orchestration import PlatformResource, definitions

ASSETS = {
    "credit_risk/batch_predictions": ["credit_risk/production", "sources/applications"],
    "credit_risk/canary": ["credit_risk/registered_version"],
    "credit_risk/data_profile": ["credit_risk/prediction_log"],
    "credit_risk/drift_report": ["credit_risk/data_profile"],
    "credit_risk/evaluation": [
        "credit_risk/trained_model",
        "credit_risk/training_set",
        "sources/restricted_applicants",
    ],
    "credit_risk/performance_report": ["credit_risk/prediction_log", "sources/outcomes"],
    "credit_risk/prediction_log": ["credit_risk/batch_predictions", "credit_risk/triton_repository"],
    "credit_risk/production": ["credit_risk/registered_version"],
    "credit_risk/registered_version": ["credit_risk/evaluation"],
    "credit_risk/staging": ["credit_risk/registered_version"],
    "credit_risk/trained_model": ["credit_risk/training_set"],
    "credit_risk/triton_repository": ["credit_risk/canary", "credit_risk/production"],
    "credit_risk/training_set": ["features/purpose_history", "sources/applications", "sources/outcomes"],
    "features/purpose_history": ["sources/applications", "sources/outcomes"],
    "sources/applications": [],
    "sources/outcomes": [],
    "sources/restricted_applicants": [],
}
KINDS = {
    "credit_risk/batch_predictions": {"onnx", "deltalake"},
    "credit_risk/evaluation": {"python"},
    "credit_risk/trained_model": {"lightgbm", "onnx"},
    "credit_risk/training_set": {"duckdb", "parquet"},
    "features/purpose_history": {"duckdb", "deltalake"},
    "sources/applications": {"deltalake"},
}
GATES = {
    "at_least_auc",
    "brier_skill",
    "calibrated",
    "group_ratio_approval_rate_applicant_group",
    "not_worse_than_production_auc",
    "onnx_parity",
}


def specs(defs: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}


@pytest.fixture(scope="module")
def defs() -> dg.Definitions:
    return definitions([credit_risk])


@pytest.fixture(scope="module")
def found(defs: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return specs(defs)


def test_one_model_gives_exactly_these_assets_and_arrows(found: dict[str, dg.AssetSpec]) -> None:
    arrows = {key: sorted(dep.asset_key.to_user_string() for dep in spec.deps) for key, spec in found.items()}
    assert arrows == ASSETS


def test_assets_have_group_owners_kinds_and_a_description(found: dict[str, dg.AssetSpec]) -> None:
    for key, spec in found.items():
        first = key.split("/")[0]
        assert spec.group_name == {"sources": "ml/sources", "features": "ml/features"}.get(first, "ml/credit_risk")
        assert spec.description, key
        if first != "sources":
            assert list(spec.owners) == ["team:credit"], key
    assert {key: found[key].kinds for key in KINDS} == KINDS


def test_code_versions_change_with_the_declaration_that_the_asset_is_made_of(found: dict[str, dg.AssetSpec]) -> None:
    other = specs(definitions([replace(credit_risk, gates=[*credit_risk.gates[:-1]])]))
    for noun in ("training_set", "trained_model", "evaluation", "registered_version"):
        key = f"credit_risk/{noun}"
        assert found[key].code_version == short(credit_risk.digest)
        assert other[key].code_version != found[key].code_version
    view = credit_risk.stored_views[0]
    assert found["features/purpose_history"].code_version == view.short_digest
    for key in ("features/purpose_history", "credit_risk/batch_predictions"):
        assert other[key].code_version == found[key].code_version, "decided months stay decided"


def test_candidates_are_dynamic_and_months_are_monthly(found: dict[str, dg.AssetSpec]) -> None:
    for noun in ("training_set", "trained_model", "evaluation", "registered_version"):
        partitions = found[f"credit_risk/{noun}"].partitions_def
        assert isinstance(partitions, dg.DynamicPartitionsDefinition)
        assert partitions.name == "ml/credit_risk/candidates"
    for key in ("features/purpose_history", "credit_risk/batch_predictions"):
        months = found[key].partitions_def
        assert isinstance(months, dg.MonthlyPartitionsDefinition)
        assert months.get_partition_keys()[0] == "2000-01"
    for alias in ("staging", "canary", "production"):
        assert found[f"credit_risk/{alias}"].partitions_def is None


def test_a_training_set_reads_any_month_of_its_features(found: dict[str, dg.AssetSpec]) -> None:
    (dep,) = [dep for dep in found["credit_risk/training_set"].deps if dep.asset_key.path[0] == "features"]
    assert isinstance(dep.partition_mapping, dg.AllPartitionMapping)


def test_a_range_of_feature_months_is_one_run(defs: dg.Definitions) -> None:
    asset = defs.resolve_assets_def(dg.AssetKey(["features", "purpose_history"]))
    assert asset.backfill_policy == dg.BackfillPolicy.single_run()


def test_aliases_are_reported_and_never_computed(defs: dg.Definitions) -> None:
    for alias in ("staging", "canary", "production"):
        assert not defs.resolve_asset_graph().get(dg.AssetKey(["credit_risk", alias])).is_materializable


def test_every_gate_is_a_blocking_check_of_the_evaluation(defs: dg.Definitions) -> None:
    evaluation = dg.AssetKey(["credit_risk", "evaluation"])
    checks = list(defs.resolve_assets_def(evaluation).check_specs)
    assert {check.name for check in checks} == GATES
    assert all(check.blocking and check.asset_key == evaluation for check in checks)
    assert all(check.description and check.metadata["ml/gate"] for check in checks)


def test_columns_say_their_type_and_whether_they_may_be_null(found: dict[str, dg.AssetSpec]) -> None:
    schema = found["credit_risk/training_set"].metadata["dagster/column_schema"]
    columns = {column.name: column for column in schema.columns}
    assert list(columns)[:2] == ["loan_id", "applied_at"]
    assert list(columns)[-3:] == ["defaulted", "matured_at", "split"]
    assert set(credit_risk.feature_names) <= set(columns)
    assert (columns["loan_amnt"].type, columns["loan_amnt"].constraints.nullable) == ("float32", False)
    assert (columns["annual_inc"].type, columns["annual_inc"].constraints.nullable) == ("float32", True)
    assert (columns["term"].type, columns["defaulted"].type) == ("string", "int64")
    view = found["features/purpose_history"].metadata["dagster/column_schema"]
    assert [(column.name, column.type) for column in view.columns] == [
        ("purpose", "string"),
        ("defaulted_mean_720d", "float64"),
    ]


def test_jobs_schedules_and_sensors_of_a_model(defs: dg.Definitions) -> None:
    jobs = {job.name for job in defs.resolve_all_job_defs() if not job.name.startswith("__")}
    assert jobs == {
        "credit_risk_train",
        "credit_risk_score_batch",
        "materialize_features",
        "request_candidate",
        "promote",
        "rollback",
        "push_repositories",
        "seal",
        "monitor",
        "measure_performance",
        "ask_retrain",
        "decide_retrain",
        "start_retrain",
        "finish_retrain",
    }
    for name in jobs:
        assert defs.resolve_job_def(name).executor_def == dg.in_process_executor, name
    schedule = defs.resolve_schedule_def("credit_risk_score_batch_newest")
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    assert schedule.job_name == "credit_risk_score_batch"
    assert defs.resolve_sensor_def("reconcile").default_status == dg.DefaultSensorStatus.RUNNING


def test_the_train_job_is_the_four_assets_of_a_candidate(defs: dg.Definitions) -> None:
    job = defs.resolve_job_def("credit_risk_train")
    assert {key.path[1] for key in job.asset_layer.executable_asset_keys} == {
        "training_set",
        "trained_model",
        "evaluation",
        "registered_version",
    }


def test_a_source_that_others_deliver_keeps_their_key_and_is_not_landed() -> None:
    theirs = dg.AssetKey(["dbt", "loans"])
    defs = definitions([credit_risk], sources={"applications": theirs})
    found = specs(defs)
    assert "sources/applications" not in found
    assert "dbt/loans" in {dep.asset_key.to_user_string() for dep in found["credit_risk/training_set"].deps}
    assert not defs.resolve_asset_graph().get(theirs).is_materializable
    assert defs.resolve_asset_graph().get(dg.AssetKey(["sources", "outcomes"])).is_materializable


def test_a_binding_of_a_source_that_nobody_reads_is_refused() -> None:
    with pytest.raises(DeclarationError, match="payments"):
        definitions([credit_risk], sources={"payments": dg.AssetKey("payments")})


def test_models_share_a_view_and_its_asset(small: Model) -> None:
    found = specs(definitions([small, replace(credit_risk, owners=["team:credit", "ada@example.org"])]))
    assert [key for key in found if key.startswith("features/")] == ["features/purpose_history"]
    shared = found["features/purpose_history"]
    assert list(shared.owners) == ["ada@example.org", "team:credit"]
    assert shared.code_version == credit_risk.stored_views[0].short_digest
    assert {"small/training_set", "credit_risk/training_set"} <= set(found)


def test_two_definitions_of_one_view_are_one_asset_with_both_tables(small: Model) -> None:
    view = small.stored_views[0]
    weekly = FeatureView(
        view.name, entity=view.entity, source=view.source, aggregations=view.aggregations, refresh="7d"
    )
    found = specs(definitions([credit_risk, replace(small, features=[small.request, weekly])]))
    shared = found["features/purpose_history"]
    assert set(shared.code_version.split("+")) == {view.short_digest, weekly.short_digest}
    assert sorted(shared.metadata["ml/tables"]) == sorted([view.table, weekly.table])


def test_two_models_of_one_name_are_refused(small: Model) -> None:
    with pytest.raises(DeclarationError, match="small"):
        definitions([small, replace(small, description="another")])


@pytest.mark.parametrize("name", ["features", "sources"])
def test_a_model_cannot_take_the_name_of_shared_assets(small: Model, name: str) -> None:
    with pytest.raises(DeclarationError, match="shared assets"):
        definitions([replace(small, name=name)])


def test_a_second_code_location_of_another_team_loads_beside_the_first(tmp_path: Path) -> None:
    (tmp_path / "churn.py").write_text(SECOND_LOCATION)
    (tmp_path / "workspace.yaml").write_text(
        "load_from: [{python_file: {relative_path: churn.py, location_name: churn, working_directory: .}}]\n"
    )
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "-w", "workspace.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_loading_opens_nothing(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    dg.Definitions.validate_loadable(definitions([credit_risk], absent))
    assert not absent.exists()
    with pytest.raises(SettingsError, match="mlp"):
        PlatformResource(root=str(absent)).open()


def test_without_a_root_the_environment_of_the_run_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ML_PLATFORM_SETTINGS", raising=False)
    with pytest.raises(SettingsError, match="ML_PLATFORM_SETTINGS"):
        PlatformResource().open()
    monkeypatch.setenv("ML_PLATFORM_SETTINGS", str(tmp_path / "settings.toml"))
    with pytest.raises(SettingsError, match=r"settings\.toml"):
        PlatformResource().open()


def test_importing_and_loading_imports_no_engine() -> None:
    heavy = ("lightgbm", "matplotlib", "duckdb", "onnx", "onnxruntime", "sqlalchemy", "deltalake", "pandas")
    code = (
        "import sys; from assets.credit_risk import credit_risk; from ml_platform.orchestration import definitions;"
        "import dagster as dg; dg.Definitions.validate_loadable(definitions([credit_risk]));"
        f"sys.exit(', '.join(name for name in {heavy!r} if name in sys.modules) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_private_deprecated_beta_or_preview_of_dagster_is_used(repository: Path) -> None:
    ours = [*(repository / "ml_platform" / "orchestration").glob("*.py"), repository / "definitions.py"]
    for folder in ("jobs", "sensors", "resources"):
        ours += (repository / folder).glob("*.py")
    for path in ours:
        assert "dagster._" not in path.read_text(), path
    code = (
        "import warnings, dagster as dg;"
        "[warnings.simplefilter('error', kind) for kind in"
        " (DeprecationWarning, dg.BetaWarning, dg.PreviewWarning, dg.SupersessionWarning)];"
        "import definitions; dg.Definitions.validate_loadable(definitions.defs)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


SECOND_LOCATION = """
from ml_platform import Decline, Entity, Function, Label, LightGBM, Model, RequestView, SameAsEvent, Source
from ml_platform import at_least, number
from ml_platform.orchestration import definitions

visits = Source("visits", columns={"customer_id": "int64", "seen_at": "timestamp", "pages": "float64"},
                keys=("customer_id",), event_time="seen_at", known_time=SameAsEvent(reason="logged by the site"))
leavers = Source("leavers", columns={"customer_id": "int64", "left": "int64", "known_at": "timestamp"},
                 keys=("customer_id",), event_time="known_at", known_time="known_at")
customer = Entity("customer", keys=("customer_id",), personal=True)
visit = RequestView("visit", entity=customer, source=visits, time="seen_at", columns=[number("pages")])
churn = Model(name="churn", entity=customer, owners=["team:growth"], features=[visit],
              label=Label(rows=visit, outcome=leavers, column="left", kind="event_within", horizon="3mo"),
              trainer=LightGBM(objective="binary", num_leaves=4, learning_rate=0.1, rounds=5, min_data_in_leaf=5),
              gates=[at_least("auc", 0.6)], decision=Decline(above=0.5, reasons={"pages": "Few visits"}))
defs = definitions([churn])
"""
