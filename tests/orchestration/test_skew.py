"""Skew in Dagster: a failed check of the window's profile, with the share of each feature and the reason."""

from __future__ import annotations

import dagster as dg
import pytest

from ml_platform.orchestration import PlatformResource
from ml_platform.orchestration.keys import WINDOWS_NAME, SourceKeys
from ml_platform.orchestration.monitored import monitored_assets
from tests.governance.conftest import root, shared  # noqa: F401 - fixtures
from tests.governance.root import model
from tests.lifecycle.test_skew import FEATURE, WINDOW, live, serve, wrong_code  # noqa: F401 - `live` is a fixture
from tests.orchestration.conftest import instance  # noqa: F401 - a fixture


@pytest.mark.parametrize("planted", [False, True])
def test_the_profile_of_a_window_has_the_check_and_its_numbers(live, instance, planted):  # noqa: F811
    serve(live, range(5_000, 5_040), reader=wrong_code if planted else None)
    instance.add_dynamic_partitions(WINDOWS_NAME, [WINDOW])
    done = dg.materialize(
        [monitored_assets(model(), SourceKeys())[0]],
        partition_key=WINDOW,
        instance=instance,
        resources={"ml_platform": PlatformResource(root=str(live.root))},
    )
    assert done.success  # it never blocks: what was decided was decided
    (found,) = done.get_asset_check_evaluations()
    assert found.check_name == "feature_skew"
    assert found.passed == (not planted)
    assert found.metadata[f"ml/equal_{FEATURE}"].value == (0.0 if planted else 1.0)
    assert found.metadata["ml/least"].value == 0.99
    if planted:
        assert f"{FEATURE} (version 1): 0.0% of 40 equal. 40 × code" in (found.description or "")
