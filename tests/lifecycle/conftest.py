"""A replay root with a small simulated market landed, at 2010-01-01, and a quick model on it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from assets.credit_risk import credit_risk
from ml_platform import Model, Platform, at_least
from ml_platform.lifecycle import land_source
from ml_platform.simulation import LendingMarket
from ml_platform.training import LightGBM

AS_OF = datetime(2010, 1, 1, tzinfo=UTC)
PEOPLE = {"ada": ["ada@example.org"], "bob": ["bob@example.org"]}
QUICK = LightGBM(objective="binary", num_leaves=4, learning_rate=0.1, rounds=10, min_data_in_leaf=20)


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("market")
    LendingMarket(loans=36_000).write(folder)
    return folder


@pytest.fixture(scope="session")
def quick() -> Model:
    return replace(credit_risk, name="quick", trainer=QUICK, gates=[at_least("auc", 0.2)], protected=[])


def new_root(root: Path, **how: object) -> Platform:
    return Platform.create(root, kind="replay", member_keys=PEOPLE, published_seed=b"1" * 32, starts_at=AS_OF, **how)


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Platform]:
    platform = new_root(tmp_path / "root")
    yield platform
    platform.registry.close()


@pytest.fixture(scope="session")
def landed_root(tmp_path_factory: pytest.TempPathFactory, market: Path, quick: Model) -> Path:
    root = tmp_path_factory.mktemp("landed") / "root"
    platform = new_root(root)
    for source in quick.sources:
        land_source(platform, source, market / f"{source.name}.parquet")
    platform.registry.close()
    return root


@pytest.fixture
def landed(landed_root: Path, tmp_path: Path) -> Iterator[Platform]:
    """A copy, so that tests may do as they like."""
    shutil.copytree(landed_root, tmp_path / "root")
    platform = Platform.local(tmp_path / "root")
    yield platform
    platform.registry.close()
