from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
import pytest

from ml_platform import Model, Platform
from ml_platform.orchestration import PlatformResource, definitions
from ml_platform.orchestration.batch import newest_window

KEY = dg.AssetKey(["small", "batch_predictions"])
MORNING = datetime(2010, 3, 5, 6, tzinfo=UTC)


def decided(instance: dg.DagsterInstance, month: str) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(KEY, partition=month))


def asked(instance: dg.DagsterInstance, small: Model, at: datetime) -> str | None:
    found = newest_window(instance, small, at)
    return found.partition_key if isinstance(found, dg.RunRequest) else None


def test_the_newest_month_that_is_over_is_asked_for(instance: dg.DagsterInstance, small: Model) -> None:
    assert asked(instance, small, MORNING) == "2010-02"
    assert asked(instance, small, datetime(2010, 3, 1, tzinfo=UTC)) == "2010-02"
    assert asked(instance, small, datetime(2010, 2, 28, 23, 59, tzinfo=UTC)) == "2010-01"
    assert asked(instance, small, datetime(2010, 1, 31, tzinfo=UTC)) == "2009-12"
    east = timezone(timedelta(hours=2))
    assert asked(instance, small, datetime(2010, 3, 1, 1, tzinfo=east)) == "2010-01", "a month ends in UTC"


def test_a_decided_month_is_never_asked_for_again(instance: dg.DagsterInstance, small: Model) -> None:
    decided(instance, "2010-02")
    assert asked(instance, small, MORNING) is None
    assert asked(instance, small, datetime(2010, 4, 1, tzinfo=UTC)) == "2010-03"


def test_older_months_are_left_alone_even_if_nobody_decided_them(instance: dg.DagsterInstance, small: Model) -> None:
    decided(instance, "2010-02")
    assert asked(instance, small, MORNING) is None


def test_a_failed_month_is_asked_for_again_the_next_day_and_once_a_tick(
    instance: dg.DagsterInstance, small: Model
) -> None:
    keys = [newest_window(instance, small, at).run_key for at in (MORNING, MORNING, MORNING + timedelta(days=1))]
    assert keys[0] == keys[1] != keys[2]


def evaluate(root: Path, instance: dg.DagsterInstance, small: Model) -> object:
    resource = PlatformResource(root=str(root))
    schedule = definitions([small], resource).resolve_schedule_def("small_score_batch_newest")
    context = dg.build_schedule_context(
        instance=instance, scheduled_execution_time=MORNING, resources={"ml_platform": resource}
    )
    return schedule(context)


@pytest.mark.parametrize(("kind", "why"), [("replay", "replay"), ("wall", "production")])
def test_nothing_is_scheduled_in_a_replay_or_before_a_promotion(
    tmp_path: Path, instance: dg.DagsterInstance, small: Model, kind: str, why: str
) -> None:
    created = Platform.create(tmp_path / "root", kind=kind, member_keys={"ada": ["ada@example.org"]})
    created.registry.close()
    found = evaluate(tmp_path / "root", instance, small)
    assert isinstance(found, dg.SkipReason)
    assert why in (found.skip_message or "")
