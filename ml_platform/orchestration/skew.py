"""Skew as a check of each window's profile: every finished window is compared, and a difference says its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from ml_platform import lifecycle
from ml_platform.model import Model
from ml_platform.orchestration.metadata import metadata_value

if TYPE_CHECKING:
    from ml_platform.platform import Platform

__all__ = ["SKEW_CHECK", "skew_results", "skew_specs"]

SKEW_CHECK: Final = "feature_skew"


def skew_specs(key: dg.AssetKey, model: Model) -> list[dg.AssetCheckSpec]:
    """The check of a model with stored features; it never blocks: what was decided was decided."""
    if not model.stored_views:
        return []
    text = "Decisions used the stored features that held at their request times."
    return [dg.AssetCheckSpec(SKEW_CHECK, asset=key, description=text)]


def skew_results(key: dg.AssetKey, platform: Platform, model: Model, window: str) -> list[dg.AssetCheckResult]:
    """A window's skew with its threshold; the share of equal values of each feature is a number of its own."""
    if not model.stored_views:
        return []
    report = lifecycle.feature_skew(platform, model, window)
    shown: dict[str, Any] = {"ml/least": report.least, "ml/skew": report.to_json()}
    shown |= {f"ml/equal_{one.feature}": one.share for version in report.versions for one in version.features}
    return [
        dg.AssetCheckResult(
            asset_key=key,
            check_name=SKEW_CHECK,
            passed=not report.failed,
            severity=dg.AssetCheckSeverity.ERROR,
            description="; ".join(report.words()) or None,
            metadata={name: metadata_value(value) for name, value in shown.items()},
        )
    ]
