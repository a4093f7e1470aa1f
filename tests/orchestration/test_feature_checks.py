"""Quality of stored features in Dagster: a failed check with numbers, other periods visible, a year by chunks."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from ml_platform import Model
from ml_platform.core.clock import ReplayClock
from ml_platform.features.about import About, Deprecated
from ml_platform.features.quality import in_range, null_rate, volume
from ml_platform.lifecycle import view_freshness
from ml_platform.lifecycle.rejected import read_rejected, rejected_periods
from ml_platform.orchestration import definitions
from ml_platform.orchestration.feature_checks import freshness_check
from ml_platform.orchestration.keys import SourceKeys
from ml_platform.orchestration.views import shared_views, view_asset
from tests.orchestration.conftest import World, variant

KEY = dg.AssetKey(["features", "purpose_history"])


def with_about(name: str, *, refresh: str = "1d", **about: Any) -> Model:
    """Another refresh is another definition, and so a table of its own in the shared root."""
    model = variant(name, protected=[])
    (view,) = model.stored_views
    return replace(model, features=[model.request, replace(view, refresh=refresh, about=About(**about))])


def asset_of(model: Model) -> dg.AssetsDefinition:
    (shared,) = shared_views([model])
    return view_asset(shared, SourceKeys())


def run(world: World, asset: dg.AssetsDefinition, first: str, last: str) -> dg.ExecuteInProcessResult:
    ranged = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    return dg.materialize(
        [asset], instance=world.instance, resources={"ml_platform": world.resource}, tags=ranged, raise_on_error=False
    )


def test_a_period_that_fails_shows_as_a_failed_check_with_its_numbers_and_the_others_are_materialised(
    world: World,
) -> None:
    model = with_about("judged", quality=(in_range("defaulted_mean_720d", most=0.999), volume(most=10)))
    (view,) = model.stored_views
    done = run(world, asset_of(model), "2008-03", "2008-08")
    results = {one.check_name: one for one in done.get_asset_check_evaluations()}
    assert set(results) == {"range_defaulted_mean_720d", "volume"}
    failed = results["volume"].metadata["ml/failed_periods"].value
    assert not done.success
    assert not results["volume"].passed
    assert 0 < len(failed) < 6
    measured = results["volume"].metadata["ml/measured"].value
    assert set(measured) == set(failed)
    assert all(one["rows"] > 10 for one in measured.values())
    assert f"{failed[0]}: volume: rows {measured[failed[0]]['rows']:g}, " in results["volume"].description
    visible = {event.partition for event in world.shown(*KEY.path)}
    assert visible == {f"2008-0{month}" for month in range(3, 9)} - set(failed)
    assert set(rejected_periods(world.platform, view)) == set(failed)
    evidence = results["volume"].metadata["ml/evidence"].value
    kept = read_rejected(world.platform, evidence[0])
    assert kept["period"] in failed
    rows = pq.read_table(pa.BufferReader(world.platform.objects.get(kept["data"])))
    assert rows.num_rows == kept["rows"] == measured[kept["period"]]["rows"]


def test_what_passes_is_green_and_a_rerun_measures_nothing_again(world: World) -> None:
    model = with_about("passing", refresh="12h", quality=(null_rate("defaulted_mean_720d", most=1.0), volume(least=0)))
    asset = asset_of(model)
    first = run(world, asset, "2008-01", "2008-03")
    assert first.success
    assert all(one.passed for one in first.get_asset_check_evaluations())
    assert [one.metadata["ml/periods"].value for one in first.get_asset_check_evaluations()] == [3, 3]
    again = run(world, asset, "2008-01", "2008-03")
    assert again.success
    assert [one.metadata["ml/periods"].value for one in again.get_asset_check_evaluations()] == [0, 0]


def test_a_view_by_days_has_daily_partitions_and_its_range_is_one_run(world: World) -> None:
    model = with_about(
        "daily", refresh="8h", partition="day", owners=("team:features",), description="How often a purpose defaults"
    )
    asset = asset_of(model)
    assert isinstance(asset.partitions_def, dg.DailyPartitionsDefinition)
    assert asset.backfill_policy == dg.BackfillPolicy.multi_run(max_partitions_per_run=366)
    (spec,) = asset.specs
    assert list(spec.owners) == ["team:features"]
    assert "How often a purpose defaults." in (spec.description or "")
    done = run(world, asset, "2007-12-28", "2008-01-02")
    assert done.success
    assert len([event for event in done.all_events if event.is_step_success]) == 1
    shown = {event.partition for event in world.shown(*KEY.path)}
    assert {"2007-12-28", "2007-12-31", "2008-01-02"} <= shown
    hourly = asset_of(with_about("hourly", partition="hour"))
    assert isinstance(hourly.partitions_def, dg.HourlyPartitionsDefinition)
    assert hourly.backfill_policy == dg.BackfillPolicy.multi_run(max_partitions_per_run=168)


def test_freshness_is_a_check_with_gauges(world: World) -> None:
    model = with_about("fresh", refresh="6h", freshness="40d")
    (view,) = model.stored_views
    (declared,) = definitions([model]).asset_checks or []
    assert isinstance(declared, dg.AssetChecksDefinition)
    assert declared.check_keys == {dg.AssetCheckKey(KEY, "fresh")}
    check = freshness_check(view)

    def evaluate() -> dg.AssetCheckEvaluation:
        done = dg.materialize(
            [asset_of(model), check], instance=world.instance, resources={"ml_platform": world.resource},
            selection=dg.AssetSelection.checks(dg.AssetCheckKey(KEY, "fresh")),
        )  # fmt: skip
        (one,) = done.get_asset_check_evaluations()
        return one

    assert run(world, asset_of(model), "2009-10", "2009-12").success
    found = evaluate()
    assert found.passed
    assert found.metadata["ml/lag_seconds"].value == 0.0
    assert view_freshness(world.platform, view).complete_until == datetime(2010, 1, 1, tzinfo=UTC)
    ReplayClock(world.root / "clock").move(datetime(2010, 3, 13, tzinfo=UTC))
    late = evaluate()  # January was due 40 days after its end: on 13 March
    assert not late.passed
    assert late.metadata["ml/lag_seconds"].value == 71 * 86_400.0
    assert "2010-01-01" in (late.description or "")


def test_a_deprecated_view_says_so_in_the_graph() -> None:
    model = with_about("old", deprecated=Deprecated("2011-01-01", "It counts twice", instead="purpose_history_2"))
    (spec,) = asset_of(model).specs
    assert "Deprecated since 2011-01-01: It counts twice. Use purpose_history_2 instead." in (spec.description or "")
