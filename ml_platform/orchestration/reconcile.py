"""What the log says and Dagster does not show yet: a pure rule, and the sensor that applies it.

The log is the truth; aliases, versions and candidates in Dagster follow it, whoever wrote it (a CLI, an automatic
rollback, a job). An entry is reported once: what an asset already shows, by its newest ``ml/log_index``, is skipped,
so a tick that died between reporting and storing its cursor is simply repeated. (A tick that falls between the moment
a run has its version entered and the moment it reports that itself is early by one event, of the same data version.)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ml_platform.orchestration.keys import ALIAS_STAGES

if TYPE_CHECKING:
    from ml_platform.registry import Entry

__all__ = ["EMPTY", "LOG_INDEX", "Report", "Target", "bounded", "candidate_keys", "reconcile_events", "targets"]

EMPTY: Final = "none"
LOG_INDEX: Final = "ml/log_index"


@dataclass(frozen=True, order=True)
class Target:
    """An asset, or one candidate's partition of it."""

    model: str
    noun: str
    candidate: str | None = None


@dataclass(frozen=True)
class Report:
    """One event that Dagster must show: what the target's data version became, by which entry, and who and why."""

    index: int
    target: Target
    data_version: str
    metadata: Mapping[str, Any]


def candidate_keys(entries: Iterable[Entry], models: Collection[str]) -> dict[str, list[str]]:
    """The candidates that the entries name, by model: their partitions must exist before anything is reported."""
    found: dict[str, dict[str, None]] = {}
    for entry in entries:
        if entry.model in models and "candidate" in entry.body:
            found.setdefault(str(entry.model), {})[str(entry.body["candidate"])] = None
    return {model: list(keys) for model, keys in found.items()}


def reconcile_events(
    entries: Sequence[Entry],
    shown: Mapping[Target, int],
    *,
    models: Collection[str],
    approvers: Mapping[str, str] | None = None,
) -> list[Report]:
    """The events to report, in log order.

    Args:
        entries: new entries of the log, by rising index.
        shown: the newest log index that each target shows; absent where it shows none.
        models: the models of this code location; others' entries belong to others' sensors.
        approvers: payload digest of an approval → principal who signed it.
    """
    signed = approvers or {}
    return [
        report
        for entry in entries
        for report in _reports(entry, signed)
        if report.target.model in models and report.index > shown.get(report.target, -1)
    ]


def bounded(reports: Sequence[Report], most: int, next_index: int) -> tuple[list[Report], int]:
    """The first reports, ``most`` or those of one entry more, and the log index from which to go on after them.

    Args:
        reports: in log order.
        most: how many a tick should make, at least 1.
        next_index: from which to go on when all of them are made.
    """
    if len(reports) <= most:
        return list(reports), next_index
    last = reports[most - 1].index  # an entry is shown as a whole: the cursor knows no half ones
    return [report for report in reports if report.index <= last], last + 1


def targets(entries: Iterable[Entry], models: Collection[str]) -> set[Target]:
    """The targets that the entries are about."""
    found = {report.target for entry in entries for report in _reports(entry, {})}
    return {target for target in found if target.model in models}


def _reports(entry: Entry, approvers: Mapping[str, str]) -> Iterator[Report]:
    if entry.kind == "registered":
        yield _registered(entry)
    elif entry.kind == "transition":
        yield from _transition(entry, approvers)
    elif entry.kind == "route_applied":
        yield _routed(entry)
    elif entry.kind == "segments_sealed":
        yield from _sealed(entry)


def _registered(entry: Entry) -> Report:
    body = entry.body
    names = ("candidate", "artifact", "evaluation", "training_set", "registered_by")
    target = Target(str(entry.model), "registered_version", body["candidate"])
    facts = {"ml/version": body["version"], **{f"ml/{name}": body[name] for name in names}}
    return Report(entry.index, target, f"v{body['version']}", {**_when(entry), **facts})


def _transition(entry: Entry, approvers: Mapping[str, str]) -> Iterator[Report]:
    # A stage is held by one version: the one that moves leaves its stage empty and fills the next.
    body, model = entry.body, str(entry.model)
    signed = sorted({approvers[payload] for payload in body["approvals"] if payload in approvers})
    facts = {
        **_when(entry),
        "ml/action": body["action"],
        "ml/from": body["from"],
        "ml/to": body["to"],
        "ml/moved_version": body["version"],
        "ml/displaced_version": body["displaced"],
        "ml/actor": body["actor"],
        "ml/approvers": signed,
        "ml/approvals": list(body["approvals"]),
        "ml/reason": body["reason"],
    }
    if body["from"] in ALIAS_STAGES:
        yield Report(entry.index, Target(model, body["from"]), EMPTY, facts)
    if body["to"] in ALIAS_STAGES:
        holds = {**facts, "ml/version": body["version"]}
        yield Report(entry.index, Target(model, body["to"]), f"v{body['version']}", holds)


def _routed(entry: Entry) -> Report:
    body = entry.body
    arms = {arm["arm"]: {"version": arm["version"], "share_bp": arm["share_bp"]} for arm in body["arms"]}
    facts = {"ml/epoch": body["epoch"], "ml/route": body["digest"], "ml/arms": arms, "ml/actor": body["actor"]}
    facts |= {"ml/rollbacks": list(body["rollbacks"]), "ml/supersedes_flip": body["supersedes_flip"]}
    return Report(entry.index, Target(str(entry.model), "triton_repository"), str(body["epoch"]), _when(entry) | facts)


def _sealed(entry: Entry) -> Iterator[Report]:
    """A report for each model of the segments: how many of its decisions this entry sealed."""
    segments = entry.body["segments"]
    for model in sorted({name for segment in segments for name in segment["models"]}):
        own = [segment for segment in segments if model in segment["models"]]
        facts = {"ml/segments": len(own), "ml/sealed_decisions": sum(segment["size"] for segment in own)}
        yield Report(entry.index, Target(model, "prediction_log"), str(entry.index), _when(entry) | facts)


def _when(entry: Entry) -> dict[str, Any]:
    return {LOG_INDEX: entry.index, "ml/effective_at": entry.effective_at, "ml/recorded_at": entry.recorded_at}
