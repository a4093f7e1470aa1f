from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_platform.features.sqlite import SqliteOnlineStore
from ml_platform.testing import DuckdbFeatures, OnlineFeatures, check_feature_engine
from ml_platform.testing.histories import VIEWS


def runs(number: int) -> settings:
    return settings(max_examples=number, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("view", VIEWS)
def test_duckdb_answers_thousands_of_histories_as_brute_force_does(view: str) -> None:
    @runs(20)
    @given(st.integers(0, 2**32))
    def check(seed: int) -> None:
        check_feature_engine(DuckdbFeatures(), Random(seed), view=view)

    check()


@pytest.mark.parametrize("view", VIEWS)
def test_sqlite_answers_as_brute_force_does(view: str, tmp_path: Path) -> None:
    store = SqliteOnlineStore(tmp_path / "features.sqlite")

    engine = OnlineFeatures(store)

    @runs(6)
    @given(st.integers(0, 2**32))
    def check(seed: int) -> None:
        check_feature_engine(engine, Random(seed), view=view)

    check()
    store.close()


@pytest.mark.parametrize("view", VIEWS)
def test_single_histories_that_shrink(view: str) -> None:
    @runs(20)
    @given(st.randoms(use_true_random=False))
    def check(random: Random) -> None:
        check_feature_engine(DuckdbFeatures(), random, view=view, histories=1)

    check()
