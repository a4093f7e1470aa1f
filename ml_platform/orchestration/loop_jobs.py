"""Jobs of serving and of the loop: pushing, sealing, watching windows, and the steps of a retrain request."""

# No `annotations` from the future here: Dagster reads the annotations of `context` and `config` as it stands.

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from ml_platform import lifecycle
from ml_platform.model import Model
from ml_platform.orchestration.jobs import AssetJob, named_model
from ml_platform.orchestration.keys import candidates_name, model_key
from ml_platform.orchestration.metadata import manifest
from ml_platform.orchestration.resource import RESOURCE_KEY, PlatformRef, PlatformResource, as_resource

__all__ = [
    "ASK_RETRAIN",
    "DECIDE_RETRAIN",
    "FINISH_RETRAIN",
    "MONITOR",
    "PERFORMANCE",
    "PUSH",
    "SEAL",
    "START_RETRAIN",
    "loop_jobs",
]

PUSH, SEAL, MONITOR, PERFORMANCE = "push_repositories", "seal", "monitor", "measure_performance"
ASK_RETRAIN, DECIDE_RETRAIN = "ask_retrain", "decide_retrain"
START_RETRAIN, FINISH_RETRAIN = "start_retrain", "finish_retrain"


class AskConfig(dg.Config):
    """Whose alerts and freshness are looked at."""

    model: str = Field(description="Name of the model.")


class DecideConfig(dg.Config):
    """Which request is decided, how, by whom."""

    model: str = Field(description="Name of the model.")
    request: str = Field(description="Id of the request; `mlp retrain list` shows it.")
    decision: Literal["approve", "reject"] = Field(description="Whether the training may begin.")
    principal: str = Field(description="Id of the person who decides.")
    reason: str = Field(description="Why; kept as evidence.")


class RequestConfig(dg.Config):
    """Which request goes on."""

    model: str = Field(description="Name of the model.")
    request: str = Field(description="Id of the request.")


def loop_jobs(models: Sequence[Model], platform: PlatformRef = None) -> list[Any]:
    """All of them, each once for all models of the code location.

    Args:
        models: of the code location.
        platform: as for ``definitions``. Bound here, since Dagster makes a sensor anew whose jobs lack a resource.
    """
    bound = {RESOURCE_KEY: as_resource(platform)}
    return [
        _selected(PUSH, models, ("triton_repository",), "Loads what routes name into the running server."),
        _selected(SEAL, models, ("prediction_log",), "Seals what routers have logged."),
        _selected(MONITOR, models, ("data_profile", "drift_report"), "Watches a window: profile, drift, alerts."),
        _selected(PERFORMANCE, models, ("performance_report",), "Measures a window whose labels are mature."),
        ask_retrain_job(models, bound),
        decide_retrain_job(models, bound),
        start_retrain_job(models, bound),
        finish_retrain_job(models, bound),
    ]


def _selected(name: str, models: Sequence[Model], nouns: tuple[str, ...], description: str) -> AssetJob:
    keys = [model_key(model.name, noun) for model in models for noun in nouns]
    return dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(*keys),
        executor_def=dg.in_process_executor,
        description=description,
    )


def ask_retrain_job(models: Sequence[Model], resources: Mapping[str, Any] | None = None) -> dg.JobDefinition:
    """``ask_retrain``: asks for a training where an alert, decay or an old training set calls for one."""
    named = {model.name: model for model in models}

    @dg.op(name="ask_retrain_op", out=dg.Out(dg.Nothing))
    def ask(context: dg.OpExecutionContext, config: AskConfig, ml_platform: PlatformResource) -> None:
        for asked in lifecycle.watch_retrains(ml_platform.open(), named_model(named, config.model)):
            context.log.info("%s: %s", asked.outcome, asked.why)

    @dg.job(
        name=ASK_RETRAIN,
        executor_def=dg.in_process_executor,
        resource_defs=resources,
        description=ask_retrain_job.__doc__,
    )
    def job() -> None:
        ask()

    return job


def decide_retrain_job(models: Sequence[Model], resources: Mapping[str, Any] | None = None) -> dg.JobDefinition:
    """``decide_retrain``: a person approves or rejects a queued request. It only writes the log."""
    named = {model.name: model for model in models}

    @dg.op(name="decide_retrain_op", out=dg.Out(dg.Nothing))
    def decide(context: dg.OpExecutionContext, config: DecideConfig, ml_platform: PlatformResource) -> None:
        index = lifecycle.decide_retrain(
            ml_platform.open(),
            named_model(named, config.model).name,
            config.request,
            "approved" if config.decision == "approve" else "rejected",
            principal=config.principal,
            reason=config.reason,
        )
        context.log.info("Entry %d holds the decision.", index)

    @dg.job(
        name=DECIDE_RETRAIN,
        executor_def=dg.in_process_executor,
        resource_defs=resources,
        description=decide_retrain_job.__doc__,
    )
    def job() -> None:
        decide()

    return job


def start_retrain_job(models: Sequence[Model], resources: Mapping[str, Any] | None = None) -> dg.JobDefinition:
    """``start_retrain``: pins the inputs of a request's candidate and adds its partition; training follows."""
    named = {model.name: model for model in models}

    @dg.op(name="start_retrain_op", out=dg.Out(dg.Nothing))
    def start(context: dg.OpExecutionContext, config: RequestConfig, ml_platform: PlatformResource) -> None:
        model = named_model(named, config.model)
        found = lifecycle.start_retrain(ml_platform.open(), model, config.request, code=ml_platform.code_folder)
        context.instance.add_dynamic_partitions(candidates_name(model.name), [found.key])
        context.add_output_metadata(manifest(found))

    @dg.job(
        name=START_RETRAIN,
        executor_def=dg.in_process_executor,
        resource_defs=resources,
        description=start_retrain_job.__doc__,
    )
    def job() -> None:
        start()

    return job


def finish_retrain_job(models: Sequence[Model], resources: Mapping[str, Any] | None = None) -> dg.JobDefinition:
    """``finish_retrain``: enters how a request's training ended: a version, or what refused it."""
    named = {model.name: model for model in models}

    @dg.op(name="finish_retrain_op", out=dg.Out(dg.Nothing))
    def finish(context: dg.OpExecutionContext, config: RequestConfig, ml_platform: PlatformResource) -> None:
        model = named_model(named, config.model)
        made = lifecycle.finish_retrain(ml_platform.open(), model, config.request, code=ml_platform.code_folder)
        context.add_output_metadata(manifest(made))

    @dg.job(
        name=FINISH_RETRAIN,
        executor_def=dg.in_process_executor,
        resource_defs=resources,
        description=finish_retrain_job.__doc__,
    )
    def job() -> None:
        finish()

    return job
