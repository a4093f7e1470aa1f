"""What the log says about routes, alerts, retrain requests and rollouts of a model: frozen values made by the fold.

Times are RFC 3339 texts as stored; ``share_bp`` are basis points of the units, 10,000 are all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["AlertState", "ArmState", "FlipState", "RetrainState", "RolloutState", "RolloutStep", "RouteState", "Signal"]

RetrainStatus = Literal["waiting", "approved", "rejected", "started", "finished"]
_CLOSED: Final = ("rejected", "finished")


@dataclass(frozen=True, slots=True)
class ArmState:
    """An arm of a route: which version answers which share of the units."""

    arm: str
    version: int
    share_bp: int


@dataclass(frozen=True, slots=True)
class RouteState:
    """The newest route that was applied. ``route`` is the digest of the signed file, ``digest`` that of the route."""

    index: int
    recorded_at: str
    epoch: int
    route: str
    digest: str
    previous: str | None
    arms: tuple[ArmState, ...]
    rollbacks: tuple[int, ...]
    supersedes_flip: str | None
    transition: int | None
    actor: str

    def arm(self, name: str) -> ArmState | None:
        """An arm by its name; None when the route has none of that name."""
        return next((one for one in self.arms if one.arm == name), None)

    @property
    def primary(self) -> int:
        """The version that answers whoever is in no other arm."""
        return self.arms[0].version

    def may_flip_to(self, version: int) -> bool:
        """Whether a local flip of this route may name the version: an allowed rollback, or its own primary."""
        return version in self.rollbacks or version == self.primary


@dataclass(frozen=True, slots=True)
class FlipState:
    """A local rollback. ``flip`` is the digest of the file, ``digest`` that of the document."""

    index: int
    effective_at: str
    recorded_at: str
    flip: str
    digest: str
    route: str
    target: int
    counter: int
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class AlertState:
    """An alert: raised, perhaps acknowledged, open until it is closed (log indexes)."""

    alert: str
    rule: str
    severity: str
    version: int | None
    window: str
    subject: str | None
    evidence: str
    raised: int
    raised_at: str
    acknowledged: int | None = None
    acknowledged_by: str | None = None
    closed: int | None = None
    closed_at: str | None = None
    cause: str | None = None

    @property
    def open(self) -> bool:
        return self.closed is None

    @property
    def about(self) -> tuple[str, str | None, int | None]:
        """What it is about: one open alert is enough for each of these."""
        return self.rule, self.subject, self.version


@dataclass(frozen=True, slots=True)
class Signal:
    """A reason to train again: the first, or one that was merged into an open request."""

    index: int
    recorded_at: str
    trigger: str
    alerts: tuple[str, ...]
    evidence: str


@dataclass(frozen=True, slots=True)
class RetrainState:
    """A request to train again, and how far it came. ``signals`` holds the first reason and those merged into it."""

    request: str
    mode: str
    useful_from: str | None
    requested_by: str
    requested: int
    requested_at: str
    signals: tuple[Signal, ...]
    decision: str | None = None
    decided: int | None = None
    decided_by: str | None = None
    started: int | None = None
    candidate: str | None = None
    finished: int | None = None
    finished_at: str | None = None
    outcome: str | None = None
    version: int | None = None

    @property
    def status(self) -> RetrainStatus:
        """``waiting`` for a decision or for its time, ``approved``, ``rejected``, ``started`` or ``finished``."""
        if self.finished is not None:
            return "finished"
        if self.started is not None:
            return "started"
        if self.decision == "rejected":
            return "rejected"
        return "approved" if self.decision == "approved" else "waiting"

    @property
    def open(self) -> bool:
        return self.status not in _CLOSED

    @property
    def may_start(self) -> bool:
        """Whether nobody's consent is missing; ``useful_from`` is the caller's to compare with its clock."""
        return self.status == "approved" or (self.status == "waiting" and self.mode == "automatic")

    @property
    def alerts(self) -> tuple[str, ...]:
        """All alerts behind it, each once, in the order in which they came."""
        return tuple(dict.fromkeys(alert for signal in self.signals for alert in signal.alerts))


@dataclass(frozen=True, slots=True)
class RolloutStep:
    """One decision about a canary."""

    index: int
    effective_at: str
    recorded_at: str
    decision: str
    share_bp: int
    evidence: str
    actor: str


@dataclass(frozen=True, slots=True)
class RolloutState:
    """The way of the newest canary: from its transition (``started``) through the decisions about it."""

    version: int
    started: int
    started_at: str
    steps: tuple[RolloutStep, ...] = ()

    @property
    def last(self) -> RolloutStep | None:
        return self.steps[-1] if self.steps else None
