"""The one public call: everything that a code location needs, from its models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import dagster as dg

from ml_platform.features import Source
from ml_platform.model import Model
from ml_platform.orchestration.aliases import alias_specs
from ml_platform.orchestration.batch import batch_asset, batch_schedule
from ml_platform.orchestration.candidate import candidate_assets
from ml_platform.orchestration.feature_checks import freshness_check
from ml_platform.orchestration.jobs import (
    features_job,
    promote_job,
    request_candidate_job,
    rollback_job,
    score_job,
    train_job,
)
from ml_platform.orchestration.keys import SourceKeys, check_models
from ml_platform.orchestration.loop_jobs import loop_jobs
from ml_platform.orchestration.monitored import monitored_assets
from ml_platform.orchestration.resource import RESOURCE_KEY, PlatformRef, as_resource
from ml_platform.orchestration.sensor import reconcile_sensor
from ml_platform.orchestration.served import served_assets
from ml_platform.orchestration.sources import model_sources, source_asset, source_spec
from ml_platform.orchestration.views import shared_views, view_asset
from ml_platform.orchestration.watchers import loop_sensors

__all__ = ["ModelAssets", "definitions", "standard_jobs", "standard_schedules", "standard_sensors"]

Asset = dg.AssetsDefinition | dg.AssetSpec


def definitions(
    models: Iterable[Model],
    platform: PlatformRef = None,
    sources: Mapping[str, dg.AssetKey] | None = None,
    *,
    jobs: Sequence[Any] | None = None,
    schedules: Sequence[dg.ScheduleDefinition] | None = None,
    sensors: Sequence[dg.SensorDefinition] | None = None,
    spark: Any = None,
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
        spark: a `PySparkResource` of ``dagster_pyspark``, whose session batches use where the root's settings say that
            they run on Spark; None: the session is opened by those settings.
        sensors: which sensors; None: ``reconcile``, and with the standard jobs those of the loop (`loop_sensors`).

    Raises:
        DeclarationError: two models of one name, or a binding of a source that no model reads.

    Example::

        defs = definitions(models=[credit_risk], platform="roots/demo")
    """
    found, resources = check_models(models), dict[str, Any]({RESOURCE_KEY: as_resource(platform)})
    if spark is not None:
        resources["pyspark"] = spark
    assets = ModelAssets.of(found, SourceKeys(sources), spark=spark is not None)
    runs = list(standard_jobs(found, assets, resources) if jobs is None else jobs)
    return dg.Definitions(
        assets=assets.all(),
        asset_checks=assets.checks,
        jobs=runs,
        schedules=list(standard_schedules(found) if schedules is None else schedules),
        sensors=list(standard_sensors(found, runs if jobs is None else None) if sensors is None else sensors),
        resources=resources,
        # Steps are short and imports are long: a process a step would cost two seconds each.
        executor=dg.in_process_executor,
    )


@dataclass(frozen=True)
class ModelAssets:
    """The assets of a code location: what models share, by name, and what is a model's own."""

    sources: Mapping[str, Asset]
    views: Mapping[str, Asset]
    own: Mapping[str, Sequence[Asset]]
    checks: Sequence[dg.AssetChecksDefinition] = ()

    @classmethod
    def of(cls, models: Sequence[Model], keys: SourceKeys, *, spark: bool = False) -> Self:
        delivered = model_sources(models)
        keys.check(delivered)
        views = shared_views(models)
        return cls(
            sources={name: _source(found[0], keys) for name, found in delivered.items()},
            views={shared.name: view_asset(shared, keys) for shared in views},
            own={
                model.name: [
                    *candidate_assets(model, keys),
                    *alias_specs(model),
                    batch_asset(model, keys, spark=spark),
                    *served_assets(model),
                    *monitored_assets(model, keys),
                ]
                for model in models
            },
            checks=[freshness_check(one.definitions[0]) for one in views if one.definitions[0].about.freshness],
        )

    def all(self) -> list[Asset]:
        return [*self.sources.values(), *self.views.values(), *(asset for own in self.own.values() for asset in own)]

    def around(self, model: Model) -> list[Asset]:
        """A model's own assets and everything upstream of them."""
        views = [self.views[view.name] for view in model.stored_views]
        sources = [self.sources[name] for name in model_sources([model])]
        return [*sources, *views, *self.own[model.name]]


def _source(source: Source, keys: SourceKeys) -> Asset:
    return source_spec(source, keys) if keys.is_bound(source.name) else source_asset(source, keys)


def standard_jobs(models: Sequence[Model], assets: ModelAssets, resources: Mapping[str, Any]) -> list[Any]:
    """Training and scoring of each model; features, candidates, promotion, rollback, serving and the loop of all."""
    each = [job for model in models for job in _model_jobs(model, assets, resources)]
    shared = [features_job(models)] if any(model.stored_views for model in models) else []
    governance = [request_candidate_job(models), promote_job(models), rollback_job(models)]
    return [*each, *shared, *governance, *loop_jobs(models, resources[RESOURCE_KEY])]


def _model_jobs(model: Model, assets: ModelAssets, resources: Mapping[str, Any]) -> list[dg.JobDefinition]:
    # A job that is resolved later is held against every asset of the location: with hundreds of models that is most of
    # the time of loading. Here it is held against those around its model.
    jobs = [train_job(model), score_job(model)]
    around = dg.Definitions(assets=assets.around(model), jobs=jobs, resources=resources)
    return [around.resolve_job_def(job.name) for job in jobs]


def standard_schedules(models: Sequence[Model]) -> list[dg.ScheduleDefinition]:
    """The newest month of each model."""
    return [batch_schedule(model) for model in models]


def standard_sensors(models: Sequence[Model], jobs: Sequence[Any] | None) -> list[dg.SensorDefinition]:
    """``reconcile``, and those of the loop over the standard jobs; for all models at once: cheaper than one a model."""
    return [reconcile_sensor(models), *([] if jobs is None else loop_sensors(models, jobs))]
