"""Requests to train again: made by watchers and people, merged with others, decided about.

Every function may be called again after a crash: what is there is found, and nothing is done twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Literal

from ml_platform.core.clock import format_utc, parse_utc
from ml_platform.core.digests import tagged_hash
from ml_platform.core.errors import ApprovalMissing, Conflict
from ml_platform.lifecycle.requesting import read_candidate
from ml_platform.lifecycle.retrain_evidence import Assessment, assess, evidence_document, named_alerts
from ml_platform.lifecycle.retrain_queries import logged_useful_from
from ml_platform.model import Model
from ml_platform.monitoring.retrain import (
    Asked,
    PastRequest,
    Trigger,
    TriggerKind,
    freshness_due,
    judge_trigger,
)
from ml_platform.platform import Platform
from ml_platform.registry.loop_state import RetrainState
from ml_platform.registry.state import ModelState

__all__ = [
    "RetrainAsked",
    "decide_retrain",
    "request_id",
    "request_retrain",
    "watch_retrains",
]

Outcome = Literal["requested", "merged", "known", "refused"]
REQUEST_TAG: Final = "ml-platform/retrain-request/1"
_OUTCOMES: Final[Mapping[str, Outcome]] = {
    "request": "requested",
    "merge": "merged",
    "known": "known",
    "refuse": "refused",
}
_LOOKS: Final = 3  # another process may ask between our look and our entry: then we look again
# Which rules of monitoring a training can answer. A broken schema, a null spike or a slow answer it cannot.
_TRIGGERS: Final[Mapping[str, TriggerKind]] = {
    "psi": "drift",
    "new_category": "drift",
    "score_psi": "drift",
    "accuracy": "performance",
    "group_accuracy": "performance",
}


@dataclass(frozen=True)
class RetrainAsked:
    """What came of asking: ``requested``, ``merged``, ``known`` already, or ``refused`` with the reason.

    Args:
        request: the request made or concerned.
        useful_from: as logged with the request, RFC 3339.
        until: when a refusal ends, where that is known.
    """

    model: str
    trigger: str
    outcome: Outcome
    request: str | None
    log_index: int | None
    useful_from: str | None
    why: str
    until: str | None
    assessment: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def request_retrain(
    platform: Platform,
    model: Model,
    *,
    trigger: TriggerKind = "by_hand",
    alerts: tuple[str, ...] = (),
    reason: str | None = None,
    requested_by: str | None = None,
) -> RetrainAsked:
    """Asks for a training; merged into the request that is open, held back by the declared cool-down and budget.

    Args:
        platform: the root.
        model: the declaration.
        trigger: what asks; ``by_hand`` for a person, who gives a reason.
        alerts: ids of raised alerts behind it: what they are about says from when on the training is useful.
        reason: kept as evidence, never in the log.
        requested_by: principal or service; the settings' launcher by default.

    Raises:
        ApprovalMissing: by hand without a reason.
        NotFound: the model or an alert is unknown.
    """
    if trigger == "by_hand" and not (reason or "").strip():
        raise ApprovalMissing("A request by hand needs a reason.", field="reason", next_step="Say why, in a sentence.")
    wish = Trigger(trigger, tuple(sorted(alerts)))
    behind = named_alerts(platform.registry.state().model(model.name), wish.alerts)
    found = assess(platform, model, behind)
    evidence = platform.objects.put(evidence_document(model.name, wish, behind, found, reason))
    for look in range(_LOOKS):
        asked, number = _judged(platform, model, wish)
        try:
            request, index = _entered(platform, model, wish, asked, number, found, evidence, requested_by)
            break
        except Conflict:
            if look == _LOOKS - 1:
                raise
    return _answer(platform, model, wish, asked, request, index, found)


def _answer(
    platform: Platform, model: Model, wish: Trigger, asked: Asked, request: str | None, index: int | None,
    found: Assessment,
) -> RetrainAsked:  # fmt: skip
    known = platform.registry.state().model(model.name).retrains.get(request or "")
    useful = None if known is None else logged_useful_from(platform, known)
    return RetrainAsked(
        model=model.name,
        trigger=wish.kind,
        outcome=_OUTCOMES[asked.action],
        request=request,
        log_index=index,
        useful_from=None if useful is None else format_utc(useful),
        why=asked.why,
        until=None if asked.until is None else format_utc(asked.until),
        assessment=found.to_json(),
    )


def _judged(platform: Platform, model: Model, wish: Trigger) -> tuple[Asked, int]:
    """What becomes of a wish, and how many requests there were."""
    past = _past(platform, platform.registry.state().model(model.name))
    now = platform.clock.now()
    return judge_trigger(wish, model.monitor.retrain, model.monitor.retraining, past, now), len(past)


def _entered(
    platform: Platform, model: Model, wish: Trigger, asked: Asked, number: int, found: Assessment, evidence: str,
    requested_by: str | None,
) -> tuple[str | None, int | None]:  # fmt: skip
    """The request made or concerned, and the log index of what was written, if anything was."""
    registry = platform.registry
    if asked.action == "request":
        request = request_id(model.name, number)
        index = registry.request_retrain(
            model.name,
            request=request,
            trigger=wish.kind,
            alerts=wish.alerts,
            mode=str(asked.mode),
            useful_from=found.usefulness.useful_from,
            evidence=evidence,
            requested_by=requested_by or platform.settings.launcher,
        )
        return request, index
    if asked.action == "merge" and asked.request is not None:
        index = registry.merge_retrain(
            model.name, request=asked.request, trigger=wish.kind, alerts=wish.alerts, evidence=evidence
        )
        return asked.request, index
    return asked.request, None


def request_id(model: str, number: int) -> str:
    """The n-th request of a model has one id: two processes that make it at once make one."""
    digest = tagged_hash(REQUEST_TAG, ("text", model), ("i64", number)).hex()
    return f"retrain-{number + 1}-{digest[:12]}"


def _past(platform: Platform, known: ModelState) -> list[PastRequest]:
    ordered = sorted(known.retrains.values(), key=lambda one: one.requested)
    return [_as_past(platform, one) for one in ordered]


def _as_past(platform: Platform, one: RetrainState) -> PastRequest:
    rejected = one.status == "rejected"
    ended = one.finished_at
    if rejected and one.decided is not None:
        ended = platform.registry.entry(one.decided).effective_at
    return PastRequest(
        request=one.request,
        open=one.open,
        requested_at=parse_utc(one.requested_at),
        ended_at=None if ended is None else parse_utc(ended),
        answered=rejected or one.outcome == "registered",
        triggers=tuple(Trigger(signal.trigger, signal.alerts) for signal in one.signals),  # type: ignore[arg-type]
    )


def watch_retrains(platform: Platform, model: Model, *, requested_by: str | None = None) -> list[RetrainAsked]:
    """Asks for what the model's open alerts and the age of its production version call for; for sensors.

    A request for which too few rows had come gets its date as soon as it is known, as one more signal. Called again
    without anything new it changes nothing.
    """
    known = platform.registry.state().models.get(model.name)
    if known is None:
        return []
    grouped: dict[TriggerKind, list[str]] = {}
    for name in known.open_alerts.values():
        kind = _TRIGGERS.get(known.alerts[name].rule)
        if kind is not None:
            grouped.setdefault(kind, []).append(name)
    wishes: list[tuple[TriggerKind, tuple[str, ...]]] = [
        (kind, tuple(names)) for kind, names in sorted(grouped.items())
    ]
    due = _freshness_due(platform, model, known)
    if due is not None and due <= platform.clock.now():
        wishes.append(("freshness", ()))
    wishes = [(kind, names) for kind, names in wishes if not _settled(platform, model, Trigger(kind, names))]
    asked = [
        request_retrain(platform, model, trigger=kind, alerts=names, requested_by=requested_by)
        for kind, names in wishes
    ]
    return [*asked, *_dated(platform, model)]


def _dated(platform: Platform, model: Model) -> list[RetrainAsked]:
    """Enters from when on the open request is useful, where the log does not say it yet and the rows now do."""
    known = platform.registry.state().model(model.name)
    one = None if known.open_retrain is None else known.retrains[known.open_retrain]
    if one is None or one.started is not None or logged_useful_from(platform, one) is not None:
        return []
    first = one.signals[0]
    behind = named_alerts(known, first.alerts)
    found = assess(platform, model, behind)
    if found.usefulness.useful_from is None:
        return []
    wish = Trigger(first.trigger, first.alerts)  # type: ignore[arg-type]
    evidence = platform.objects.put(evidence_document(model.name, wish, behind, found, None))
    platform.registry.merge_retrain(
        model.name, request=one.request, trigger=wish.kind, alerts=wish.alerts, evidence=evidence
    )
    index = platform.registry.state().model(model.name).retrains[one.request].signals[-1].index
    asked = Asked("merge", one.request, why="it is known now from when on it is useful")
    return [_answer(platform, model, wish, asked, one.request, index, found)]


def _settled(platform: Platform, model: Model, wish: Trigger) -> bool:
    """Whether asking would change nothing: then the rows need not be read."""
    return _judged(platform, model, Trigger(wish.kind, tuple(sorted(wish.alerts))))[0].action in {"known", "refuse"}


def _freshness_due(platform: Platform, model: Model, known: ModelState) -> datetime | None:
    """By the newest version from production on: one that waits for its promotion is not trained a second time."""
    if known.production is None or model.monitor.freshness is None:
        return None
    candidate = read_candidate(platform, model.name, known.version(max(known.versions)).candidate)
    return freshness_due(candidate.as_of, model.monitor.freshness)


def decide_retrain(
    platform: Platform,
    model: str,
    request: str,
    decision: Literal["approved", "rejected"],
    *,
    principal: str,
    reason: str,
) -> int:
    """A person's answer to a request; returns the log index. The same answer again changes nothing.

    Raises:
        ApprovalMissing: no reason.
        NotFound: no such request.
        Conflict: it was decided otherwise, has started, or is closed.
    """
    if not reason.strip():
        raise ApprovalMissing("A decision needs a reason.", field="reason", next_step="Say why, in a sentence.")
    return platform.registry.decide_retrain(model, request=request, decision=decision, actor=principal, reason=reason)
