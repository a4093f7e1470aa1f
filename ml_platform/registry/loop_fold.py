"""The fold's part for reversals, routes, flips, alerts, retrains and rollouts; used by `ml_platform.registry.fold`.

A handler gets a model whose layers belong to the fold, and returns the model after the entry. Entries about an alert
or a request that a partial view does not hold are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from ml_platform.registry.events import Entry
from ml_platform.registry.loop_state import (
    AlertState,
    ArmState,
    FlipState,
    RetrainState,
    RolloutState,
    RolloutStep,
    RouteState,
    Signal,
)
from ml_platform.registry.state import ModelState, Move, VersionState

__all__ = ["LOOP_HANDLERS", "new_rollout"]

_HELD: Final = ("staging", "canary", "production")


def new_rollout(entry: Entry) -> RolloutState:
    """What begins when a transition puts a version into canary."""
    return RolloutState(entry.body["version"], entry.index, entry.effective_at)


def _transition_reversed(model: ModelState, entry: Entry) -> ModelState:
    body = entry.body
    versions = dict(model.versions)
    for number, version in model.versions.items():
        if any(move.index == body["transition"] for move in version.history):
            to = body["to"] if number == body["version"] else body["from"]
            versions[number] = _undone(version, entry, to)
    for approval in [one for one in model.approvals.values() if one.consumed == body["transition"]]:
        model.approvals[approval.payload] = replace(approval, consumed=None, released=True)
    holders = {name: getattr(model, name) for name in _HELD}
    holders |= {body["from"]: body["restored"], body["to"]: body["version"]}
    held = {name: holders[name] for name in _HELD}
    return replace(model, versions=versions, last_transition=entry.index, intents={}, **held)


def _undone(version: VersionState, entry: Entry, to: str) -> VersionState:
    """A version as it was before the transition that an entry reverses; the history keeps both."""
    body = entry.body
    history = tuple(replace(move, undone=move.undone or move.index == body["transition"]) for move in version.history)
    back = Move(
        index=entry.index,
        effective_at=entry.effective_at,
        recorded_at=entry.recorded_at,
        action="reverse",
        source=version.stage,
        to=to,
        actor=body["actor"],
        reason=body["reason"],
        undone=True,
    )
    return replace(version, stage=to, history=(*history, back))


def _route_applied(model: ModelState, entry: Entry) -> ModelState:
    body = dict(entry.body)
    arms = tuple(ArmState(**arm) for arm in body.pop("arms"))
    rollbacks = tuple(body.pop("rollbacks"))
    route = RouteState(entry.index, entry.recorded_at, arms=arms, rollbacks=rollbacks, **body)
    return replace(model, route=route, flip=None)


def _route_flipped(model: ModelState, entry: Entry) -> ModelState:
    flip = FlipState(entry.index, entry.effective_at, entry.recorded_at, **entry.body)
    return replace(model, flip=flip)


def _rollout_decided(model: ModelState, entry: Entry) -> ModelState:
    rollout, body = model.rollout, entry.body
    if rollout is None or rollout.version != body["version"]:
        return model
    named = {name: body[name] for name in ("decision", "share_bp", "evidence", "actor")}
    step = RolloutStep(entry.index, entry.effective_at, entry.recorded_at, **named)
    return replace(model, rollout=replace(rollout, steps=(*rollout.steps, step)))


def _alert_raised(model: ModelState, entry: Entry) -> ModelState:
    alert = AlertState(raised=entry.index, raised_at=entry.effective_at, **entry.body)
    model.alerts[alert.alert] = alert
    return replace(model, open_alerts={**model.open_alerts, alert.about: alert.alert})


def _alert_acknowledged(model: ModelState, entry: Entry) -> ModelState:
    return _alert(model, entry, acknowledged=entry.index, acknowledged_by=entry.body["actor"])


def _alert_closed(model: ModelState, entry: Entry) -> ModelState:
    closed = _alert(model, entry, closed=entry.index, closed_at=entry.effective_at, cause=entry.body["cause"])
    still = {about: alert for about, alert in model.open_alerts.items() if alert != entry.body["alert"]}
    return replace(closed, open_alerts=still)


def _alert(model: ModelState, entry: Entry, **changes: Any) -> ModelState:
    known = model.alerts.get(entry.body["alert"])
    if known is not None:
        model.alerts[known.alert] = replace(known, **changes)
    return model


def _signal(entry: Entry) -> Signal:
    body = entry.body
    return Signal(entry.index, entry.recorded_at, body["trigger"], tuple(body["alerts"]), body["evidence"])


def _retrain_requested(model: ModelState, entry: Entry) -> ModelState:
    named = {name: entry.body[name] for name in ("request", "mode", "useful_from", "requested_by")}
    retrain = RetrainState(requested=entry.index, requested_at=entry.effective_at, signals=(_signal(entry),), **named)
    model.retrains[retrain.request] = retrain
    return replace(model, open_retrain=retrain.request)


def _retrain_merged(model: ModelState, entry: Entry) -> ModelState:
    known = model.retrains.get(entry.body["request"])
    return model if known is None else _retrain(model, entry, signals=(*known.signals, _signal(entry)))


def _retrain_decided(model: ModelState, entry: Entry) -> ModelState:
    body = entry.body
    return _retrain(model, entry, decision=body["decision"], decided=entry.index, decided_by=body["actor"])


def _retrain_started(model: ModelState, entry: Entry) -> ModelState:
    return _retrain(model, entry, started=entry.index, candidate=entry.body["candidate"])


def _retrain_finished(model: ModelState, entry: Entry) -> ModelState:
    named = {name: entry.body[name] for name in ("outcome", "version")}
    return _retrain(model, entry, finished=entry.index, finished_at=entry.effective_at, **named)


def _retrain(model: ModelState, entry: Entry, **changes: Any) -> ModelState:
    known = model.retrains.get(entry.body["request"])
    if known is None:
        return model
    changed = replace(known, **changes)
    model.retrains[known.request] = changed
    ended = model.open_retrain == known.request and not changed.open
    return replace(model, open_retrain=None) if ended else model


LOOP_HANDLERS: Final[Mapping[str, Callable[[ModelState, Entry], ModelState]]] = {
    "transition_reversed": _transition_reversed,
    "route_applied": _route_applied,
    "route_flipped": _route_flipped,
    "rollout_decided": _rollout_decided,
    "alert_raised": _alert_raised,
    "alert_acknowledged": _alert_acknowledged,
    "alert_closed": _alert_closed,
    "retrain_requested": _retrain_requested,
    "retrain_merged": _retrain_merged,
    "retrain_decided": _retrain_decided,
    "retrain_started": _retrain_started,
    "retrain_finished": _retrain_finished,
}
