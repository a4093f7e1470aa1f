"""Rules for alerts: each is raised once, acknowledged while it is open, and closed once. Pure."""

from __future__ import annotations

from ml_platform.core.errors import Conflict, NotFound
from ml_platform.registry.events import Entry
from ml_platform.registry.judging import Judging
from ml_platform.registry.loop_state import AlertState
from ml_platform.registry.state import State

__all__ = ["check_acknowledged", "check_closed_alert", "check_raised"]


def check_raised(state: State, entry: Entry, _: Judging) -> None:
    """One open alert is enough for a rule, a subject and a version.

    Raises:
        NotFound: no such version.
        Conflict: the id was used before, or such an alert is open.
    """
    body, model = entry.body, state.model(str(entry.model))
    if body["version"] is not None:
        model.version(body["version"])
    if body["alert"] in model.alerts:
        raise Conflict("An alert of this id was raised before.", field="alert", next_step="Give it an id of its own.")
    if (body["rule"], body["subject"], body["version"]) in model.open_alerts:
        raise Conflict(
            "An alert of this rule about the same thing is open.",
            field="rule",
            next_step="Acknowledge it, or close it before another is raised.",
        )


def check_acknowledged(state: State, entry: Entry, _: Judging) -> None:
    """An open alert is acknowledged once; raises `NotFound` or `Conflict` otherwise."""
    if _open(state, entry).acknowledged is not None:
        raise Conflict("The alert was acknowledged before.", field="alert", next_step="Nothing is left to do.")


def check_closed_alert(state: State, entry: Entry, _: Judging) -> None:
    """An open alert is closed; raises `NotFound` or `Conflict` otherwise."""
    _open(state, entry)


def _open(state: State, entry: Entry) -> AlertState:
    found = state.model(str(entry.model)).alerts.get(entry.body["alert"])
    if found is None:
        raise NotFound("There is no such alert.", field="alert", next_step="`mlp alerts` lists them.")
    if not found.open:
        raise Conflict("The alert is closed.", field="alert", next_step="`mlp alerts` lists those that are open.")
    return found
