"""When to train again. Pure: what asks, the requests so far and the time come in.

A trigger (drift, decay, a version grown old, a person) becomes a request, is merged into the one that is open, or is
held back by cool-down and budget. When a request can help is `ml_platform.monitoring.usefulness`' business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from ml_platform.core.durations import Duration
from ml_platform.core.errors import DeclarationError

__all__ = ["Asked", "Mode", "PastRequest", "Retraining", "Trigger", "TriggerKind", "freshness_due", "judge_trigger"]

TriggerKind = Literal["drift", "performance", "freshness", "by_hand"]
Mode = Literal["automatic", "queued"]


@dataclass(frozen=True)
class Retraining:
    """How often a model is trained again, and how many mature rows make that worth it.

    Args:
        min_rows: mature rows of the drifted population. 250 are five leaves of 50 rows.
        min_positives: events among them that are to be expected at the model's base rate: fewer than 20 can neither
            pass nor fail a gate. Labels that are values need no events.
        cool_down: time after the end of a request in which watchers may not ask again.
        budget: how many requests may be made in ``budget_period``, those by hand among them.
        budget_period: such as ``"12mo"``.

    Raises:
        DeclarationError: a number or duration that means nothing.
    """

    min_rows: int = 250
    min_positives: int = 20
    cool_down: str = "30d"
    budget: int = 4
    budget_period: str = "12mo"

    def __post_init__(self) -> None:
        for name, least in (("min_rows", 1), ("min_positives", 0), ("budget", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise DeclarationError(
                    f"This is a whole number of at least {least}.", field=name, next_step="Declare such a number."
                )
        Duration.parse(self.cool_down, field="cool_down")
        if Duration.parse(self.budget_period, field="budget_period").is_zero:
            raise DeclarationError(
                "A budget is for some time.", field="budget_period", next_step='Write for example "12mo".'
            )

    def spec(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Trigger:
    """A reason to train again. ``alerts`` are ids of open alerts; none for a freshness or by-hand trigger."""

    kind: TriggerKind
    alerts: tuple[str, ...] = ()


@dataclass(frozen=True)
class PastRequest:
    """A request that was made before.

    Attributes:
        open: neither finished nor rejected.
        requested_at: on the platform's clock.
        ended_at: when it was finished or rejected; None while it is open.
        answered: whether it ended by a person's rejection or by a registered version: its alerts are answered then.
        triggers: what asked, the first reason and those that were merged.
    """

    request: str
    open: bool
    requested_at: datetime
    ended_at: datetime | None
    answered: bool
    triggers: tuple[Trigger, ...]

    @property
    def alerts(self) -> frozenset[str]:
        return frozenset(alert for trigger in self.triggers for alert in trigger.alerts)

    def covers(self, trigger: Trigger) -> bool:
        """Whether the trigger says nothing that the request does not know. A person's words are always new."""
        if trigger.kind == "by_hand":
            return False
        if trigger.alerts:
            return self.alerts.issuperset(trigger.alerts)
        return any(known.kind == trigger.kind for known in self.triggers)


@dataclass(frozen=True)
class Asked:
    """What a trigger leads to.

    Attributes:
        action: ``request`` a new one, ``merge`` into an open one, ``known`` already, or ``refuse``.
        request: the open or earlier one that it concerns.
        mode: of a new request.
        why: of a refusal, and ``until`` when it holds, where that is known.
    """

    action: Literal["request", "merge", "known", "refuse"]
    request: str | None = None
    mode: Mode | None = None
    why: str = ""
    until: datetime | None = None


def judge_trigger(
    trigger: Trigger, declared: str, rules: Retraining, past: Sequence[PastRequest], now: datetime
) -> Asked:
    """What becomes of a trigger.

    A person is not held back by ``never`` and cool-down, but by the budget, which every request uses up. What a person
    asks for is queued under ``never``: somebody still approves it.

    Args:
        trigger: the reason.
        declared: ``automatic``, ``queued`` or ``never``.
        rules: as declared.
        past: all requests of the model, in order.
        now: the platform's time.
    """
    by_hand = trigger.kind == "by_hand"
    if declared == "never" and not by_hand:
        return Asked("refuse", why="the model declares retrain='never'")
    for one in past:
        if one.open:
            return Asked("known" if one.covers(trigger) else "merge", one.request)
    if trigger.alerts:
        answered = next((one for one in reversed(past) if one.answered and one.covers(trigger)), None)
        if answered is not None:
            return Asked("known", answered.request)
    ended = [one.ended_at for one in past if one.ended_at is not None]
    if ended and not by_hand:
        until = Duration.parse(rules.cool_down, field="cool_down").after(max(ended))
        if now < until:
            return Asked("refuse", why=f"cool-down of {rules.cool_down}", until=until)
    period = Duration.parse(rules.budget_period, field="budget_period")
    used = sorted(one.requested_at for one in past if period.after(one.requested_at) > now)
    if len(used) >= rules.budget:
        until = period.after(used[len(used) - rules.budget])
        return Asked(
            "refuse", why=f"{len(used)} requests in {rules.budget_period}, {rules.budget} allowed", until=until
        )
    return Asked("request", mode="automatic" if declared == "automatic" else "queued")


def freshness_due(trained_as_of: datetime, freshness: str | None) -> datetime | None:
    """From when on the version's training data is too old; None where no age is declared."""
    return None if freshness is None else Duration.parse(freshness, field="freshness").after(trained_as_of)
