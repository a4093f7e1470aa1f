from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from ml_platform import Model, Platform
from ml_platform.core.errors import (
    ApprovalMissing,
    DataError,
    IllegalTransition,
    NotFound,
)
from ml_platform.lifecycle import (
    approve,
    build_candidate,
    list_models,
    list_versions,
    promote,
    rollback,
    score_partition,
    show_version,
    stage,
    state_at,
)
from tests.lifecycle.conftest import AS_OF

BY = {"principal": "ops", "reason": "tested"}


@pytest.fixture
def version(landed: Platform, quick: Model, tmp_path: Path) -> int:
    (tmp_path / "code").mkdir()
    return build_candidate(landed, quick, AS_OF, code=tmp_path / "code").registered.version


def in_production(platform: Platform, version: int) -> None:
    stage(platform, "quick", version, **BY)
    for to in ("canary", "production"):
        for person in ("ada", "bob"):  # the folder has no history: the author is unknown, so two people sign
            key = platform.secrets.path("people") / person
            approve(platform, "quick", version, to, key=key, reason="looked at")
        promote(platform, "quick", version, to, **BY)


def test_a_stage_cannot_be_jumped_nor_a_reason_left_out(landed: Platform, version: int) -> None:
    with pytest.raises(IllegalTransition):
        promote(landed, "quick", version, "production", **BY)
    with pytest.raises(ApprovalMissing, match="reason"):
        stage(landed, "quick", version, principal="ops", reason=" ")


def test_without_enough_approvals_nothing_is_promoted(landed: Platform, version: int) -> None:
    stage(landed, "quick", version, **BY)
    with pytest.raises(ApprovalMissing):
        promote(landed, "quick", version, "canary", **BY)
    approve(landed, "quick", version, "canary", key=landed.secrets.path("people") / "ada", reason="alone")
    with pytest.raises(ApprovalMissing, match="1 of 2"):
        promote(landed, "quick", version, "canary", **BY)


def test_unknown_models_and_versions_are_said(landed: Platform, version: int) -> None:
    with pytest.raises(NotFound, match="no such model"):
        list_versions(landed, "nobody")
    with pytest.raises(NotFound, match="no version 9"):
        show_version(landed, "quick", version + 8)


def test_there_is_nothing_to_roll_back_to_at_first(landed: Platform, version: int) -> None:
    in_production(landed, version)
    with pytest.raises(IllegalTransition, match="No earlier version"):
        rollback(landed, "quick", **BY)


def test_a_month_is_decided_when_it_is_over_by_the_version_then_in_production(
    landed: Platform, quick: Model, version: int, market: Path
) -> None:
    with pytest.raises(DataError, match="not over"):
        score_partition(landed, quick, "2010-01")
    landed.replay.move(datetime(2010, 2, 1, tzinfo=UTC))
    with pytest.raises(NotFound, match="No version of quick"):
        score_partition(landed, quick, "2010-01")
    landed.registry.close()


def test_decisions_cover_the_month_once(landed: Platform, quick: Model, version: int, market: Path) -> None:
    in_production(landed, version)
    landed.replay.move(datetime(2010, 2, 1, tzinfo=UTC))
    result = score_partition(landed, quick, "2010-01")
    loans = pd.read_parquet(market / "applications.parquet")
    month = loans[(loans["applied_at"] >= "2010-01-01") & (loans["applied_at"] < "2010-02-01")]
    assert result.rows == len(month) == result.accepted + result.refused
    size = landed.registry.state().size
    assert score_partition(landed, quick, "2010-01") == result
    assert landed.registry.state().size == size
    assert landed.lake.read("quick/predictions").num_rows == result.accepted


def test_training_again_after_the_promotion_returns_what_was_registered(
    landed: Platform, quick: Model, version: int, tmp_path: Path
) -> None:
    in_production(landed, version)
    size = landed.registry.state().size
    again = build_candidate(landed, quick, AS_OF, code=tmp_path / "code")
    assert again.registered.version == version
    assert again.evaluation.document["baseline"] is None
    assert landed.registry.state().size == size


def test_the_state_is_that_of_the_time_asked_for(landed: Platform, version: int) -> None:
    in_production(landed, version)
    landed.replay.move(datetime(2010, 3, 1, tzinfo=UTC))
    assert list_models(landed)[0]["production"] == version
    assert state_at(landed, at=datetime(2010, 2, 1, tzinfo=UTC))["models"][0]["production"] == version
    with pytest.raises(NotFound, match="no registry yet"):
        state_at(landed, at=datetime(2009, 1, 1, tzinfo=UTC))
