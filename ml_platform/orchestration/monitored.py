"""Windows of what was decided: profiles, drift and performance, whose checks carry the severities."""

# No `annotations` from the future here: Dagster reads the annotation of `context` as it stands.

from collections.abc import Iterable, Mapping
from typing import Any, Final

import dagster as dg

from ml_platform import lifecycle
from ml_platform.model import Model, plain_sources
from ml_platform.monitoring.severity import SEVERITY, Judgement
from ml_platform.orchestration.keys import SourceKeys, group, model_key, op_name, tags, windows
from ml_platform.orchestration.metadata import Metadata, manifest, metadata_value
from ml_platform.orchestration.pictures import drift_pictures, performance_pictures
from ml_platform.orchestration.resource import PlatformResource
from ml_platform.orchestration.skew import skew_results, skew_specs

__all__ = ["DRIFT_RULES", "PERFORMANCE_RULES", "monitored_assets", "severity_results"]

DRIFT_RULES: Final = ("schema", "null_rate", "psi", "new_category", "score_psi")
PERFORMANCE_RULES: Final = ("group_accuracy", "latency_p99", "accuracy")
NOTHING: Final = "none"  # a window in which nothing was decided
_ERRORS: Final = {"P0", "P1"}
_MEANING: Final[Mapping[str, str]] = {
    "schema": "Requests have the shape that the version was trained with.",
    "null_rate": "No feature is null much more often than in training.",
    "psi": "No critical feature has moved.",
    "new_category": "No critical feature has a category that the version never saw.",
    "score_psi": "The scores have not moved.",
    "group_accuracy": "No protected group is decided right less often than at registration.",
    "latency_p99": "The slowest hundredth of answers is not slower than in the window before.",
    "accuracy": "The area under the ROC curve has not fallen since registration.",
}


def monitored_assets(model: Model, sources: SourceKeys) -> list[dg.AssetsDefinition]:
    """``data_profile``, ``drift_report`` and ``performance_report``, by window."""
    return [_data_profile(model), _drift_report(model), _performance_report(model, sources)]


def _spec(model: Model, noun: str, deps: list[dg.AssetKey], kinds: set[str], description: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        model_key(model.name, noun),
        deps=deps,
        group_name=group(model.name),
        owners=list(model.owners),
        tags=tags(model.name),
        kinds=kinds,
        partitions_def=windows(),
        description=description,
    )


def _data_profile(model: Model) -> dg.AssetsDefinition:
    spec = _spec(
        model,
        "data_profile",
        [model_key(model.name, "prediction_log")],
        {"python"},
        "Profiles of a window's logged inputs and outputs, by the version that decided. Data version: its inputs.",
    )

    @dg.multi_asset(name=op_name(spec.key), specs=[spec], check_specs=skew_specs(spec.key, model))
    def data_profile(context: dg.AssetExecutionContext, ml_platform: PlatformResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        platform, window = ml_platform.open(), context.partition_key
        made = lifecycle.profile_window(platform, model, window)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(made.inputs_digest),
            metadata=manifest(made),
            check_results=skew_results(spec.key, platform, model, window),
        )

    return data_profile


def _drift_report(model: Model) -> dg.AssetsDefinition:
    spec = _spec(
        model,
        "drift_report",
        [model_key(model.name, "data_profile")],
        {"python"},
        "How far a window is from what each version was trained on; raises and closes alerts, and asks for retrains.",
    )

    @dg.multi_asset(name=op_name(spec.key), specs=[spec], check_specs=_check_specs(spec.key, DRIFT_RULES))
    def drift_report(context: dg.AssetExecutionContext, ml_platform: PlatformResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        made = lifecycle.monitor_window(ml_platform.open(), model, context.partition_key)
        judged = [] if made.drift is None else [one for version in made.drift.versions for one in version.judgements]
        return dg.MaterializeResult(
            data_version=dg.DataVersion(NOTHING if made.drift is None else made.drift.digest),
            # In the order in which a person reads it: the finding, its pictures, then everything.
            metadata={**_finding(made), **_drift_shown(made.drift, model), **manifest(made)},
            check_results=severity_results(spec.key, DRIFT_RULES, judged),
        )

    return drift_report


def _performance_report(model: Model, sources: SourceKeys) -> dg.AssetsDefinition:
    outcomes = sources.of(plain_sources(model.label.outcome))
    spec = _spec(
        model,
        "performance_report",
        [model_key(model.name, "prediction_log"), *outcomes],
        {"python"},
        "How right each version was on decisions of a window whose labels are mature.",
    )

    @dg.multi_asset(name=op_name(spec.key), specs=[spec], check_specs=_check_specs(spec.key, PERFORMANCE_RULES))
    def performance_report(context: dg.AssetExecutionContext, ml_platform: PlatformResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        made = lifecycle.performance_report(ml_platform.open(), model, context.partition_key)
        judged = [one for version in made.versions for one in version.judgements]
        return dg.MaterializeResult(
            data_version=dg.DataVersion(made.digest if made.versions else NOTHING),
            metadata={**performance_pictures(made), **manifest(made)},
            check_results=severity_results(spec.key, PERFORMANCE_RULES, judged),
        )

    return performance_report


def _check_specs(key: dg.AssetKey, rules: Iterable[str]) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(rule, asset=key, description=f"{_MEANING[rule]} {SEVERITY[rule]}.", blocking=False)
        for rule in rules
    ]


def severity_results(key: dg.AssetKey, rules: Iterable[str], judged: Iterable[Judgement]) -> list[dg.AssetCheckResult]:
    """One result a rule: red where it holds for any subject, an error for P0 and P1, a warning for P2 and P3."""
    found = list(judged)
    return [_result(key, rule, [one for one in found if one.rule == rule]) for rule in rules]


def _result(key: dg.AssetKey, rule: str, judged: list[Judgement]) -> dg.AssetCheckResult:
    firing, silent = [one for one in judged if one.holds], [one for one in judged if one.holds is None]
    severity = SEVERITY[rule]
    if firing:
        told = f"{severity}: {', '.join(sorted({one.subject or 'the whole' for one in firing}))}."
    elif silent and len(silent) == len(judged):
        told = "Too little to tell."
    else:
        told = "Nothing to raise." if judged else "Nothing was decided, or nothing can be compared yet."
    facts: dict[str, Any] = {"severity": severity, "judgements": [one.to_json() for one in judged]}
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=rule,
        passed=not firing,
        severity=dg.AssetCheckSeverity.ERROR if severity in _ERRORS else dg.AssetCheckSeverity.WARN,
        description=told,
        metadata={f"ml/{name}": metadata_value(value) for name, value in facts.items()},
    )


def _finding(made: "lifecycle.Monitored") -> Metadata:
    """What a person wants to know of a window, in four lines."""
    versions = () if made.drift is None else made.drift.versions
    firing = [one for version in versions for one in version.judgements if one.holds]
    by_rule = {rule: sorted({one.subject or "the whole" for one in firing if one.rule == rule}) for rule in DRIFT_RULES}
    said = "; ".join(f"{SEVERITY[rule]} {rule}: {', '.join(names)}" for rule, names in by_rule.items() if names)
    watched, asked = made.watched, "; ".join(_asked(one) for one in made.asked)
    facts: dict[str, Any] = {
        "finding": said or ("Nothing to raise." if versions else "Nothing was decided in this window."),
        "alerts_raised": len(watched.raised),
        "alerts_closed": len(watched.closed),
        "alerts_open": len(watched.open),
        "asked_for": asked or "Nothing new.",
    }
    return {f"ml/{name}": metadata_value(value) for name, value in facts.items()}


def _asked(one: "lifecycle.RetrainAsked") -> str:
    when = "" if one.useful_from is None else f", useful from {one.useful_from[:10]}"
    return f"{one.outcome} {one.request or one.why}{when}"


def _drift_shown(drift: "lifecycle.DriftResult | None", model: Model) -> Metadata:
    """Pictures, and the largest PSI of each version as a number, so that Dagster plots it over windows."""
    versions = () if drift is None else drift.versions
    largest = {f"ml/largest_psi_v{one.version}": metadata_value(max(one.psi.values())) for one in versions if one.psi}
    return {**drift_pictures(drift, model), **largest}
