"""Sensors of the loop: each looks at the log, the lake's versions and the clock, and asks for runs; none works itself.

A cursor says what was seen, a run key what was asked for; so a tick that is repeated asks for nothing twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from ml_platform import lifecycle
from ml_platform.core.errors import DeclarationError
from ml_platform.model import Model, plain_sources
from ml_platform.orchestration import loop_jobs as jobs
from ml_platform.orchestration.keys import model_key, windows
from ml_platform.orchestration.resource import PlatformResource

if TYPE_CHECKING:
    from ml_platform.platform import Platform

__all__ = ["RETRAIN_TAG", "drift_watch", "freshness_watch", "label_watch", "loop_sensors", "promotion_push"]

RETRAIN_TAG: Final = "ml/retrain"
_TRIES: Final = 3  # of a run that fails before its step is written down; then a person looks
_CATCH_UP: Final = 3  # windows that one tick asks for: Dagster writes each run within the tick, the next tick goes on
_RETRIES: Final = {"dagster/max_retries": str(_TRIES - 1)}  # by Dagster itself, where the instance has run_retries on
_ENDED: Final = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


@dataclass(frozen=True)
class Wanted:
    """What a look at one model asks for, the windows that must exist for it, and what is to be remembered."""

    runs: tuple[dg.RunRequest, ...] = ()
    windows: tuple[str, ...] = ()
    seen: Any = None


@dataclass(frozen=True)
class Tick:
    """What the looks of one tick share; models share tables, and each table's version is looked up once."""

    platform: Platform
    instance: dg.DagsterInstance
    _versions: dict[str, int | None] = field(default_factory=dict)

    def version(self, table: str) -> int | None:
        """The newest version of a table of the lake; None where there is none."""
        if table not in self._versions:
            self._versions[table] = self.platform.lake.version(table)
        return self._versions[table]


Look = Callable[[Tick, Model, Any], Wanted]


def loop_sensors(models: Sequence[Model], targets: Sequence[Any]) -> list[dg.SensorDefinition]:
    """All four.

    Args:
        models: of the code location.
        targets: its jobs, among them those that a sensor asks for: Dagster wants the very objects.
    """
    return [watch(models, targets) for watch in (drift_watch, promotion_push, label_watch, freshness_watch)]


def drift_watch(models: Sequence[Model], targets: Sequence[Any], *, interval_seconds: int = 30) -> dg.SensorDefinition:
    """Watches each window when it is over, and again when decisions about it were sealed later."""
    return _sensor("drift_watch", models, _of(targets, jobs.MONITOR), _drifting, interval_seconds, drift_watch.__doc__)


def promotion_push(
    models: Sequence[Model], targets: Sequence[Any], *, interval_seconds: int = 30
) -> dg.SensorDefinition:
    """Pushes what a new route names into the running server, and shows it."""
    return _sensor(
        "promotion_push", models, _of(targets, jobs.PUSH), _pushing, interval_seconds, promotion_push.__doc__
    )


def label_watch(models: Sequence[Model], targets: Sequence[Any], *, interval_seconds: int = 60) -> dg.SensorDefinition:
    """Measures windows whose labels have matured, and carries out retrain requests that have become useful."""
    wanted = [jobs.PERFORMANCE, jobs.START_RETRAIN, jobs.FINISH_RETRAIN, *(f"{model.name}_train" for model in models)]
    return _sensor("label_watch", models, _of(targets, *wanted), _maturing, interval_seconds, label_watch.__doc__)


def freshness_watch(
    models: Sequence[Model], targets: Sequence[Any], *, interval_seconds: int = 300
) -> dg.SensorDefinition:
    """Asks for a retrain where the version in production is past its declared freshness."""
    return _sensor(
        "freshness_watch", models, _of(targets, jobs.ASK_RETRAIN), _ageing, interval_seconds, freshness_watch.__doc__
    )


def _of(targets: Sequence[Any], *names: str) -> list[Any]:
    """The jobs of these names.

    Raises:
        DeclarationError: the deployment runs none of that name.
    """
    found = {job.name: job for job in targets}
    missing = sorted(set(names) - set(found))
    if missing:
        raise DeclarationError(
            f"The sensor asks for jobs that do not run here: {', '.join(missing)}.",
            field="jobs",
            next_step="Add them, or leave the sensor out.",
        )
    return [found[name] for name in names]


def _sensor(
    name: str, models: Sequence[Model], targets: Sequence[Any], look: Look, interval_seconds: int, doc: str | None
) -> dg.SensorDefinition:
    @dg.sensor(
        name=name,
        jobs=list(targets),
        minimum_interval_seconds=interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=doc,
    )
    def watch(context: dg.SensorEvaluationContext, ml_platform: PlatformResource) -> dg.SensorResult | dg.SkipReason:
        seen: dict[str, Any] = json.loads(context.cursor or "{}")
        tick = Tick(ml_platform.open(), context.instance)
        found = {model.name: look(tick, model, seen.get(model.name)) for model in models}
        runs = [run for wanted in found.values() for run in wanted.runs]
        remembered = seen | {model: wanted.seen for model, wanted in found.items() if wanted.seen is not None}
        if not runs and remembered == seen:
            return dg.SkipReason("Nothing new.")
        return dg.SensorResult(
            run_requests=runs,
            cursor=json.dumps(remembered, sort_keys=True),
            dynamic_partitions_requests=_additions(context.instance, found),
        )

    return watch


def _additions(instance: dg.DagsterInstance, found: Mapping[str, Wanted]) -> list[Any]:
    there = set(instance.get_dynamic_partitions(str(windows().name)))
    missing = sorted({window for wanted in found.values() for window in wanted.windows} - there)
    return [windows().build_add_request(missing)] if missing else []


def _drifting(tick: Tick, model: Model, seen: Any) -> Wanted:
    from ml_platform.serving.tables import predictions_table

    version = tick.version(predictions_table(model.name))
    if version is None:
        return Wanted()
    window, watched = seen or (None, None)
    due = lifecycle.finished_windows(tick.platform, window, tick.platform.clock.now())[:_CATCH_UP]
    if watched == version and due == [window]:
        return Wanted()
    keys = [model_key(model.name, noun) for noun in ("data_profile", "drift_report")]
    runs = [_window_run(jobs.MONITOR, keys, name, f"monitor:{model.name}:{name}:{version}") for name in due]
    return Wanted(tuple(runs), tuple(due), [due[-1], version])


def _window_run(job: str, keys: Sequence[dg.AssetKey], window: str, run_key: str) -> dg.RunRequest:
    # What was asked for is asked for once, so a run that dies must come back by itself.
    return dg.RunRequest(
        run_key=run_key, job_name=job, asset_selection=list(keys), partition_key=window, tags=dict(_RETRIES)
    )


def _pushing(tick: Tick, model: Model, seen: Any) -> Wanted:
    known = tick.platform.registry.state().models.get(model.name)
    route = None if known is None else known.route
    if route is None or seen == route.index:
        return Wanted()
    run = dg.RunRequest(
        run_key=f"push:{model.name}:{route.index}",
        job_name=jobs.PUSH,
        asset_selection=[model_key(model.name, "triton_repository")],
        tags=dict(_RETRIES),
    )
    return Wanted((run,), seen=route.index)


def _maturing(tick: Tick, model: Model, seen: Any) -> Wanted:
    from ml_platform.lifecycle.sources import source_table
    from ml_platform.serving.tables import predictions_table

    window, measured = seen or (None, None)
    version = tick.version(predictions_table(model.name))
    outcomes = [tick.version(source_table(one)) for one in plain_sources(model.label.outcome)]
    mature = None if version is None else lifecycle.mature_window(tick.platform, model, None)
    runs = list(_retraining(tick, model))
    if mature is None or [mature, [version, *outcomes]] == [window, measured]:
        return Wanted(tuple(runs))
    key = f"performance:{model.name}:{mature}:{version}:{'.'.join(map(str, outcomes))}"
    runs.append(_window_run(jobs.PERFORMANCE, [model_key(model.name, "performance_report")], mature, key))
    return Wanted(tuple(runs), (mature,), [mature, [version, *outcomes]])


def _retraining(tick: Tick, model: Model) -> Iterator[dg.RunRequest]:
    """The next step of the open request: start, train, finish; each once, tried again a few times if its run fails."""
    platform, instance = tick.platform, tick.instance
    for request in lifecycle.ready_retrains(platform, model):
        one = platform.registry.state().model(model.name).retrains[request]
        config = {"model": model.name, "request": request}
        if one.candidate is None:
            yield from _step(instance, jobs.START_RETRAIN, request, config)
            continue
        train = f"{model.name}_train"
        trained = _runs(instance, train, request)
        if not trained:
            tags = {RETRAIN_TAG: request}
            yield dg.RunRequest(run_key=f"{train}:{request}", job_name=train, partition_key=one.candidate, tags=tags)
        elif all(run.status in _ENDED for run in trained):
            yield from _step(instance, jobs.FINISH_RETRAIN, request, config)


def _step(instance: dg.DagsterInstance, job: str, request: str, config: Mapping[str, Any]) -> Iterator[dg.RunRequest]:
    before = _runs(instance, job, request)
    if len(before) < _TRIES and all(run.status in _ENDED for run in before):
        yield dg.RunRequest(
            run_key=f"{job}:{request}:{len(before)}",
            job_name=job,
            run_config={"ops": {f"{job}_op": {"config": dict(config)}}},
            tags={RETRAIN_TAG: request},
        )


def _runs(instance: dg.DagsterInstance, job: str, request: str) -> Sequence[dg.DagsterRun]:
    return instance.get_runs(dg.RunsFilter(job_name=job, tags={RETRAIN_TAG: request}))


def _ageing(tick: Tick, model: Model, seen: Any) -> Wanted:
    if not lifecycle.is_stale(tick.platform, model):
        return Wanted()
    day = f"{tick.platform.clock.now():%Y-%m-%d}"
    if seen == day:  # what was asked for today and refused, for a cool-down, is asked for again tomorrow
        return Wanted()
    run = dg.RunRequest(
        run_key=f"ask:{model.name}:{day}",
        job_name=jobs.ASK_RETRAIN,
        run_config={"ops": {"ask_retrain_op": {"config": {"model": model.name}}}},
    )
    return Wanted((run,), seen=day)
