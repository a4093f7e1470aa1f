"""The assets of a candidate: training set, trained model, evaluation with its gates, registered version."""

# No `annotations` from the future here: Dagster reads the annotation of `context` as it stands.

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from ml_platform import lifecycle
from ml_platform.core.digests import parse_canonical, short
from ml_platform.model import Model, plain_sources
from ml_platform.orchestration.columns import training_columns, training_lineage
from ml_platform.orchestration.gates import check_results, gate_specs
from ml_platform.orchestration.keys import SourceKeys, candidates, group, model_key, op_name, tags, view_key
from ml_platform.orchestration.metadata import Metadata, manifest, metadata_value, table_metadata
from ml_platform.orchestration.pictures import evaluation_pictures
from ml_platform.orchestration.resource import PlatformResource

if TYPE_CHECKING:
    from ml_platform.lifecycle import EvaluationResult, TrainingSetResult

__all__ = ["CANDIDATE_NOUNS", "candidate_assets"]

CANDIDATE_NOUNS: Final = ("training_set", "trained_model", "evaluation", "registered_version")
Made = dg.MaterializeResult[None]


def candidate_assets(model: Model, sources: SourceKeys) -> list[dg.AssetsDefinition]:
    """The four assets of a candidate, in the order in which they are made."""
    return [_training_set(model, sources), _trained_model(model), _evaluation(model, sources), _registered(model)]


def _spec(model: Model, noun: str, **details: object) -> dg.AssetSpec:
    return dg.AssetSpec(
        model_key(model.name, noun),
        group_name=group(model.name),
        owners=list(model.owners),
        tags=tags(model.name),
        partitions_def=candidates(model.name),
        code_version=short(model.digest),
        **details,  # type: ignore[arg-type]
    )


def _training_set(model: Model, sources: SourceKeys) -> dg.AssetsDefinition:
    # The default mapping from candidates to months is refused: say that any month may be read.
    views = [
        dg.AssetDep(view_key(view.name), partition_mapping=dg.AllPartitionMapping()) for view in model.stored_views
    ]
    direct = sources.of([*plain_sources(model.request.source), *plain_sources(model.label.outcome)])
    schema = training_columns(model)
    spec = _spec(
        model,
        "training_set",
        deps=[*views, *direct],
        kinds={"duckdb", "parquet"},
        description="Mature labels joined point-in-time with features: an immutable snapshot.",
        metadata={"dagster/column_schema": schema, "ml/label": f"{model.label.name}@{model.label.digest}"},
    )

    @dg.multi_asset(name=op_name(spec.key), specs=[spec])
    def training_set(context: dg.AssetExecutionContext, ml_platform: PlatformResource) -> Made:
        made = lifecycle.build_training_set(ml_platform.open(), model, context.partition_key)
        lineage = training_lineage(model, sources)
        table = table_metadata(rows=made.rows, uri=made.path, schema=schema, lineage=lineage)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(made.digest), metadata={**table, **_training_set_facts(made)}
        )

    return training_set


def _trained_model(model: Model) -> dg.AssetsDefinition:
    spec = _spec(
        model,
        "trained_model",
        deps=[model_key(model.name, "training_set")],
        kinds={_trainer_kind(model), "onnx"},
        description="Native model, ONNX, contract, reference profile and run record.",
        metadata={"ml/trainer": model.trainer.spec()},
    )

    @dg.multi_asset(name=op_name(spec.key), specs=[spec])
    def trained_model(context: dg.AssetExecutionContext, ml_platform: PlatformResource) -> Made:
        platform = ml_platform.open()
        made = lifecycle.train_candidate(platform, model, context.partition_key)
        record = parse_canonical(platform.objects.get(made.run_record_digest))
        return dg.MaterializeResult(
            data_version=dg.DataVersion(made.artifact_digest), metadata={**manifest(made), **_run_facts(record)}
        )

    return trained_model


def _training_set_facts(made: "TrainingSetResult") -> Metadata:
    """Ours, because Dagster keeps no provenance beyond a hundred upstream partitions."""
    return manifest(made, immature_rows=made.immature_rows, manifest=made.manifest)


def _run_facts(record: Mapping[str, Any]) -> Metadata:
    shown = ("as_of", "code", "image", "sources", "features", "trainer", "seeds", "determinism", "metrics")
    return {f"ml/{name}": metadata_value(record[name]) for name in shown}


def _evaluation_facts(made: "EvaluationResult") -> Metadata:
    """Each measured metric as a number of its own, so that Dagster plots it over candidates."""
    metrics = {name: one for name, one in made.document["metrics"].items() if isinstance(one, Mapping)}
    points = {f"ml/metric_{name}": metadata_value(one["point"]) for name, one in metrics.items() if "point" in one}
    return {**manifest(made), **points}


def _trainer_kind(model: Model) -> str:
    return str(model.trainer.spec()["trainer"])


def _evaluation(model: Model, sources: SourceKeys) -> dg.AssetsDefinition:
    restricted = sources.of([plain for item in model.protected for plain in plain_sources(item.source)])
    spec = _spec(
        model,
        "evaluation",
        deps=[model_key(model.name, "training_set"), model_key(model.name, "trained_model"), *restricted],
        kinds={"python"},
        description="Metrics with intervals, slices, groups, calibration, parity. Its blocking checks are the gates.",
    )

    @dg.multi_asset(name=op_name(spec.key), specs=[spec], check_specs=gate_specs(model))
    def evaluation(context: dg.AssetExecutionContext, ml_platform: PlatformResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        platform = ml_platform.open()
        made = lifecycle.evaluate_candidate(platform, model, context.partition_key)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(made.digest),
            metadata={**_evaluation_facts(made), **evaluation_pictures(platform, model, made)},
            check_results=check_results(model, made.verdicts, platform.settings.unavailable),
        )

    return evaluation


def _registered(model: Model) -> dg.AssetsDefinition:
    spec = _spec(
        model,
        "registered_version",
        deps=[model_key(model.name, "evaluation")],
        description="The registry's entry: only a candidate that passes its gates gets a number.",
    )

    @dg.multi_asset(name=op_name(spec.key), specs=[spec])
    def registered_version(context: dg.AssetExecutionContext, ml_platform: PlatformResource) -> Made:
        platform = ml_platform.open()
        made = lifecycle.register_candidate(platform, model, context.partition_key, code=ml_platform.code_folder)
        # The log index is what `reconcile` looks for: it reports only what is not shown yet.
        entry = platform.registry.state().version(model.name, made.version).registered
        return dg.MaterializeResult(
            data_version=dg.DataVersion(f"v{made.version}"), metadata=manifest(made, log_index=entry)
        )

    return registered_version
