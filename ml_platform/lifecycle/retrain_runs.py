"""Carrying out a request to train again: start, build, finish, each step once, whatever is killed between.

The log says how far a request is; the as-of time of its candidate is fixed by an object that is created once. So every
function here may be called again and goes on where it stopped.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ml_platform.core.clock import format_utc, parse_utc
from ml_platform.core.digests import canonical_json, parse_canonical
from ml_platform.core.errors import ApprovalMissing, Conflict, DataError, Refused
from ml_platform.lifecycle.candidates import (
    build_training_set,
    evaluate_candidate,
    register_candidate,
    train_candidate,
)
from ml_platform.lifecycle.requesting import Candidate, read_candidate, request_candidate
from ml_platform.lifecycle.retrain_queries import ready_retrains, retrain_state
from ml_platform.model import Model
from ml_platform.platform import Platform

__all__ = ["RetrainFinished", "finish_retrain", "run_retrain", "start_document", "start_retrain"]

START_FORMAT: Final = "ml-platform/retrain-start/1"


@dataclass(frozen=True)
class RetrainFinished:
    """How a request ended: ``registered`` as a version, ``refused`` by a rule, or ``failed`` for want of data.

    Args:
        why: the rule or the want, for the reader; the log holds the outcome alone.
    """

    model: str
    request: str
    candidate: str
    outcome: str
    version: int | None
    log_index: int
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def start_retrain(
    platform: Platform, model: Model, request: str, *, actor: str | None = None, code: Path | None = None
) -> Candidate:
    """Requests the candidate that carries out a request, and says so in the log; the same candidate whenever called.

    Raises:
        NotFound: no such request.
        ApprovalMissing: it waits for a person's decision.
        Conflict: it is closed.
        DataError: it is not useful yet.
    """
    one = retrain_state(platform, model.name, request)
    if one.candidate is not None:
        return read_candidate(platform, model.name, one.candidate)
    if not one.open:
        raise Conflict("The request is closed.", field="request", next_step="Make a new one.")
    if not one.may_start:
        raise ApprovalMissing(
            "The request waits for a person's decision.",
            field="request",
            next_step=f"`mlp retrain approve {model.name} {request} --reason …`, or reject it.",
        )
    if request not in ready_retrains(platform, model):
        raise DataError(
            "The request waits for labels: too few rows of what has drifted are mature.",
            field="request",
            next_step=f"`mlp retrain list {model.name}` says from when on it is useful.",
        )
    who = actor or platform.settings.launcher
    as_of = _fixed_as_of(platform, model, request)
    candidate = request_candidate(platform, model, as_of, requested_by=who, code=code)
    platform.registry.start_retrain(model.name, request=request, candidate=candidate.key, actor=who)
    return candidate


def _fixed_as_of(platform: Platform, model: Model, request: str) -> datetime:
    """The as-of time of the request's candidate: fixed by the first call, the same ever after."""
    path = f"retrains/{model.name}/{request}/start.json"
    document = start_document(_newest_as_of(model, platform.clock.now()))
    if not platform.objects.create(path, canonical_json(document)):
        document = parse_canonical(platform.objects.read(path))
    return parse_utc(document["as_of"])


def start_document(as_of: datetime) -> dict[str, str]:
    """What fixes the candidate of a request (``ml-platform/retrain-start/1``)."""
    return {"format": START_FORMAT, "as_of": format_utc(as_of)}


def _newest_as_of(model: Model, now: datetime) -> datetime:
    """Now, or the first of the month where labels mature within one: stored features are written in whole months."""
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    matured = model.label.lag_duration.after(model.label.horizon_duration.after(month))
    return month if model.stored_views and matured <= now else now


def finish_retrain(platform: Platform, model: Model, request: str, *, code: Path | None = None) -> RetrainFinished:
    """Builds what of the started candidate is missing, registers it if it passes, and says in the log how it ended.

    Raises:
        NotFound: no such request.
        Conflict: it has not started.
        PlatformError: a step could not be done for now (storage, a conflict): nothing is said; call it again.
    """
    one = retrain_state(platform, model.name, request)
    if one.candidate is None:
        raise Conflict("The request has not started.", field="request", next_step="Start it first.")
    if one.finished is not None:
        return RetrainFinished(model.name, request, one.candidate, str(one.outcome), one.version, one.finished)
    version, outcome, why = _built(platform, model, one.candidate, code)
    index = platform.registry.finish_retrain(
        model.name, request=request, candidate=one.candidate, outcome=outcome, version=version
    )
    return RetrainFinished(model.name, request, one.candidate, outcome, version, index, why)


def _built(platform: Platform, model: Model, key: str, code: Path | None) -> tuple[int | None, str, str]:
    known = platform.registry.state().model(model.name).candidates[key]
    if known.version is not None:
        return known.version, "registered", ""
    try:
        if known.evaluation is None:
            build_training_set(platform, model, key)
            train_candidate(platform, model, key)
            evaluate_candidate(platform, model, key)
        return register_candidate(platform, model, key, code=code).version, "registered", ""
    except Refused as error:
        return None, "refused", str(error)
    except DataError as error:
        return None, "failed", str(error)


def run_retrain(
    platform: Platform, model: Model, request: str, *, actor: str | None = None, code: Path | None = None
) -> RetrainFinished:
    """Starts a request, builds its candidate and finishes it: ``start_retrain`` and ``finish_retrain``."""
    start_retrain(platform, model, request, actor=actor, code=code)
    return finish_retrain(platform, model, request, code=code)
