"""Jobs: those that build and score are selections of assets, those that govern write the log and nothing else."""

# No `annotations` from the future here: Dagster reads the annotations of `context` and `config` as it stands.

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import dagster as dg
from pydantic import Field

from ml_platform import lifecycle
from ml_platform.core.clock import parse_utc
from ml_platform.core.errors import NotFound
from ml_platform.model import Model
from ml_platform.orchestration.candidate import CANDIDATE_NOUNS
from ml_platform.orchestration.keys import candidates_name, model_key, tags, view_key
from ml_platform.orchestration.metadata import manifest
from ml_platform.orchestration.resource import PlatformResource
from ml_platform.orchestration.views import shared_views

if TYPE_CHECKING:
    from ml_platform.lifecycle import Candidate
    from ml_platform.platform import Platform

__all__ = [
    "AssetJob",
    "CandidateConfig",
    "PromoteConfig",
    "RollbackConfig",
    "features_job",
    "named_model",
    "promote_job",
    "request_candidate",
    "request_candidate_job",
    "rollback_job",
    "score_job",
    "train_job",
]

AssetJob: TypeAlias = Any  # what ``define_asset_job`` returns; its class has no public name


class CandidateConfig(dg.Config):
    """Which candidate to ask for."""

    model: str = Field(description="Name of the model.")
    as_of: str = Field(description="RFC 3339 UTC time, or a date: only what was known then is used.")


class PromoteConfig(dg.Config):
    """Which version moves forward, to where, by whom and why."""

    model: str = Field(description="Name of the model.")
    version: int = Field(description="Version number.", ge=1)
    to: str = Field(description="staging, canary or production.")
    principal: str = Field(description="Id of the person who asks for it.")
    reason: str = Field(description="Why; kept as evidence.")


class RollbackConfig(dg.Config):
    """Which model goes back, to which version, by whom and why."""

    model: str = Field(description="Name of the model.")
    version: int | None = Field(default=None, description="Version number; empty: the production version before.")
    principal: str = Field(description="Id of the person who asks for it.")
    reason: str = Field(description="Why; kept as evidence.")


def train_job(model: Model) -> AssetJob:
    """``<model>_train``: a candidate partition, from its training set to its registration."""
    return dg.define_asset_job(
        f"{model.name}_train",
        selection=dg.AssetSelection.assets(*(model_key(model.name, noun) for noun in CANDIDATE_NOUNS)),
        executor_def=dg.in_process_executor,
        tags=tags(model.name),
        description=f"Builds one candidate of {model.name}; stops at its gates.",
    )


def score_job(model: Model) -> AssetJob:
    """``<model>_score_batch``: one month of requests."""
    return dg.define_asset_job(
        f"{model.name}_score_batch",
        selection=dg.AssetSelection.assets(model_key(model.name, "batch_predictions")),
        executor_def=dg.in_process_executor,
        tags=tags(model.name),
        description=f"Decides one month of requests by the production version of {model.name}.",
    )


def features_job(models: Sequence[Model]) -> AssetJob:
    """``materialize_features``: a range of months of every stored view."""
    return dg.define_asset_job(
        "materialize_features",
        selection=dg.AssetSelection.assets(*(view_key(shared.name) for shared in shared_views(models))),
        executor_def=dg.in_process_executor,
        description="Computes stored features for the months in which they became known.",
    )


def request_candidate(
    platform: "Platform", instance: dg.DagsterInstance, model: Model, as_of: datetime, *, code: Path | None = None
) -> "Candidate":
    """Logs the request and adds the candidate's partition, for which ``<model>_train`` can then run."""
    found = lifecycle.request_candidate(platform, model, as_of, code=code)
    instance.add_dynamic_partitions(candidates_name(model.name), [found.key])
    return found


def request_candidate_job(models: Sequence[Model]) -> dg.JobDefinition:
    """``request_candidate``: pins the inputs of a candidate as of a time and adds its partition."""
    named = {model.name: model for model in models}

    @dg.op(name="request_candidate_op", out=dg.Out(dg.Nothing))
    def ask(context: dg.OpExecutionContext, config: CandidateConfig, ml_platform: PlatformResource) -> None:
        model, as_of = named_model(named, config.model), parse_utc(config.as_of)
        found = request_candidate(ml_platform.open(), context.instance, model, as_of, code=ml_platform.code_folder)
        context.add_output_metadata(manifest(found))

    @dg.job(name="request_candidate", executor_def=dg.in_process_executor, description=request_candidate_job.__doc__)
    def request() -> None:
        ask()

    return request


def promote_job(models: Sequence[Model]) -> dg.JobDefinition:
    """``promote``: moves a version one stage forward. It only writes the log; ``reconcile`` shows what it did."""
    named = {model.name: model for model in models}

    @dg.op(name="promote_op", out=dg.Out(dg.Nothing))
    def move(context: dg.OpExecutionContext, config: PromoteConfig, ml_platform: PlatformResource) -> None:
        platform, model = ml_platform.open(), named_model(named, config.model).name
        who, why = config.principal, config.reason
        if config.to == "staging":
            moved = lifecycle.stage(platform, model, config.version, principal=who, reason=why)
        else:
            moved = lifecycle.promote(platform, model, config.version, config.to, principal=who, reason=why)
        context.add_output_metadata(manifest(moved))

    @dg.job(name="promote", executor_def=dg.in_process_executor, description=promote_job.__doc__)
    def promote() -> None:
        move()

    return promote


def rollback_job(models: Sequence[Model]) -> dg.JobDefinition:
    """``rollback``: production goes back to a version that held it. It only writes the log."""
    named = {model.name: model for model in models}

    @dg.op(name="rollback_op", out=dg.Out(dg.Nothing))
    def move(context: dg.OpExecutionContext, config: RollbackConfig, ml_platform: PlatformResource) -> None:
        moved = lifecycle.rollback(
            ml_platform.open(),
            named_model(named, config.model).name,
            to_version=config.version,
            principal=config.principal,
            reason=config.reason,
        )
        context.add_output_metadata(manifest(moved))

    @dg.job(name="rollback", executor_def=dg.in_process_executor, description=rollback_job.__doc__)
    def rollback() -> None:
        move()

    return rollback


def named_model(models: dict[str, Model], name: str) -> Model:
    """The model of a name.

    Raises:
        NotFound: this code location has none.
    """
    if name not in models:
        raise NotFound(
            "This code location has no such model.",
            field="model",
            next_step=f"It has {', '.join(sorted(models))}.",
        )
    return models[name]
