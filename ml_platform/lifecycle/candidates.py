"""A candidate from request to registry entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ml_platform.core.digests import parse_canonical
from ml_platform.lifecycle.evaluating import EvaluationResult, evaluate_candidate
from ml_platform.lifecycle.requesting import Candidate, read_candidate, request_candidate
from ml_platform.lifecycle.training import (
    TrainedModel,
    TrainingSetResult,
    build_training_set,
    read_trained,
    train_candidate,
)
from ml_platform.model import Model
from ml_platform.platform import Platform
from ml_platform.registry.genesis import email_commitment
from ml_platform.registry.writes import AuthorshipClaim, Registration
from ml_platform.training import Absent, CodeState

__all__ = [
    "Candidate",
    "CandidateResult",
    "EvaluationResult",
    "Registered",
    "TrainedModel",
    "TrainingSetResult",
    "build_candidate",
    "build_training_set",
    "evaluate_candidate",
    "read_candidate",
    "register_candidate",
    "request_candidate",
    "train_candidate",
]


@dataclass(frozen=True)
class Registered:
    """A candidate that became a version."""

    model: str
    candidate: str
    version: int
    artifact: str

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "candidate": self.candidate,
            "version": self.version,
            "artifact": self.artifact,
        }


@dataclass(frozen=True)
class CandidateResult:
    """Everything that a candidate went through."""

    candidate: Candidate
    training_set: TrainingSetResult
    trained: TrainedModel
    evaluation: EvaluationResult
    registered: Registered

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.candidate.model,
            "candidate": self.candidate.key,
            "version": self.registered.version,
            "training_set": self.training_set.to_json(),
            "trained": self.trained.to_json(),
            "evaluation": self.evaluation.to_json(),
        }


def register_candidate(
    platform: Platform, model: Model, key: str, *, code: Path | None = None, registered_by: str | None = None
) -> Registered:
    """Gives an evaluated candidate its version number, or returns the one that it has.

    Raises:
        GateFailed: a gate is red by the stored evaluation table, or inconclusive where nobody may be asked.
        PolicyViolation: the declaration is laxer than the policy.
    """
    candidate, trained = read_candidate(platform, model.name, key), read_trained(platform, model.name, key)
    version = platform.registry.register(
        Registration(
            model=model.name,
            candidate=key,
            artifact=trained.artifact_digest,
            contract=trained.contract_digest,
            training_set=trained.training_set_digest,
            authorship=_authorship(platform, model, candidate, code or Path.cwd()),
            registered_by=registered_by or candidate.requested_by,
        )
    )
    return Registered(model.name, key, version, trained.artifact_digest)


def _authorship(platform: Platform, model: Model, candidate: Candidate, code: Path) -> AuthorshipClaim:
    """Authors since the commit of the version in production; unknown where history cannot say."""
    authors = CodeState.of(code, since=_production_commit(platform, model)).authors
    if isinstance(authors, Absent):
        return AuthorshipClaim("unknown", principals=(candidate.requested_by,))
    salt = platform.secrets.email_salt
    return AuthorshipClaim(
        "known",
        emails=tuple(email_commitment(salt, email) for email in authors),
        principals=(candidate.requested_by,),
    )


def _production_commit(platform: Platform, model: Model) -> str | None:
    known = platform.registry.state().models.get(model.name)
    if known is None or known.production is None:
        return None
    digests = known.version(known.production).digests
    record: Mapping[str, Any] = parse_canonical(platform.objects.get(digests.run_record))
    commit = record["code"].get("commit")
    return commit if isinstance(commit, str) else None


def build_candidate(
    platform: Platform, model: Model, as_of: datetime, *, requested_by: str | None = None, code: Path | None = None
) -> CandidateResult:
    """Request, training set, training, evaluation, registration: all of it, each step once."""
    candidate = request_candidate(platform, model, as_of, requested_by=requested_by, code=code)
    training_set = build_training_set(platform, model, candidate.key)
    trained = train_candidate(platform, model, candidate.key)
    evaluation = evaluate_candidate(platform, model, candidate.key)
    registered = register_candidate(platform, model, candidate.key, code=code)
    return CandidateResult(candidate, training_set, trained, evaluation, registered)
