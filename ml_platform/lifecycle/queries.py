"""What there is: models, versions, one version, the state at a time. Reads only."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ml_platform.core.digests import parse_canonical
from ml_platform.core.errors import NotFound
from ml_platform.platform import Platform
from ml_platform.registry.state import ModelState, State, VersionState

__all__ = ["list_models", "list_versions", "show_version", "state_at"]


def list_models(platform: Platform) -> list[dict[str, Any]]:
    """Every model of the log: its candidates, versions, and which version holds which stage."""
    return [_model(known) for _, known in sorted(platform.registry.state().models.items())]


def _model(known: ModelState) -> dict[str, Any]:
    return {
        "model": known.name,
        "candidates": len(known.candidates),
        "versions": len(known.versions),
        "staging": known.holder("staging"),
        "canary": known.holder("canary"),
        "production": known.production,
    }


def list_versions(platform: Platform, model: str) -> dict[str, Any]:
    """The versions of a model, and the candidates that became none.

    Raises:
        NotFound: unknown model.
    """
    known = platform.registry.state().model(model)
    return {
        "model": model,
        "versions": [_version(known.version(number)) for number in sorted(known.versions)],
        "candidates_not_registered": [
            {"candidate": key, "verdicts": dict(candidate.verdicts)}
            for key, candidate in sorted(known.candidates.items())
            if candidate.version is None
        ],
    }


def _version(version: VersionState) -> dict[str, Any]:
    return {
        "version": version.number,
        "candidate": version.candidate,
        "stage": version.stage,
        "artifact": version.digests.artifact,
        "history": [
            {
                "index": move.index,
                "at": move.effective_at,
                "action": move.action,
                "from": move.source,
                "to": move.to,
                "actor": move.actor,
            }
            for move in version.history
        ],
    }


def show_version(platform: Platform, model: str, version: int) -> dict[str, Any]:
    """One version: stages, run record, evaluation.

    Raises:
        NotFound: unknown model or version.
        ArtifactCorrupt: a stored document is not what the log says.
    """
    known = platform.registry.state().version(model, version)
    return {
        **_version(known),
        "model": model,
        "run_record": parse_canonical(platform.objects.get(known.digests.run_record)),
        "evaluation": parse_canonical(platform.objects.get(known.digests.evaluation)),
    }


def state_at(platform: Platform, at: datetime | None = None, known_at: datetime | None = None) -> dict[str, Any]:
    """Stages as in effect at a time, as far as they were recorded at another; both default to now."""
    state: State = platform.registry.state(at=at, known_at=known_at)
    if state.genesis is None:
        raise NotFound("There was no registry yet at that time.", field="at", next_step="Ask for a later time.")
    return {
        "entries": state.size,
        "platform": state.genesis.platform,
        "models": [_model(known) for _, known in sorted(state.models.items())],
    }
