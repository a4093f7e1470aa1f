"""What serves and what was answered: the pushed repository with its route, and the sealed decisions of all modes."""

# No `annotations` from the future here: Dagster reads the annotation of `context` as it stands.

import dagster as dg

from ml_platform import lifecycle
from ml_platform.model import Model
from ml_platform.orchestration.keys import group, model_key, op_name, tags
from ml_platform.orchestration.metadata import manifest, metadata_value
from ml_platform.orchestration.resource import PlatformResource

__all__ = ["served_assets"]

Made = dg.MaterializeResult[None]


def served_assets(model: Model) -> list[dg.AssetsDefinition]:
    """``triton_repository`` and ``prediction_log``."""
    return [_triton_repository(model), _prediction_log(model)]


def _spec(model: Model, noun: str, upstream: tuple[str, ...], kinds: set[str], description: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        model_key(model.name, noun),
        deps=[model_key(model.name, name) for name in upstream],
        group_name=group(model.name),
        owners=list(model.owners),
        tags=tags(model.name),
        kinds=kinds,
        description=description,
    )


def _triton_repository(model: Model) -> dg.AssetsDefinition:
    spec = _spec(
        model,
        "triton_repository",
        ("production", "canary"),
        {"triton", "onnx"},
        "Which versions the inference server holds, and the signed route: its data version is the route's epoch.",
    )

    @dg.multi_asset(name=op_name(spec.key), specs=[spec])
    def triton_repository(ml_platform: PlatformResource) -> Made:
        made = lifecycle.push_repository(ml_platform.open(), model)
        return dg.MaterializeResult(data_version=dg.DataVersion(str(made.epoch)), metadata=manifest(made))

    return triton_repository


def _prediction_log(model: Model) -> dg.AssetsDefinition:
    spec = _spec(
        model,
        "prediction_log",
        ("triton_repository", "batch_predictions"),
        {"deltalake"},
        "Decisions of all modes, sealed into lake and audit log. Its data version is the entry that sealed last.",
    )

    @dg.multi_asset(name=op_name(spec.key), specs=[spec])
    def prediction_log(ml_platform: PlatformResource) -> Made:
        platform = ml_platform.open()
        sealed, log = lifecycle.seal_once(platform, now=True), lifecycle.prediction_log(platform, model.name)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(str(log.log_index)),
            metadata={**manifest(log), "ml/sealed": metadata_value(sealed.to_json())},
        )

    return prediction_log
