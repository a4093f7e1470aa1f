"""Rules for requests to train again: one is under way for a model; others are merged into it. Pure."""

from __future__ import annotations

from ml_platform.core.errors import Conflict, DeclarationError, NotFound
from ml_platform.registry.events import Entry
from ml_platform.registry.judging import Judging
from ml_platform.registry.loop_state import RetrainState
from ml_platform.registry.state import ModelState, State

__all__ = [
    "check_retrain_decided",
    "check_retrain_finished",
    "check_retrain_merged",
    "check_retrain_requested",
    "check_retrain_started",
]


def check_retrain_requested(state: State, entry: Entry, _: Judging) -> None:
    """A request comes when none is under way, and names alerts that were raised.

    Raises:
        Conflict: the id was used before, or a request is under way.
        NotFound: one of the alerts does not exist.
    """
    body, model = entry.body, state.model(str(entry.model))
    if body["request"] in model.retrains:
        raise Conflict("A request of this id was made before.", field="request", next_step="Give it an id of its own.")
    if model.open_retrain is not None:
        raise Conflict(
            "A request to train this model again is under way.", field="request", next_step="Merge into that one."
        )
    _require_alerts(model, entry)


def check_retrain_merged(state: State, entry: Entry, _: Judging) -> None:
    """Only a request that is under way takes more reasons; raises `NotFound` or `Conflict` otherwise."""
    _under_way(state, entry)
    _require_alerts(state.model(str(entry.model)), entry)


def check_retrain_decided(state: State, entry: Entry, _: Judging) -> None:
    """A person decides once, before the training starts; raises `NotFound` or `Conflict` otherwise."""
    known = _under_way(state, entry)
    if known.decision is not None or known.started is not None:
        raise Conflict(
            "The request was decided about before, or its training has started.",
            field="request",
            next_step="`mlp retrain list MODEL` shows how far it is.",
        )


def check_retrain_started(state: State, entry: Entry, _: Judging) -> None:
    """A training starts once, for a candidate that was requested, where no consent is missing.

    Raises:
        NotFound: no such request or candidate.
        Conflict: it is not under way, or has started.
        DeclarationError: a queued request was not approved.
    """
    known, model = _under_way(state, entry), state.model(str(entry.model))
    if known.started is not None:
        raise Conflict("The training has started.", field="request", next_step="Wait for it to finish.")
    if not known.may_start:
        raise DeclarationError(
            "The request waits for a person's decision.", field="request", next_step="Approve or reject it."
        )
    if entry.body["candidate"] not in model.candidates:
        raise NotFound(
            "The candidate was not requested.", field="candidate", next_step="Request it before its training starts."
        )


def check_retrain_finished(state: State, entry: Entry, _: Judging) -> None:
    """A training that started finishes once; a registered version is that of its candidate.

    Raises:
        NotFound: no such request.
        Conflict: it has not started, is not under way, or was for another candidate.
        DeclarationError: outcome and version contradict each other.
    """
    known, body = _under_way(state, entry), entry.body
    if known.started is None or known.candidate != body["candidate"]:
        raise Conflict(
            "The training has not started, or is for another candidate.",
            field="candidate",
            next_step="Name the candidate with which it started.",
        )
    candidate = state.model(str(entry.model)).candidates[body["candidate"]]
    registered = candidate.version if body["outcome"] == "registered" else None
    if body["version"] != registered or (body["outcome"] == "registered" and registered is None):
        raise DeclarationError(
            "A registered outcome, and only that, names the version of its candidate.",
            field="version",
            next_step="Name the version that the registry gave.",
        )


def _under_way(state: State, entry: Entry) -> RetrainState:
    found = state.model(str(entry.model)).retrains.get(entry.body["request"])
    if found is None:
        raise NotFound("There is no such request.", field="request", next_step="`mlp retrain list MODEL` shows them.")
    if not found.open:
        raise Conflict("The request is closed.", field="request", next_step="Make a new one.")
    return found


def _require_alerts(model: ModelState, entry: Entry) -> None:
    if any(alert not in model.alerts for alert in entry.body["alerts"]):
        raise NotFound("One of the alerts was not raised.", field="alerts", next_step="Raise it before it is named.")
