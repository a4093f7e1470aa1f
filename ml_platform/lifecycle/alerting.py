"""Alerts of the audit log: listing, acknowledging, closing by hand, and delivering notices to the declared routes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from ml_platform.core.errors import NotFound, SettingsError
from ml_platform.lifecycle.watching import alert_document
from ml_platform.monitoring.notices import PAGERDUTY_URL, AlertRoute, Delivered, Notice, Target, deliver
from ml_platform.platform import Platform
from ml_platform.registry.events import Entry
from ml_platform.registry.loop_state import AlertState
from ml_platform.registry.state import State

__all__ = ["acknowledge_alert", "close_alert", "deliver_notices", "list_alerts", "show_alert"]

_EVENTS: Final = {"alert_raised": "raised", "alert_acknowledged": "acknowledged", "alert_closed": "closed"}


def list_alerts(platform: Platform, model: str | None = None, *, open_only: bool = False) -> dict[str, Any]:
    """Alerts, the gravest open ones first, then the newest.

    Raises:
        NotFound: the log knows no such model.
    """
    state = platform.registry.state()
    models = sorted(state.models) if model is None else [state.model(model).name]
    found = [
        alert_document(name, alert)
        for name in models
        for _, alert in sorted(state.models[name].alerts.items())
        if alert.open or not open_only
    ]
    found.sort(key=lambda one: (not one["open"], one["severity"] if one["open"] else "", -one["log_index"]))
    return {"alerts": found, "open": sum(one["open"] for one in found)}


def show_alert(platform: Platform, alert: str) -> dict[str, Any]:
    """One alert with the judgement behind it.

    Raises:
        NotFound: there is no such alert.
    """
    from ml_platform.core.digests import parse_canonical

    model, found = _find(platform.registry.state(), alert)
    judged = parse_canonical(platform.objects.get(found.evidence))
    return alert_document(model, found) | {"judgement": judged.get("judgement", judged)}


def acknowledge_alert(platform: Platform, alert: str, *, principal: str, reason: str) -> dict[str, Any]:
    """Says that somebody looks after an open alert; the first who says it counts.

    Raises:
        NotFound: there is no such alert.
        Conflict: it is closed.
    """
    model, _ = _find(platform.registry.state(), alert)
    platform.registry.acknowledge_alert(model, alert=alert, actor=principal, reason=reason)
    return alert_document(*_find(platform.registry.state(), alert))


def close_alert(platform: Platform, alert: str, *, principal: str) -> dict[str, Any]:
    """Closes an alert by hand: one that no window will ever say anything about again.

    Raises:
        NotFound: there is no such alert.
    """
    model, _ = _find(platform.registry.state(), alert)
    platform.registry.close_alert(model, alert=alert, cause="by_hand", actor=principal)
    return alert_document(*_find(platform.registry.state(), alert))


def deliver_notices(platform: Platform, *, sleep: Callable[[float], None] = time.sleep) -> tuple[Delivered, ...]:
    """Sends every event about alerts that a route of the settings has not sent yet; a failing route stops no other.

    Raises:
        SettingsError: a route's secret is missing.
        Conflict: another process is delivering.
    """
    state = platform.registry.state()
    folder = platform.root / "alerts"
    declared = platform.settings.alerts
    routes = [
        AlertRoute(name, said["kind"], said.get("least", "P3"))  # type: ignore[arg-type]
        for name, said in sorted(declared.items())
    ]
    targets = {name: _target(platform, name, said["kind"], said.get("url")) for name, said in declared.items()}
    return tuple(
        deliver(
            route,
            lambda start: _notices(platform, state, start),
            folder=folder,
            sleep=sleep,
            target=targets[route.name],
            until=state.size,
        )
        for route in routes
    )


def _find(state: State, alert: str) -> tuple[str, AlertState]:
    for name, model in state.models.items():
        found = model.alerts.get(alert)
        if found is not None:
            return name, found
    raise NotFound("There is no such alert.", field="alert", next_step="`mlp alerts` lists them.")


def _notices(platform: Platform, state: State, start: int) -> Iterator[Notice]:
    for entry in platform.registry.entries(start, state.size):
        event, known = _EVENTS.get(entry.kind), state.models.get(str(entry.model))
        alert = None if event is None or known is None else known.alerts.get(entry.body["alert"])
        if alert is not None:
            yield _notice(platform.root_id, entry, alert)


def _notice(root_id: str, entry: Entry, alert: AlertState) -> Notice:
    return Notice(
        event=_EVENTS[entry.kind],  # type: ignore[arg-type]
        log_index=entry.index,
        at=entry.recorded_at,
        root=root_id,
        model=str(entry.model),
        alert=alert.alert,
        rule=alert.rule,
        severity=alert.severity,
        version=alert.version,
        window=alert.window,
        subject=alert.subject,
        cause=entry.body.get("cause"),
        evidence=alert.evidence,
    )


def _target(platform: Platform, name: str, kind: str, url: str | None) -> Target | None:
    """The address from the settings, or, since most are secrets, from ``secrets/alerts_<name>``."""
    if kind == "log":
        return None
    if kind == "pagerduty":
        return Target(url or PAGERDUTY_URL, _secret(platform, name))
    return Target(url or _secret(platform, name))


def _secret(platform: Platform, name: str) -> str:
    try:
        return platform.secrets.raw(f"alerts_{name}").decode().strip()
    except UnicodeDecodeError as error:
        raise SettingsError(
            "The secret of an alert route is no text.", field=f"alerts_{name}", next_step="Write it again."
        ) from error
