"""Quality checks of stored features as asset checks: one a declared check, with the numbers of every period."""

# No `annotations` from the future here: Dagster reads the annotation of `context` as it stands.

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_platform import lifecycle
from ml_platform.features import FeatureView
from ml_platform.features.quality import Judged, QualityCheck
from ml_platform.orchestration.keys import view_key
from ml_platform.orchestration.metadata import manifest, metadata_value
from ml_platform.orchestration.resource import PlatformResource

if TYPE_CHECKING:
    from ml_platform.lifecycle import Materialized

__all__ = ["freshness_check", "partition_key", "quality_results", "quality_specs", "visible_partitions"]


def quality_specs(views: Iterable[FeatureView]) -> list[dg.AssetCheckSpec]:
    """A check a declared check's name; of several definitions in service, those of all."""
    found: dict[str, tuple[FeatureView, QualityCheck]] = {}
    for view in views:
        found |= {check.name: (view, check) for check in view.about.quality}
    return [
        dg.AssetCheckSpec(name, asset=view_key(view.name), description=check.describe())
        for name, (view, check) in sorted(found.items())
    ]


def quality_results(made: Sequence["Materialized"]) -> Iterator[dg.AssetCheckResult]:
    """What was measured now, check by check; a period that was written before is not measured again."""
    view = made[0].view
    measured: dict[str, list[tuple[str, Judged]]] = {}
    for check in (check for one in made for check in one.view.about.quality):
        measured.setdefault(check.name, [])
    for one in made:
        for period, judged in one.judged.items():
            for result in judged:
                measured[result.check.name].append((period, result))
    evidence = [rejected.evidence for one in made for rejected in one.rejected]
    for name, results in sorted(measured.items()):
        yield _result(view, name, results, evidence)


def _result(
    view: FeatureView, name: str, results: Sequence[tuple[str, Judged]], evidence: Sequence[str]
) -> dg.AssetCheckResult:
    failed = [(period, result) for period, result in results if not result.passed]
    shown: dict[str, Any] = {
        "ml/periods": len(results),
        "ml/failed_periods": [period for period, _ in failed],
        "ml/measured": {period: dict(result.measured) for period, result in failed or results[-12:]},
    }
    if failed:
        shown |= {f"ml/{number}": value for number, value in failed[0][1].measured.items()}
        shown["ml/evidence"] = list(evidence)
    return dg.AssetCheckResult(
        asset_key=view_key(view.name),
        check_name=name,
        passed=not failed,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(f"{period}: {result.words()}" for period, result in failed[:10]) or None,
        metadata={key: metadata_value(value) for key, value in shown.items()},
    )


def partition_key(period: str) -> str:
    """Dagster's key of a period; it writes an hour with its minutes."""
    return f"{period.replace('T', '-')}:00" if "T" in period else period


def visible_partitions(keys: Iterable[str], made: Sequence["Materialized"]) -> list[str]:
    """Of the partitions of a run, those of which no part was rejected."""
    rejected = {partition_key(one.period) for each in made for one in each.rejected}
    return [key for key in keys if not any(one.startswith(key) for one in rejected)]


def freshness_check(view: FeatureView) -> dg.AssetChecksDefinition:
    """``fresh``: how far behind the platform's clock the stored table is, and the online store, as numbers."""
    key = view_key(view.name)

    @dg.asset_check(asset=key, name="fresh", description=f"Nothing is missing for longer than {view.about.freshness}.")
    def fresh(ml_platform: PlatformResource) -> dg.AssetCheckResult:
        found = lifecycle.view_freshness(ml_platform.open(), view)
        return dg.AssetCheckResult(passed=found.fresh, metadata=manifest(found), description=found.words())

    return fresh
