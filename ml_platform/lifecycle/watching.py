"""Watching a model: judgements of a window become alerts of the audit log, and alerts whose condition is gone close."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from ml_platform.core.digests import canonical_json
from ml_platform.core.errors import NotEnoughData
from ml_platform.lifecycle.monitoring import drift_report
from ml_platform.lifecycle.performance import performance_report
from ml_platform.lifecycle.scoring import Window
from ml_platform.lifecycle.window_records import monitored_window, window_before
from ml_platform.model import Model
from ml_platform.monitoring.alerts import Close, OpenAlert, Raise, closes, raises
from ml_platform.monitoring.severity import Judgement
from ml_platform.platform import Platform
from ml_platform.registry.state import AlertState, ModelState

__all__ = ["WatchResult", "alert_document", "evidence_document", "matured_window", "watch"]

EVIDENCE_FORMAT: Final = "ml-platform/alert-evidence/1"


@dataclass(frozen=True)
class WatchResult:
    """What a watch changed, and what is open after it. ``windows``: that it judged, and by which rules."""

    model: str
    window: str
    windows: tuple[str, ...]
    raised: tuple[AlertState, ...]
    closed: tuple[AlertState, ...]
    open: tuple[AlertState, ...]

    def to_json(self) -> dict[str, Any]:
        groups = {"raised": self.raised, "closed": self.closed, "open": self.open}
        return {
            "model": self.model,
            "window": self.window,
            "windows": list(self.windows),
            **{name: [alert_document(self.model, one) for one in found] for name, found in groups.items()},
        }


def alert_document(model: str, alert: AlertState) -> dict[str, Any]:
    """An alert as it is shown: no row values are in it."""
    return {
        "model": model,
        "alert": alert.alert,
        "rule": alert.rule,
        "severity": alert.severity,
        "version": alert.version,
        "window": alert.window,
        "subject": alert.subject,
        "evidence": alert.evidence,
        "open": alert.open,
        "raised_at": alert.raised_at,
        "acknowledged_by": alert.acknowledged_by,
        "closed_at": alert.closed_at,
        "cause": alert.cause,
        "log_index": alert.raised,
    }


def watch(platform: Platform, model: Model, window: str) -> WatchResult:
    """Judges a window and what has matured by now; raises and closes alerts of the versions that serve. Idempotent.

    Drift and latency are of ``window``; accuracy is of the newest window of its kind whose labels are all mature, and
    is left out where nothing was decided in it. A window without decisions raises and recovers nothing.

    Raises:
        DataError: the window is neither a month nor a day.
        NotFound: the log knows no such model.
    """
    span = monitored_window(window)
    before = platform.registry.state().model(model.name)
    matured = matured_window(model, span, platform.clock.now())
    judged = {window: _judge_drift(platform, model, window)}
    for name in dict.fromkeys((window, *([] if matured is None else [matured.partition]))):
        found = _judge_performance(platform, model, name)
        held = judged.setdefault(name, {})
        for version, judgements in found.items():
            # How fast it was then is past; only what had to mature is judged late.
            mine = [one for one in judgements if name == window or one.rule != "latency_p99"]
            held[version] = (*held.get(version, ()), *mine)
    for name, by_version in judged.items():
        _act(platform, model.name, name, by_version)
    after = platform.registry.state().model(model.name)
    return WatchResult(
        model=model.name,
        window=window,
        windows=tuple(judged),
        raised=tuple(one for name, one in sorted(after.alerts.items()) if name not in before.alerts),
        closed=tuple(
            one
            for name, one in sorted(after.alerts.items())
            if not one.open and (name not in before.alerts or before.alerts[name].open)
        ),
        open=tuple(after.alerts[name] for name in sorted(after.open_alerts.values())),
    )


def matured_window(model: Model, window: Window, now: datetime) -> Window | None:
    """The newest window, of the same kind and no newer, whose requests' labels have all matured; None before 1970."""
    mature_until = model.label.horizon_duration.before(model.label.lag_duration.before(now))
    name = mature_until.strftime("%Y-%m-%d" if len(window.partition) > len("YYYY-MM") else "%Y-%m")
    found = window_before(monitored_window(name))
    return min(found, window, key=lambda one: one.start)


def _judge_drift(platform: Platform, model: Model, window: str) -> dict[int, Sequence[Judgement]]:
    try:
        result = drift_report(platform, model, window)
    except NotEnoughData:
        return {}
    return {one.version: one.judgements for one in result.versions}


def _judge_performance(platform: Platform, model: Model, window: str) -> dict[int, Sequence[Judgement]]:
    return {one.version: one.judgements for one in performance_report(platform, model, window).versions}


def _serving(known: ModelState) -> set[int]:
    held = {known.production, known.holder("canary")}
    return {one for one in held if isinstance(one, int)}


def _open(known: ModelState) -> list[OpenAlert]:
    alerts = [known.alerts[name] for name in known.open_alerts.values()]
    return [OpenAlert(one.alert, one.rule, one.subject, one.version, one.window) for one in alerts]


def _act(platform: Platform, model: str, window: str, judgements: Mapping[int, Sequence[Judgement]]) -> None:
    """Closes first, so that a replaced version's alert does not stand beside its successor's."""
    known = platform.registry.state().model(model)
    serving = _serving(known)
    retrained = {
        alert
        for request in known.retrains.values()
        if request.version is not None and request.version in serving
        for alert in request.alerts
    }
    for close in closes(_open(known), judgements, window, serving=serving, retrained=retrained):
        _close(platform, model, window, close)
    known = platform.registry.state().model(model)
    for version in sorted(serving & set(judgements)):
        found = raises(model, version, window, judgements[version], open_alerts=_open(known), known=set(known.alerts))
        for one in found:
            _raise(platform, model, window, one)


def _evidence(platform: Platform, model: str, version: int | None, window: str, judgement: Judgement) -> str:
    return platform.objects.put(canonical_json(evidence_document(model, version, window, judgement)))


def evidence_document(model: str, version: int | None, window: str, judgement: Judgement) -> dict[str, Any]:
    """What an alert was raised, or closed, on."""
    return {
        "format": EVIDENCE_FORMAT,
        "model": model,
        "version": version,
        "window": window,
        "judgement": judgement.to_json(),
    }


def _raise(platform: Platform, model: str, window: str, wish: Raise) -> None:
    judgement = wish.judgement
    platform.registry.raise_alert(
        model,
        alert=wish.alert,
        rule=judgement.rule,
        severity=judgement.severity,
        version=wish.version,
        window=window,
        subject=judgement.subject,
        evidence=_evidence(platform, model, wish.version, window, judgement),
    )


def _close(platform: Platform, model: str, window: str, wish: Close) -> None:
    said = wish.judgement
    platform.registry.close_alert(
        model,
        alert=wish.alert,
        cause=wish.cause,
        actor=platform.settings.launcher,
        evidence=None if said is None else _evidence(platform, model, None, window, said),
    )
