"""``reconcile``: the sensor that shows in Dagster what the audit log says."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import dagster as dg

from ml_platform.core.errors import PlatformError
from ml_platform.model import Model
from ml_platform.orchestration.keys import candidates_name, model_key
from ml_platform.orchestration.metadata import metadata_value
from ml_platform.orchestration.reconcile import (
    LOG_INDEX,
    Report,
    Target,
    bounded,
    candidate_keys,
    reconcile_events,
    targets,
)
from ml_platform.orchestration.resource import PlatformResource

if TYPE_CHECKING:
    from ml_platform.platform import Platform
    from ml_platform.registry import Entry

__all__ = ["Reconciled", "pending", "reconcile_now", "reconcile_sensor"]

ENTRIES_PER_TICK: Final = 2_000
REPORTS_PER_TICK: Final = 25  # each is a write into Dagster's database, within the tick


@dataclass(frozen=True)
class Reconciled:
    """What is to be reported, and the log index from which to go on afterwards."""

    events: tuple[dg.AssetMaterialization, ...]
    next_index: int


def pending(platform: Platform, instance: dg.DagsterInstance, models: Sequence[str], start: int) -> Reconciled:
    """What the log says from ``start`` on and the instance does not show; adds missing candidate partitions itself.

    Keys first: a materialisation of a partition that does not exist would be counted nowhere. Adding one twice
    changes nothing.
    """
    entries = list(platform.registry.entries(start, start + ENTRIES_PER_TICK))
    end = entries[-1].index + 1 if entries else start
    _, next_index = bounded(reconcile_events(entries, {}, models=models), REPORTS_PER_TICK, end)
    entries = [entry for entry in entries if entry.index < next_index]
    for model, keys in candidate_keys(entries, models).items():
        _add_partitions(instance, model, keys)
    reports = reconcile_events(
        entries,
        _shown(instance, targets(entries, models)),
        models=models,
        approvers=_approvers(platform, entries),
    )
    return Reconciled(tuple(_materialization(report) for report in reports), next_index)


def reconcile_now(platform: Platform, instance: dg.DagsterInstance, models: Iterable[Model], start: int = 0) -> int:
    """Reports everything that is pending, without a daemon; returns the log index from which to go on."""
    names = [model.name for model in models]
    while True:
        found = pending(platform, instance, names, start)
        for event in found.events:
            instance.report_runless_asset_event(event)
        if found.next_index == start:
            return start
        start = found.next_index


def reconcile_sensor(models: Sequence[Model], *, interval_seconds: int = 30) -> dg.SensorDefinition:
    """Reports transitions, registrations, routes, sealed decisions and candidates, once each and in log order.

    The cursor is the next log index; Dagster stores it after the events, so a tick that dies in between is repeated
    and skips what is shown already. It starts no work.
    """
    names = [model.name for model in models]

    @dg.sensor(
        name="reconcile",
        minimum_interval_seconds=interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=reconcile_sensor.__doc__,
    )
    def reconcile(
        context: dg.SensorEvaluationContext, ml_platform: PlatformResource
    ) -> dg.SensorResult | dg.SkipReason:
        platform, start = ml_platform.open(), int(context.cursor or 0)
        _enter_flips(platform, context)
        found = pending(platform, context.instance, names, start)
        if found.next_index == start:
            return dg.SkipReason(f"The log has no entry {start} yet.")
        return dg.SensorResult(asset_events=list(found.events), cursor=str(found.next_index))

    return reconcile


def _enter_flips(platform: Platform, context: dg.SensorEvaluationContext) -> None:
    """Enters local rollbacks that were made while the registry was away; what the log refuses is told, every tick."""
    from ml_platform import lifecycle

    try:
        lifecycle.enter_pending_flips(platform)
    except PlatformError as error:
        context.log.warning("A local rollback is not in the log: %s", error)


def _add_partitions(instance: dg.DagsterInstance, model: str, keys: Sequence[str]) -> None:
    name = candidates_name(model)
    there = set(instance.get_dynamic_partitions(name))
    missing = [key for key in keys if key not in there]
    if missing:
        instance.add_dynamic_partitions(name, missing)


def _shown(instance: dg.DagsterInstance, wanted: Collection[Target]) -> dict[Target, int]:
    """The newest log index that each target shows, from the metadata of its last materialisation."""
    whole = {model_key(one.model, one.noun): one for one in wanted if one.candidate is None}
    shown: dict[Target, dg.AssetMaterialization | None] = {}
    for kept in instance.get_asset_records(list(whole)) if whole else ():  # one question for all of them
        newest = kept.asset_entry.last_materialization
        shown[whole[kept.asset_entry.asset_key]] = newest.asset_materialization if newest else None
    for target in wanted:
        if target.candidate is not None:
            records = dg.AssetRecordsFilter(
                asset_key=model_key(target.model, target.noun), asset_partitions=[target.candidate]
            )
            for record in instance.fetch_materializations(records, limit=1).records:
                shown[target] = record.asset_materialization
    indexes = {target: event.metadata.get(LOG_INDEX) for target, event in shown.items() if event is not None}
    return {target: one.value for target, one in indexes.items() if one is not None and isinstance(one.value, int)}


def _approvers(platform: Platform, entries: Iterable[Entry]) -> dict[str, str]:
    state = platform.registry.state()
    used = {
        (str(entry.model), payload)
        for entry in entries
        if entry.kind == "transition"
        for payload in entry.body["approvals"]
    }
    known = {(name, payload): one for name, model in state.models.items() for payload, one in model.approvals.items()}
    return {key[1]: known[key].principal for key in used if key in known}


def _materialization(report: Report) -> dg.AssetMaterialization:
    target = report.target
    metadata = {name: metadata_value(value) for name, value in report.metadata.items() if value is not None}
    return dg.AssetMaterialization(
        model_key(target.model, target.noun),
        partition=target.candidate,
        metadata={**metadata, "ml/registered": dg.MetadataValue.asset(model_key(target.model, "registered_version"))},
        tags={"dagster/data_version": report.data_version, "dagster/data_version_is_user_provided": "true"},
    )
