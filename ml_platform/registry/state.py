"""What the log says, at one point of it: frozen values made by the fold (`ml_platform.registry.fold`).

Nothing here judges: whether an entry was allowed is `ml_platform.registry.rules`' business, before it is written
and again in `verify`. Times are RFC 3339 texts as stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ml_platform.core.errors import NotFound
from ml_platform.registry.layers import Layers
from ml_platform.registry.loop_state import AlertState, FlipState, RetrainState, RolloutState, RouteState

__all__ = [
    "AlertState",
    "ApprovalState",
    "Authorship",
    "CandidateState",
    "Digests",
    "FlipState",
    "Genesis",
    "Intent",
    "KeyState",
    "ModelState",
    "Move",
    "PolicyState",
    "RetrainState",
    "RolloutState",
    "RouteState",
    "State",
    "VersionState",
    "WriterState",
]


@dataclass(frozen=True, slots=True)
class Genesis:
    """The first entry: who the platform is. ``platform`` is its leaf hash, ``sha256:…``."""

    platform: str
    body: Mapping[str, Any]

    @property
    def root_id(self) -> str:
        return str(self.body["root_id"])

    @property
    def replay(self) -> bool:
        return bool(self.body["root_kind"] == "replay")

    @property
    def threshold(self) -> int:
        return int(self.body["officers"]["threshold"])

    @property
    def origin(self) -> str:
        return str(self.body["origin"])

    @property
    def log_vkey(self) -> str:
        return str(self.body["log_vkey"])

    @property
    def evaluator_key(self) -> str:
        return str(self.body["evaluator_key"])

    @property
    def service_key(self) -> str:
        return str(self.body["service_key"])


@dataclass(frozen=True, slots=True)
class KeyState:
    """A person's key: valid from ``added`` until ``revoked`` (log indexes)."""

    principal: str
    public_key: str
    roles: tuple[str, ...]
    emails: tuple[str, ...]
    added: int
    revoked: int | None = None
    cause: str | None = None
    suspect_from: str | None = None

    @property
    def active(self) -> bool:
        return self.revoked is None


@dataclass(frozen=True, slots=True)
class PolicyState:
    """A policy and the index from which it holds (0: genesis)."""

    index: int
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CandidateState:
    """A candidate: requested, then evaluated, and perhaps registered as a version."""

    key: str
    requested: int
    spec: str
    requested_by: str
    evaluated: int | None = None
    run_record: str | None = None
    evaluation: str | None = None
    signature: str | None = None
    verdicts: tuple[tuple[str, str], ...] = ()
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Authorship:
    """Who made a version. ``emails`` are salted commitments; ``principals`` include launcher and registrant."""

    known: bool
    basis: str
    emails: frozenset[str]
    principals: frozenset[str]


@dataclass(frozen=True, slots=True)
class Digests:
    """What a version consists of."""

    spec: str
    artifact: str
    contract: str
    run_record: str
    evaluation: str
    evaluation_signature: str
    training_set: str


@dataclass(frozen=True, slots=True)
class Move:
    """One change of a version's stage. ``required`` approvals were needed, ``approvals`` were used.

    ``undone`` says that it was reversed: it counts for nothing.
    """

    index: int
    effective_at: str
    recorded_at: str
    action: str
    source: str
    to: str
    actor: str
    reason: str | None
    approvals: tuple[str, ...] = ()
    required: int = 0
    undone: bool = False


@dataclass(frozen=True, slots=True)
class VersionState:
    """One registered version and its way through the stages."""

    model: str
    number: int
    candidate: str
    registered: int
    risk_class: str
    digests: Digests
    baseline: int | None
    authorship: Authorship
    stage: str
    history: tuple[Move, ...]

    @property
    def productions(self) -> tuple[Move, ...]:
        """The moves by which this version came to production."""
        return tuple(move for move in self.history if move.to == "production" and not move.undone)


@dataclass(frozen=True, slots=True)
class ApprovalState:
    """A person's signed consent to one move of one version; ``released`` by the reversal of that move."""

    index: int
    recorded_at: str
    model: str
    version: int
    action: str
    source: str
    to: str
    principal: str
    public_key: str
    payload: str
    signature: str
    nonce: str
    policy: int
    baseline: int | None
    accepts: frozenset[str]
    not_before: str
    not_after: str
    revoked: int | None = None
    consumed: int | None = None
    released: bool = False


@dataclass(frozen=True, slots=True)
class Intent:
    """An announced transition that no transition of its model has overtaken yet."""

    index: int
    version: int
    action: str
    source: str
    to: str


@dataclass(frozen=True, slots=True)
class ModelState:
    """One model: candidates, versions, approvals, which version holds which stage, what serves and what is watched.

    ``nonces`` maps each nonce to the payload that bears it; ``intents`` each open intent's index to itself;
    ``open_alerts`` what an open alert is about to its id. ``flip`` is the local rollback that outranks ``route``,
    if any; ``rollout`` the way of the newest canary; ``open_retrain`` the id of the request that is under way.
    """

    name: str
    versions: Mapping[int, VersionState] = field(default_factory=dict)
    candidates: Layers[str, CandidateState] = field(default_factory=Layers)
    approvals: Layers[str, ApprovalState] = field(default_factory=Layers)
    nonces: Layers[str, str] = field(default_factory=Layers)
    staging: int | None = None
    canary: int | None = None
    production: int | None = None
    last_transition: int = -1
    intents: Mapping[int, Intent] = field(default_factory=dict)
    blocked: tuple[int, ...] = ()
    route: RouteState | None = None
    flip: FlipState | None = None
    rollout: RolloutState | None = None
    alerts: Layers[str, AlertState] = field(default_factory=Layers)
    open_alerts: Mapping[tuple[str, str | None, int | None], str] = field(default_factory=dict)
    retrains: Layers[str, RetrainState] = field(default_factory=Layers)
    open_retrain: str | None = None

    def version(self, number: int) -> VersionState:
        """Raises `NotFound` when there is no such version."""
        found = self.versions.get(number)
        if found is None:
            raise NotFound(
                f"Model {self.name} has no version {number}.",
                field="version",
                next_step=f"`mlp versions {self.name}` lists them.",
            )
        return found

    def holder(self, stage: str) -> int | None:
        """The version that holds a stage; None when it is empty or can be held by several."""
        held = {"staging": self.staging, "canary": self.canary, "production": self.production}
        return held.get(stage)


@dataclass(frozen=True, slots=True)
class WriterState:
    """A writer of segments: the next sequence number that must follow, and whether it has closed."""

    next_seq: int
    closed: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """Everything that the first ``size`` entries say.

    ``blocked`` holds unknown critical entries that name no model: they block promotions of all.
    """

    size: int = 0
    recorded_at: str = ""
    genesis: Genesis | None = None
    keys: Mapping[str, KeyState] = field(default_factory=dict)
    policies: tuple[PolicyState, ...] = ()
    orders: frozenset[str] = frozenset()
    models: Mapping[str, ModelState] = field(default_factory=dict)
    writers: Layers[str, WriterState] = field(default_factory=Layers)
    blocked: tuple[int, ...] = ()

    def model(self, name: str) -> ModelState:
        """Raises `NotFound` when the log knows no such model."""
        found = self.models.get(name)
        if found is None:
            raise NotFound(
                "The registry knows no such model.",
                field="model",
                next_step="`mlp models` lists them.",
            )
        return found

    def version(self, model: str, number: int) -> VersionState:
        """Raises `NotFound` for an unknown model or version."""
        return self.model(model).version(number)

    @property
    def policy(self) -> PolicyState:
        """The policy in force."""
        if not self.policies:
            raise NotFound("The log has no genesis.", next_step="`mlp init` makes one.")
        return self.policies[-1]

    def keys_of(self, principal: str) -> tuple[KeyState, ...]:
        """All keys of a person, revoked ones too."""
        return tuple(key for key in self.keys.values() if key.principal == principal)

    def emails_of(self, principal: str) -> frozenset[str]:
        """All e-mail commitments that any key of a person was bound to."""
        return frozenset(email for key in self.keys_of(principal) for email in key.emails)
