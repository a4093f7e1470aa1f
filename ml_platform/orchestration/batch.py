"""Batch decisions: months of requests, decided by the version that the registry says is in production."""

# No `annotations` from the future here: Dagster reads the annotation of `context` as it stands.

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import dagster as dg

from ml_platform import lifecycle
from ml_platform.model import Model, plain_sources
from ml_platform.orchestration.keys import SourceKeys, batch_months, group, model_key, op_name, tags
from ml_platform.orchestration.metadata import manifest, table_metadata
from ml_platform.orchestration.resource import PlatformResource

__all__ = ["batch_asset", "batch_schedule", "newest_window"]

CODE_VERSION: Final = "1"
EMPTY: Final = "none"  # a month without an accepted request


def batch_asset(model: Model, sources: SourceKeys, *, spark: bool = False) -> dg.AssetsDefinition:
    """Scores a month. A rerun under the same version is a no-op.

    With ``spark``, Dagster opens the session of its resource ``pyspark`` first, and a root whose settings say that
    batches run on Spark uses that one.

    After a promotion Dagster marks every month that another version decided as out of sync; it means just that. Nothing
    acts on the mark: ``batch_schedule`` asks for the newest month only.

    Its code version is not the declaration's: a month that was decided stays decided when somebody edits the model.
    """
    spec = dg.AssetSpec(
        model_key(model.name, "batch_predictions"),
        deps=[model_key(model.name, "production"), *sources.of(plain_sources(model.request.source))],
        group_name=group(model.name),
        owners=list(model.owners),
        tags=tags(model.name),
        kinds={"onnx", "deltalake"},
        partitions_def=batch_months(),
        code_version=CODE_VERSION,
        description="One decision a request of the month, each with its record, by the production version.",
    )

    @dg.multi_asset(name=op_name(spec.key), specs=[spec])
    def batch_predictions(
        context: dg.AssetExecutionContext, ml_platform: PlatformResource
    ) -> dg.MaterializeResult[None]:
        return _scored(ml_platform, model, context.partition_key)

    @dg.multi_asset(name=op_name(spec.key), specs=[spec])
    def batch_predictions_on_spark(
        context: dg.AssetExecutionContext, ml_platform: PlatformResource, pyspark: dg.ResourceParam[Any]
    ) -> dg.MaterializeResult[None]:
        del pyspark  # its session is open now, and an open one is used as it is
        return _scored(ml_platform, model, context.partition_key)

    return batch_predictions_on_spark if spark else batch_predictions


def _scored(ml_platform: PlatformResource, model: Model, month: str) -> dg.MaterializeResult[None]:
    made = lifecycle.score_partition(ml_platform.open(), model, month)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(made.root or EMPTY),
        metadata={**table_metadata(partition_rows=made.rows), **manifest(made)},
    )


def batch_schedule(model: Model, cron: str = "0 6 * * *") -> dg.ScheduleDefinition:
    """Asks every day for the newest finished month, until it is decided; stopped until somebody starts it.

    Older months are never asked for: a promotion or a rollback does not decide again what was decided. In a replay
    root it asks for nothing.
    """

    @dg.schedule(
        name=f"{model.name}_score_batch_newest",
        job_name=f"{model.name}_score_batch",
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
    )
    def newest(context: dg.ScheduleEvaluationContext, ml_platform: PlatformResource) -> dg.RunRequest | dg.SkipReason:
        platform, at = ml_platform.open(), context.scheduled_execution_time
        if platform.settings.kind == "replay":
            return dg.SkipReason("A replay root is driven by its replay, not by a schedule.")
        state = platform.registry.state().models.get(model.name)
        if state is None or state.production is None:
            return dg.SkipReason(f"No version of {model.name} is in production.")
        return newest_window(context.instance, model, at)

    return newest


def newest_window(instance: dg.DagsterInstance, model: Model, at: datetime) -> dg.RunRequest | dg.SkipReason:
    """A run for the newest finished month, or why there is none."""
    month = f"{at.astimezone(UTC).replace(day=1) - timedelta(days=1):%Y-%m}"
    if month in instance.get_materialized_partitions(model_key(model.name, "batch_predictions")):
        return dg.SkipReason(f"{month} is decided.")
    return dg.RunRequest(run_key=f"{model.name}:{month}:{at:%Y-%m-%dT%H:%M}", partition_key=month)
