"""The real thing: one root, one Dagster instance, jobs and sensor, in the order in which a team uses them."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import pytest

from ml_platform import lifecycle
from ml_platform.core.digests import parse_canonical
from ml_platform.core.errors import GateFailed
from ml_platform.orchestration import reconcile_now, request_candidate
from ml_platform.orchestration.batch import newest_window
from ml_platform.orchestration.jobs import PromoteConfig, RollbackConfig
from ml_platform.orchestration.keys import candidates_name

CANDIDATE = ("training_set", "trained_model", "evaluation", "registered_version")
WHY = "tested by the suite"


def at(year: int, month: int) -> datetime:
    return datetime(year, month, 1, tzinfo=UTC)


def train(world, name: str, as_of: datetime) -> tuple[str, dg.ExecuteInProcessResult]:
    asked = world.run(
        "request_candidate",
        run_config={"ops": {"request_candidate_op": {"config": {"model": name, "as_of": as_of.isoformat()}}}},
    )
    assert asked.success
    (key,) = [
        candidate.key
        for candidate in world.platform.registry.state().model(name).candidates.values()
        if candidate.key.startswith(f"{as_of:%Y%m%d}")
    ]
    return key, world.run(f"{name}_train", partition_key=key)


def move(world, version: int, to: str) -> None:
    # The code folder has no history, so the author is unknown and two people must approve.
    for person in ("ada", "bob") if to != "staging" else ():
        key = world.platform.secrets.path("people") / person
        lifecycle.approve(world.platform, "small", version, to, key=key, reason=WHY)
    config = PromoteConfig(model="small", version=version, to=to, principal="ops", reason=WHY)
    assert world.run("promote", run_config=dg.RunConfig({"promote_op": config})).success


def rollback(world, version: int | None = None) -> None:
    config = RollbackConfig(model="small", version=version, principal="ops", reason=WHY)
    assert world.run("rollback", run_config=dg.RunConfig({"rollback_op": config})).success


def tick(world, cursor: str | None, *, dies: bool = False) -> str | None:
    """One tick as the daemon runs it: evaluate, report, store the cursor last; or die before storing it."""
    sensor = world.defs.resolve_sensor_def("reconcile")
    context = dg.build_sensor_context(instance=world.instance, cursor=cursor, resources={"ml_platform": world.resource})
    found = sensor(context)
    if isinstance(found, dg.SkipReason):
        return cursor
    for event in found.asset_events:
        world.instance.report_runless_asset_event(event)
    return cursor if dies else found.cursor


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {one.check_name: one for one in result.get_asset_check_evaluations()}


@pytest.fixture(scope="module")
def first(world) -> str:
    """Version 1 of ``small``, trained as of 2010-01-01."""
    key, result = train(world, "small", at(2010, 1))
    assert result.success
    return key


@pytest.fixture(scope="module")
def promoted(world, first: str) -> str:
    """Version 1 in production, reported by the sensor; the cursor."""
    for stage in ("staging", "canary", "production"):
        move(world, 1, stage)
    cursor = tick(world, None)
    assert cursor is not None
    return cursor


@pytest.fixture(scope="module")
def scored(world, promoted: str) -> str:
    """January and February 2010 decided by version 1; the cursor."""
    world.platform.replay.move(at(2010, 3))
    for month in ("2010-01", "2010-02"):
        assert world.run("small_score_batch", partition_key=month).success
    return promoted


def test_landing_a_file_twice_adds_nothing(world) -> None:
    before = world.shown("sources", "applications")[-1]
    assert before.metadata["ml/added"].value == before.metadata["dagster/row_count"].value == 36_000
    assert before.tags["dagster/data_version"] == str(before.metadata["ml/table_version"].value)
    world.land(world.root.parent / "market")
    after = world.shown("sources", "applications")[-1]
    assert after.metadata["ml/added"].value == 0
    assert after.tags["dagster/data_version"] == before.tags["dagster/data_version"]


def test_a_range_of_months_is_one_run_and_one_data_version(world) -> None:
    tags = {"dagster/asset_partition_range_start": "2009-10", "dagster/asset_partition_range_end": "2009-12"}
    versions = []
    for _ in range(2):
        assert world.run("materialize_features", tags=tags).success
        versions.append(world.versions("features", "purpose_history", partition="2009-11")[-1])
    key = dg.AssetKey(["features", "purpose_history"])
    assert world.instance.get_materialized_partitions(key) == {"2009-10", "2009-11", "2009-12"}
    assert versions[0] == versions[1]
    shown = world.shown("features", "purpose_history", partition="2009-12")[-1].metadata
    assert list(shown["ml/tables"].value) == [world.models[1].stored_views[0].table]
    lineage = shown["dagster/column_lineage"].value.deps_by_column["defaulted_mean_720d"]
    assert ("sources/outcomes", "defaulted") in {(d.asset_key.to_user_string(), d.column_name) for d in lineage}


def test_a_month_that_is_not_over_is_refused(world) -> None:
    result = world.run("materialize_features", partition_key="2024-01")
    assert not result.success
    assert not world.versions("features", "purpose_history", partition="2024-01")


def test_data_versions_are_the_digests_that_the_registry_holds(world, first: str) -> None:
    digests = world.platform.registry.state().version("small", 1).digests
    shown = {noun: world.versions("small", noun, partition=first)[0] for noun in CANDIDATE}
    assert shown == {
        "training_set": digests.training_set,
        "trained_model": digests.artifact,
        "evaluation": digests.evaluation,
        "registered_version": "v1",
    }


def test_each_asset_carries_its_own_manifest(world, first: str) -> None:
    training_set, trained, evaluation, registered = (
        world.shown("small", noun, partition=first)[0].metadata for noun in CANDIDATE
    )
    manifest = training_set["ml/manifest"].value
    assert manifest["as_of"] == "2010-01-01T00:00:00.000000Z"
    assert training_set["dagster/row_count"].value == training_set["ml/train_rows"].value + (
        training_set["ml/test_rows"].value
    )
    assert training_set["ml/immature_rows"].value > 0
    record = parse_canonical(world.platform.objects.get(trained["ml/run_record_digest"].value))
    assert trained["ml/code"].value == record["code"]
    assert trained["ml/sources"].value == record["sources"]
    assert isinstance(evaluation["ml/metric_auc"].value, float)
    assert registered["ml/log_index"].value == world.platform.registry.state().version("small", 1).registered


def test_the_evaluation_shows_its_pictures_in_fifty_kilobytes_each(world, first: str) -> None:
    shown = world.shown("small", "evaluation", partition=first)[0].metadata
    pictures = {name: value.value for name, value in shown.items() if name.startswith("ml/plot_")}
    assert set(pictures) == {"ml/plot_roc", "ml/plot_calibration", "ml/plot_scores", "ml/plot_psi"}
    for name, markdown in pictures.items():
        assert "](data:image/png;base64," in markdown, name
        assert len(markdown) * 3 / 4 <= 50_500, name


def test_a_second_run_of_a_candidate_changes_nothing(world, first: str) -> None:
    assert world.run("small_train", partition_key=first).success
    for noun in CANDIDATE:
        versions = world.versions("small", noun, partition=first)
        assert len(versions) >= 2
        assert len(set(versions)) == 1, noun
    assert set(world.platform.registry.state().model("small").versions) == {1}


def test_a_red_gate_stops_the_run_and_keeps_the_evidence(world) -> None:
    key, result = train(world, "hopeless", at(2010, 1))
    assert not result.success
    found = checks(result)["at_least_auc"]
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.ERROR
    assert found.blocking
    facts = {name: value.value for name, value in found.metadata.items()}
    assert facts["ml/verdict"] == "fail"
    assert facts["ml/threshold"] == 0.99
    assert facts["ml/low"] <= facts["ml/point"] <= facts["ml/high"] < 0.99
    assert facts["ml/reason"]
    assert world.versions("hopeless", "evaluation", partition=key)
    assert not world.versions("hopeless", "registered_version", partition=key)


def test_the_registry_refuses_what_another_run_tries_around_the_gate(world) -> None:
    (key,) = world.platform.registry.state().model("hopeless").candidates
    registered = world.defs.resolve_assets_def(dg.AssetKey(["hopeless", "registered_version"]))
    with pytest.raises(GateFailed):
        dg.materialize([registered], instance=world.instance, partition_key=key)
    assert not world.platform.registry.state().model("hopeless").versions


def test_aliases_show_what_the_log_says(world, promoted: str) -> None:
    assert world.versions("small", "production") == ["v1"]
    assert world.versions("small", "canary") == ["v1", "none"]
    assert world.versions("small", "staging") == ["v1", "none"]
    shown = world.shown("small", "production")[-1].metadata
    entry = world.platform.registry.entry(shown["ml/log_index"].value)
    assert (entry.kind, entry.body["to"]) == ("transition", "production")
    assert shown["ml/approvers"].value == ["ada", "bob"]
    assert shown["ml/actor"].value == "ops"
    assert shown["ml/effective_at"].value == "2010-01-01T00:00:00.000000Z"


def test_what_a_run_has_shown_is_not_reported_by_the_sensor(world, promoted: str, first: str) -> None:
    runs = [
        record.run_id
        for record in world.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=dg.AssetKey(["small", "registered_version"]), asset_partitions=[first]),
            limit=100,
        ).records
    ]
    assert all(runs), "an empty run id is an event of the sensor"


def test_a_tick_with_nothing_new_reports_nothing(world, promoted: str) -> None:
    before = world.versions("small", "canary")
    assert tick(world, promoted) == promoted
    assert tick(world, None) is not None
    assert reconcile_now(world.platform, world.instance, world.models) == int(promoted)
    assert world.versions("small", "canary") == before


def test_a_batch_depends_on_the_version_that_decided(world, scored: str) -> None:
    (event,) = world.shown("small", "batch_predictions", partition="2010-01")
    assert event.tags["dagster/input_data_version/small/production"] == "v1"
    assert event.metadata["ml/version"].value == 1
    assert event.metadata["ml/rows"].value == event.metadata["dagster/partition_row_count"].value > 0
    assert event.tags["dagster/data_version"] == event.metadata["ml/root"].value


def test_scoring_a_month_again_is_a_no_op(world, scored: str) -> None:
    size = world.platform.registry.state().size
    assert world.run("small_score_batch", partition_key="2010-01").success
    assert len(set(world.versions("small", "batch_predictions", partition="2010-01"))) == 1
    assert world.platform.registry.state().size == size


def test_a_cli_candidate_gets_its_partition_and_its_version_from_the_log(world, scored: str) -> None:
    world.platform.replay.move(at(2010, 7))
    made = lifecycle.build_candidate(world.platform, world.models[1], at(2010, 7), code=world.root.parent)
    assert not world.instance.has_dynamic_partition(candidates_name("small"), made.candidate.key)
    cursor = tick(world, scored, dies=True)
    assert tick(world, cursor) != scored
    assert world.instance.has_dynamic_partition(candidates_name("small"), made.candidate.key)
    assert world.versions("small", "registered_version", partition=made.candidate.key) == ["v2"]


def test_promotion_and_rollback_ask_for_the_newest_month_only(world, scored: str) -> None:
    small = world.models[1]
    world.platform.replay.move(at(2010, 8))
    past = world.versions("small", "batch_predictions", partition="2010-01")
    for stage in ("staging", "canary", "production"):
        move(world, 2, stage)
    cursor = tick(world, scored)
    assert world.versions("small", "production") == ["v1", "v2"]

    asked = newest_window(world.instance, small, at(2010, 8))
    assert isinstance(asked, dg.RunRequest)
    assert asked.partition_key == "2010-07"
    assert world.run("small_score_batch", partition_key="2010-07").success
    assert world.shown("small", "batch_predictions", partition="2010-07")[-1].metadata["ml/version"].value == 2

    rollback(world)
    cursor = tick(world, cursor, dies=True)
    cursor = tick(world, cursor)
    assert world.versions("small", "production") == ["v1", "v2", "v1"]
    assert isinstance(newest_window(world.instance, small, at(2010, 8)), dg.SkipReason)
    assert world.versions("small", "batch_predictions", partition="2010-01") == past


def test_a_candidate_is_not_what_decides(world, scored: str) -> None:
    """Retraining leaves ``production`` as it is: predictions are credited to what decided."""
    before = world.versions("small", "production")
    world.platform.replay.move(at(2010, 9))
    request_candidate(world.platform, world.instance, world.models[1], at(2010, 9), code=world.root.parent)
    reconcile_now(world.platform, world.instance, world.models)
    assert world.versions("small", "production") == before


def test_a_new_instance_is_told_everything_in_log_order(world, scored: str, instance: dg.DagsterInstance) -> None:
    end = reconcile_now(world.platform, instance, world.models)
    assert end == world.platform.registry.state().size
    key = dg.AssetKey(["small", "production"])
    records = instance.fetch_materializations(key, limit=10, ascending=True).records
    found = [record.asset_materialization for record in records]
    assert [one.tags["dagster/data_version"] for one in found if one] == world.versions("small", "production")
    indexes = [one.metadata["ml/log_index"].value for one in found if one]
    assert indexes == sorted(set(indexes))
