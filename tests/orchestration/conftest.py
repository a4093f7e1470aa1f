"""A small market, two small models on it, and a root in which Dagster runs the whole lifecycle once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from assets.credit_risk import credit_risk
from ml_platform import Model, Platform, at_least
from ml_platform.orchestration import PlatformResource, definitions
from ml_platform.simulation import LendingMarket
from ml_platform.training import LightGBM

QUICK = LightGBM(objective="binary", num_leaves=4, learning_rate=0.1, rounds=10, min_data_in_leaf=20)
AS_OF = datetime(2010, 1, 1, tzinfo=UTC)


def variant(name: str, **changes: object) -> Model:
    return replace(credit_risk, **{"name": name, "trainer": QUICK, "gates": [], **changes})


@pytest.fixture(scope="session")
def small() -> Model:
    """Passes: its one gate demands little."""
    return variant("small", gates=[at_least("auc", 0.2)], protected=[])


@pytest.fixture(scope="session")
def hopeless() -> Model:
    """Never passes."""
    return variant("hopeless", gates=[at_least("auc", 0.99)], protected=[])


def new_instance(folder: Path) -> dg.DagsterInstance:
    """An instance on disk. Not entered as a context: Dagster enters it itself, and twice leaves a dead one behind."""
    folder.mkdir()
    return dg.DagsterInstance.local_temp(str(folder))


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    made = new_instance(tmp_path / "dagster")
    yield made
    made.dispose()


@dataclass
class World:
    """A replay root at 2010-01-01 with the market landed through Dagster."""

    root: Path
    resource: PlatformResource
    instance: dg.DagsterInstance
    defs: dg.Definitions
    models: tuple[Model, ...]

    @property
    def platform(self) -> Platform:
        return self.resource.open()

    def run(self, job: str, **how: object) -> dg.ExecuteInProcessResult:
        return self.defs.resolve_job_def(job).execute_in_process(instance=self.instance, raise_on_error=False, **how)

    def shown(self, *path: str, partition: str | None = None) -> list[dg.AssetMaterialization]:
        """The materialisations of an asset, oldest first."""
        records = dg.AssetRecordsFilter(
            asset_key=dg.AssetKey(path), asset_partitions=[partition] if partition else None
        )
        found = self.instance.fetch_materializations(records, limit=100, ascending=True).records
        return [record.asset_materialization for record in found if record.asset_materialization]

    def versions(self, *path: str, partition: str | None = None) -> list[str | None]:
        return [event.tags.get("dagster/data_version") for event in self.shown(*path, partition=partition)]

    def land(self, folder: Path) -> None:
        for name in ("applications", "outcomes"):
            (asset,) = [
                one
                for one in self.defs.assets or []
                if isinstance(one, dg.AssetsDefinition) and one.key == dg.AssetKey(["sources", name])
            ]
            landed = dg.materialize(
                [asset],
                instance=self.instance,
                resources={"ml_platform": self.resource},
                run_config={"ops": {f"sources__{name}": {"config": {"file": str(folder / f"{name}.parquet")}}}},
            )
            assert landed.success


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, small: Model, hopeless: Model) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    root = folder / "root"
    people = {"ada": ["ada@example.org"], "bob": ["bob@example.org"]}
    created = Platform.create(root, kind="replay", member_keys=people, published_seed=b"1" * 32, starts_at=AS_OF)
    created.registry.close()
    LendingMarket(loans=36_000).write(folder / "market")
    resource = PlatformResource(root=str(root), code=str(folder))
    models = (hopeless, small)
    made = World(root, resource, new_instance(folder / "dagster"), definitions(models, resource), models)
    made.land(folder / "market")
    yield made
    made.instance.dispose()
