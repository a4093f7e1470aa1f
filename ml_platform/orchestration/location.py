"""The one public call: everything that a code location needs, from its models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from ml_platform.features import Source
from ml_platform.model import Model
from ml_platform.orchestration.aliases import alias_specs
from ml_platform.orchestration.batch import batch_asset, batch_schedule
from ml_platform.orchestration.candidate import candidate_assets
from ml_platform.orchestration.jobs import (
    features_job,
    promote_job,
    request_candidate_job,
    rollback_job,
    score_job,
    train_job,
)
from ml_platform.orchestration.keys import SourceKeys, check_models
from ml_platform.orchestration.resource import RESOURCE_KEY, PlatformRef, as_resource
from ml_platform.orchestration.sensor import reconcile_sensor
from ml_platform.orchestration.sources import model_sources, source_asset, source_spec
from ml_platform.orchestration.views import shared_views, view_asset

__all__ = ["definitions", "model_assets", "standard_jobs", "standard_schedules", "standard_sensors"]

Asset = dg.AssetsDefinition | dg.AssetSpec


def definitions(
    models: Iterable[Model],
    platform: PlatformRef = None,
    sources: Mapping[str, dg.AssetKey] | None = None,
    *,
    jobs: Sequence[Any] | None = None,
    schedules: Sequence[dg.ScheduleDefinition] | None = None,
    sensors: Sequence[dg.SensorDefinition] | None = None,
) -> dg.Definitions:
    """The whole lifecycle of the models as Dagster assets, checks, jobs, schedules and sensors.

    Loading it reads and opens nothing: the platform is opened by what runs.

    Args:
        models: the models of this code location.
        platform: a `PlatformResource`, or a root folder; None: ``ML_PLATFORM_SETTINGS`` says at run time.
        sources: source name → asset key of whoever delivers it through Dagster. Other sources get an asset of
            their own, ``sources/<name>``, that lands a file.
        jobs: which jobs run here; None: the standard ones of every model.
        schedules: which schedules; None: the newest month of every model, stopped until started.
        sensors: which sensors; None: ``reconcile``.

    Raises:
        DeclarationError: two models of one name, or a binding of a source that no model reads.

    Example::

        defs = definitions(models=[credit_risk], platform="roots/demo")
    """
    found = check_models(models)
    return dg.Definitions(
        assets=model_assets(found, SourceKeys(sources)),
        jobs=list(standard_jobs(found) if jobs is None else jobs),
        schedules=list(standard_schedules(found) if schedules is None else schedules),
        sensors=list(standard_sensors(found) if sensors is None else sensors),
        resources={RESOURCE_KEY: as_resource(platform)},
        # Steps are short and imports are long: a process a step would cost two seconds each.
        executor=dg.in_process_executor,
    )


def model_assets(models: Sequence[Model], sources: SourceKeys) -> list[Asset]:
    """Sources, shared views, and of each model its candidate's assets, aliases and batch decisions."""
    delivered = model_sources(models)
    sources.check(delivered)
    assets: list[Asset] = [_source(definitions[0], sources) for definitions in delivered.values()]
    assets += [view_asset(shared, sources) for shared in shared_views(models)]
    for model in models:
        assets += [*candidate_assets(model, sources), *alias_specs(model), batch_asset(model, sources)]
    return assets


def _source(source: Source, sources: SourceKeys) -> Asset:
    return source_spec(source, sources) if sources.is_bound(source.name) else source_asset(source, sources)


def standard_jobs(models: Sequence[Model]) -> list[Any]:
    """Training and scoring of each model; features, candidates, promotion and rollback of all."""
    each = [job for model in models for job in (train_job(model), score_job(model))]
    shared = [features_job(models)] if any(model.stored_views for model in models) else []
    return [*each, *shared, request_candidate_job(models), promote_job(models), rollback_job(models)]


def standard_schedules(models: Sequence[Model]) -> list[dg.ScheduleDefinition]:
    """The newest month of each model."""
    return [batch_schedule(model) for model in models]


def standard_sensors(models: Sequence[Model]) -> list[dg.SensorDefinition]:
    """``reconcile`` for all models at once: one tick is cheaper than one a model."""
    return [reconcile_sensor(models)]
