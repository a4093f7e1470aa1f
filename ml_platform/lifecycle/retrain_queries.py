"""Requests to train again as a list, with what is known about them today. Reads only."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ml_platform.core.clock import format_utc, parse_utc
from ml_platform.core.digests import parse_canonical
from ml_platform.core.errors import NotFound
from ml_platform.lifecycle.retrain_evidence import Assessment, assess, named_alerts
from ml_platform.model import Model
from ml_platform.platform import Platform
from ml_platform.registry.loop_state import RetrainState, Signal
from ml_platform.registry.state import ModelState

__all__ = ["list_retrains", "logged_useful_from", "ready_retrains", "retrain_state"]


def retrain_state(platform: Platform, model: str, request: str) -> RetrainState:
    """What the log says of a request.

    Raises:
        NotFound: unknown model or request.
    """
    found = platform.registry.state().model(model).retrains.get(request)
    if found is None:
        raise NotFound(
            "There is no such request.", field="request", next_step=f"`mlp retrain list {model}` lists them."
        )
    return found


def list_retrains(platform: Platform, model: str, declared: Model | None = None) -> list[dict[str, Any]]:
    """Every request of a model, the newest first: what asked, how far it is, from when on it is useful.

    Args:
        platform: the root.
        model: its name.
        declared: the declaration; with it, an open request says what is known about it today.

    Raises:
        NotFound: unknown model.
    """
    known = platform.registry.state().model(model)
    ordered = sorted(known.retrains.values(), key=lambda one: one.requested, reverse=True)
    return [_listed(platform, known, one, declared) for one in ordered]


def _listed(platform: Platform, known: ModelState, one: RetrainState, declared: Model | None) -> dict[str, Any]:
    now = platform.clock.now()
    found = parse_canonical(platform.objects.get(one.signals[0].evidence))
    today = (
        assess(platform, declared, named_alerts(known, one.signals[0].alerts))
        if declared is not None and one.open
        else None
    )
    useful_from = _useful_from(platform, one, today)
    return {
        "request": one.request,
        "status": _status(one, useful_from, today, now),
        "mode": one.mode,
        "requested_by": one.requested_by,
        "requested_at": one.requested_at,
        "useful_from": None if useful_from is None else format_utc(useful_from),
        "meanwhile": found["meanwhile"],
        "signals": [_signal(signal) for signal in one.signals],
        "decided_by": one.decided_by,
        "candidate": one.candidate,
        "outcome": one.outcome,
        "version": one.version,
        "population": found["population"],
        "today": None if today is None else today.usefulness.to_json(),
        "log_index": one.requested,
    }


def _today(platform: Platform, model: Model, known: ModelState, one: RetrainState) -> Assessment:
    """By what asked first: a reason that was merged does not make a person's request wait."""
    return assess(platform, model, named_alerts(known, one.signals[0].alerts))


def _signal(signal: Signal) -> dict[str, Any]:
    return {"trigger": signal.trigger, "alerts": list(signal.alerts), "log_index": signal.index}


def logged_useful_from(platform: Platform, one: RetrainState) -> datetime | None:
    """The first date that the log tells: the request's own, or that of a later signal, when enough rows had come."""
    if one.useful_from is not None:
        return parse_utc(one.useful_from)
    for signal in one.signals:
        found = parse_canonical(platform.objects.get(signal.evidence))["usefulness"]["useful_from"]
        if found is not None:
            return parse_utc(found)
    return None


def _useful_from(platform: Platform, one: RetrainState, today: Assessment | None) -> datetime | None:
    """The date that was logged stands; where too few rows had come for one, what is known today."""
    found = logged_useful_from(platform, one)
    return found if found is not None or today is None else today.usefulness.useful_from


def _status(one: RetrainState, useful_from: datetime | None, today: Assessment | None, now: datetime) -> str:
    """How far it is, in words; the log's own word where it is past waiting."""
    if one.status not in {"waiting", "approved"}:
        return str(one.outcome or one.status)
    if not one.may_start:
        return "waiting for approval"
    short = useful_from is None and today is not None and not today.usefulness.is_useful(now)
    return "waiting for labels" if short or (useful_from is not None and useful_from > now) else "ready"


def ready_retrains(platform: Platform, model: Model) -> list[str]:
    """Requests that may be carried out now: consent given, enough rows mature, or started and not finished."""
    known = platform.registry.state().models.get(model.name)
    if known is None or known.open_retrain is None:
        return []
    one, now = known.retrains[known.open_retrain], platform.clock.now()
    if one.status == "started":
        return [one.request]
    if not one.may_start:
        return []
    today = _today(platform, model, known, one) if logged_useful_from(platform, one) is None else None
    return [one.request] if _status(one, _useful_from(platform, one, today), today, now) == "ready" else []
