"""What a retrain would be about: the drifted rows behind its alerts, and from when on enough of them are mature."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.core.clock import format_utc, parse_utc
from ml_platform.core.columns import category_texts
from ml_platform.core.contract import ResolvedField
from ml_platform.core.digests import canonical_json
from ml_platform.core.errors import NotFound
from ml_platform.core.rows import micros
from ml_platform.datasets import label_rows
from ml_platform.lifecycle.sources import read_source
from ml_platform.model import Model
from ml_platform.monitoring.retrain import Trigger
from ml_platform.monitoring.usefulness import BaseRate, Meanwhile, RowTimes, Usefulness, meanwhile, usefulness
from ml_platform.platform import Platform
from ml_platform.registry.loop_state import AlertState
from ml_platform.registry.state import ModelState
from ml_platform.training import load_artifact

__all__ = ["Assessment", "Population", "assess", "evidence_document", "named_alerts", "population_of"]

EVIDENCE_FORMAT: Final = "ml-platform/retrain-evidence/1"
_WINDOW: Final = re.compile(r"(\d{4}-\d{2})(-\d{2})?")
_LAST: Final = "_last"


@dataclass(frozen=True)
class Population:
    """The requests that a retrain is to learn about.

    Args:
        feature: the drifted one; None where no single feature has.
        categories: its new categories; empty where the drift is of another kind.
        since: where there are no new categories: requests from then on.
    """

    feature: str | None
    categories: tuple[str, ...]
    since: datetime | None

    def to_json(self) -> dict[str, Any]:
        # New categories are counted and not named: a category may say something about a person.
        return {
            "feature": self.feature,
            "new_categories": len(self.categories),
            "since": None if self.since is None else format_utc(self.since),
        }


@dataclass(frozen=True)
class Assessment:
    """What is known about a retrain now."""

    population: Population | None
    usefulness: Usefulness
    meanwhile: Meanwhile | None

    def to_json(self) -> dict[str, Any]:
        return {
            "population": None if self.population is None else self.population.to_json(),
            "usefulness": self.usefulness.to_json(),
            "meanwhile": None if self.meanwhile is None else self.meanwhile.to_json(),
        }


def assess(platform: Platform, model: Model, alerts: Sequence[AlertState]) -> Assessment:
    """What the alerts are about, and when a training can help; at once where they are about no population."""
    now = platform.clock.now()
    population, field = population_of(platform, model, alerts)
    if population is None:
        return Assessment(None, Usefulness.at_once(), None)
    rows = _requests(platform, model, population.feature, now)
    times = RowTimes(
        starts_us=_us(rows.column(model.request.time)),
        drifted=_drifted(rows, model, population),
        horizon=model.label.horizon_duration,
        lag=model.label.lag_duration,
    )
    rate = _base_rate(platform, model, now)
    found = usefulness(times, model.monitor.retraining, model.split, now, rate)
    return Assessment(population, found, meanwhile(field, unknown=bool(population.categories)))


def population_of(
    platform: Platform, model: Model, alerts: Sequence[AlertState]
) -> tuple[Population | None, ResolvedField | None]:
    """The drifted requests behind some alerts, and the field of the contract that they concern.

    Categories that the version never saw are the population, whenever they came. Without any, it is every request from
    the first alert's window on: what has changed then is not to be told row by row.
    """
    if not alerts:
        return None, None
    since = min((at for at in (_window_start(one.window) for one in alerts) if at is not None), default=None)
    fields = [one for one in (_field(platform, model, alert) for alert in alerts) if one is not None]
    columns = set(model.request.source.columns)
    for item in (one for one in fields if one.kind == "category" and one.name in columns):
        rows = _requests(platform, model, item.name, platform.clock.now())
        texts = pc.unique(category_texts(rows.column(item.name))).to_pylist()
        new = {str(text) for text in texts if text is not None} - set(item.categories or ())
        if new:
            return Population(item.name, tuple(sorted(new)), None), item
    named = fields[0] if len({one.name for one in fields}) == 1 else None
    return Population(None if named is None else named.name, (), since), named


def named_alerts(known: ModelState, names: tuple[str, ...]) -> list[AlertState]:
    """The alerts of some ids; raises ``NotFound`` for one that was never raised."""
    missing = [name for name in names if name not in known.alerts]
    if missing:
        raise NotFound(
            "No such alert was raised.", field=", ".join(missing), next_step=f"`mlp alerts {known.name}` lists them."
        )
    return [known.alerts[name] for name in names]


def _field(platform: Platform, model: Model, alert: AlertState) -> ResolvedField | None:
    """The contract's field that an alert is about, in the version that it is about or else in production."""
    known = platform.registry.state().model(model.name)
    version = alert.version or known.production
    if alert.subject is None or version is None:
        return None
    contract = load_artifact(platform.objects, known.version(version).digests.artifact).contract
    try:
        return contract.field(alert.subject)
    except NotFound:  # a slice, or an attribute that is no feature
        return None


def _window_start(window: str) -> datetime | None:
    """When a window begins whose name begins with a month or a day."""
    match = _WINDOW.match(window)
    return None if match is None else parse_utc(match[1] + (match[2] or "-01"))


def _requests(platform: Platform, model: Model, feature: str | None, now: datetime) -> pa.Table:
    """Keys, time and one column of every request known now, each once, by its last delivery; without withdrawn ones."""
    source = model.request.source
    table = read_source(platform, source, known_until_us=micros(now))
    identity = [*model.entity.keys, model.request.time]
    wanted = [name for name in (feature, source.deleted) if name is not None and name in table.column_names]
    wanted = [name for name in wanted if name not in identity]
    table = table.sort_by(source.known_column).select([*identity, *wanted])
    grouped = table.group_by(identity, use_threads=False).aggregate([(name, "last") for name in wanted])
    grouped = grouped.rename_columns([name.removesuffix(_LAST) if name not in identity else name
                                      for name in grouped.column_names])  # fmt: skip
    if source.deleted is None:
        return grouped
    withdrawn = [flag is True for flag in grouped.column(source.deleted).to_pylist()]  # a null flag is no withdrawal
    return grouped.filter(pa.array([not flag for flag in withdrawn], pa.bool_()))


def _drifted(rows: pa.Table, model: Model, population: Population) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    if population.categories:
        texts = category_texts(rows.column(str(population.feature)))
        found = pc.is_in(texts, value_set=pa.array(population.categories, pa.string()))
        return np.asarray(found.to_numpy(), np.bool_)
    starts = _us(rows.column(model.request.time))
    return starts >= (micros(population.since) if population.since is not None else starts.min(initial=0))


def _us(column: pa.ChunkedArray[Any]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.asarray(column.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy(), np.int64)


def _base_rate(platform: Platform, model: Model, now: datetime) -> BaseRate | None:
    """Events among all mature rows; None for labels that are values."""
    label, until = model.label, micros(now)
    if label.kind != "event_within":
        return None
    rows, outcomes = (read_source(platform, one, known_until_us=until) for one in (label.rows.source, label.outcome))
    mature = label_rows(label, rows, outcomes, now).mature
    return BaseRate(int(pc.sum(mature.column(label.column)).as_py() or 0), mature.num_rows)


def evidence_document(
    model: str, trigger: Trigger, alerts: Sequence[AlertState], found: Assessment, reason: str | None
) -> bytes:
    """What a request rests on (``ml-platform/retrain-evidence/1``), canonical bytes; counts and ids, no row values."""
    return canonical_json(
        {
            "format": EVIDENCE_FORMAT,
            "model": model,
            "trigger": trigger.kind,
            "alerts": [
                {"alert": one.alert, "rule": one.rule, "subject": one.subject, "window": one.window,
                 "version": one.version, "evidence": one.evidence}
                for one in alerts
            ],
            **found.to_json(),
            "reason": reason,
        }
    )  # fmt: skip
