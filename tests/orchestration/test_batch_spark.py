"""`mlp score` and the Dagster asset on the real Spark, by the root's settings alone: the same records as without."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest
from dagster_pyspark import PySparkResource

from ml_platform import Platform, lifecycle
from ml_platform.core.errors import SettingsError
from ml_platform.orchestration import PlatformResource, definitions
from ml_platform.orchestration.batch import batch_asset
from ml_platform.orchestration.keys import SourceKeys
from ml_platform.serving import batch
from ml_platform.serving.spark import SparkEngine
from tests.lifecycle import tiny, two_versions

MONTH, APRIL = "2026-03", datetime(2026, 4, 1, tzinfo=UTC)
NAME = tiny.late_parcel.name
TABLES = [f"{NAME}/predictions", f"{NAME}/predictions_personal", f"{NAME}/quarantine", "index/entities"]


@pytest.fixture(scope="module")
def decided_by_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root on 2026-04-01 with a version in production and the parcels of March, one of which its contract refuses."""
    folder = tmp_path_factory.mktemp("parcels")
    platform = tiny.new_root(folder / "root")
    (folder / "code").mkdir()
    (folder / "code" / "model.py").write_text("# a team's code\n")
    lifecycle.build_candidate(platform, tiny.late_parcel, tiny.AS_OF, code=folder / "code")
    two_versions.to(platform, 1, "canary", "production")
    platform.replay.move(APRIL)
    for day in range(1, 31, 3):
        at = datetime(2026, 3, day, 12, tzinfo=UTC)
        rows = two_versions.parcels(
            10_000 + 100 * day, 20, at, depots=("north", "south", "west", "moon")[: 3 + day // 28]
        )
        pq.write_table(rows, folder / f"{day}.parquet")
        lifecycle.land_source(platform, tiny.parcels, folder / f"{day}.parquet")
    platform.registry.close()
    return folder / "root"


@pytest.fixture
def root(decided_by_one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Copies of it by name; runs in them propose the same writer and times, so that they can be compared."""
    proposed = batch._proposed
    known = {"writer": "batch-" + "cd" * 16, "recorded_at": "2026-04-01T00:00:00.000000Z"}
    monkeypatch.setattr(batch, "_proposed", lambda job, revision: replace(proposed(job, revision), **known))

    def copied(engine: str) -> Path:
        made = Path(shutil.copytree(decided_by_one, tmp_path / engine))
        with (made / "settings.toml").open("a") as settings:
            settings.write(f'\n[batch]\nengine = "{engine}"\n')
        return made

    return copied


def contents(root: Path) -> dict[str, list[str]]:
    platform = Platform.local(root)
    return {
        name: sorted(map(repr, platform.lake.read(name).to_pylist())) for name in TABLES if platform.lake.exists(name)
    }


def by_asset(root: Path, instance: dg.DagsterInstance, **more: Any) -> dg.DataVersion:
    resources = {"ml_platform": PlatformResource(root=str(root)), **more}
    asset = batch_asset(tiny.late_parcel, SourceKeys(None), spark="pyspark" in more)
    ran = dg.materialize([asset], instance=instance, partition_key=MONTH, resources=resources)
    assert ran.success
    record = instance.get_latest_data_version_record(dg.AssetKey([NAME, "batch_predictions"]))
    assert record is not None
    return dg.DataVersion(record.asset_materialization.tags["dagster/data_version"])  # type: ignore[union-attr]


@pytest.fixture
def instance(tmp_path: Path) -> Any:
    (tmp_path / "dagster").mkdir()
    made = dg.DagsterInstance.local_temp(str(tmp_path / "dagster"))
    yield made
    made.dispose()


def test_the_asset_decides_on_spark_what_the_command_decides_without(
    spark: Any, root: Callable[[str], Path], instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrow = root("arrow")
    with monkeypatch.context() as patched:
        patched.setattr(SparkEngine, "first_pass", None)  # this one does without
        expected = lifecycle.score_partition(Platform.local(arrow), tiny.late_parcel, MONTH)
    assert (expected.rows, expected.accepted, expected.refused + expected.flagged > 0) == (200, expected.accepted, True)
    assert expected.declined > 0
    on_spark = root("spark")
    with monkeypatch.context() as patched:
        patched.setattr("ml_platform.serving.scorer.Scorer.decide", None)  # nothing is scored in this process
        resource = PySparkResource(spark_config={"spark.sql.session.mark": "dagster"})
        assert by_asset(on_spark, instance, pyspark=resource) == dg.DataVersion(str(expected.root))
    assert spark.conf.get("spark.sql.session.mark") == "dagster"  # its resource was there first
    assert contents(on_spark) == contents(arrow)
    platform = Platform.local(on_spark)
    assert lifecycle.is_complete(platform, NAME, MONTH)
    assert lifecycle.score_partition(platform, tiny.late_parcel, MONTH) == expected
    assert platform.registry.verify().ok


def test_rows_that_were_decided_online_are_left_out_by_the_workers(
    spark: Any, root: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ml_platform.serving.decided import DecidedRows

    pinned = DecidedRows.pinned
    found = []
    for engine in ("arrow", "spark"):
        place = Platform.local(root(engine))
        rows = place.lake.read("sources/parcels").to_pylist()
        march = [row for row in rows if row["parcel_id"] >= 10_000][:7]
        keys = [two_versions.encode_row([("i64", row["parcel_id"]), ("us", row["sent_at"])]) for row in march]
        monkeypatch.setattr(
            DecidedRows,
            "pinned",
            classmethod(lambda cls, objects, intent, seed, _, keys=keys: pinned(objects, intent, seed, keys)),
        )
        found.append(lifecycle.score_partition(place, tiny.late_parcel, MONTH))
    assert (found[1].already_decided, found[1].rows) == (7, 193)
    assert found[0] == found[1]


def test_without_the_connector_for_delta_the_error_says_what_to_do(
    spark: Any, root: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = type(spark).read.fget

    class NoDelta:
        def format(self, name: str) -> Any:
            return read(spark).format(f"{name}-absent")

    monkeypatch.setattr(type(spark), "read", property(lambda _: NoDelta()))
    with pytest.raises(SettingsError, match="make jars"):
        lifecycle.score_partition(Platform.local(root("spark")), tiny.late_parcel, MONTH)


def test_a_location_with_a_spark_resource_hands_it_to_its_batches_alone() -> None:
    defs = definitions([tiny.late_parcel], spark=PySparkResource(spark_config={}))
    batches = dg.AssetKey([NAME, "batch_predictions"])
    for asset in defs.assets or ():
        if isinstance(asset, dg.AssetsDefinition):
            assert ("pyspark" in asset.required_resource_keys) == (batches in asset.keys)
    assert defs.resolve_job_def(f"{NAME}_score_batch").name == f"{NAME}_score_batch"
