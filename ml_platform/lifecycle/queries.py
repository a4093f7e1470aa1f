"""What there is: models, versions, one version or candidate, decisions, the state at a time. Reads only."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ml_platform.core.clock import format_utc
from ml_platform.core.digests import parse_canonical
from ml_platform.core.errors import NotFound
from ml_platform.platform import Platform
from ml_platform.registry.state import CandidateState, ModelState, State, VersionState

__all__ = [
    "list_decisions",
    "list_models",
    "list_versions",
    "read_clock",
    "show_candidate",
    "show_version",
    "state_at",
]


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


def show_candidate(platform: Platform, model: str, key: str) -> dict[str, Any]:
    """One candidate, whether it became a version or not: request, training set, evaluation.

    What it did not get to is None: a candidate can be stopped before its training set or its evaluation.

    Raises:
        NotFound: unknown model or candidate.
        ArtifactCorrupt: a stored document is not what the log says.
    """
    from ml_platform.lifecycle.requesting import read_candidate

    known = platform.registry.state().model(model).candidates.get(key)
    if known is None:
        raise NotFound(
            "The model has no such candidate.", field="candidate", next_step=f"`mlp versions {model}` lists them."
        )
    evaluation = None if known.evaluation is None else parse_canonical(platform.objects.get(known.evaluation))
    return {
        "model": model,
        "candidate": key,
        "version": known.version,
        "log_index": known.requested,
        "request": read_candidate(platform, model, key).to_json(),
        "training_set": _training_set(platform, model, known),
        "evaluation": evaluation,
    }


def _training_set(platform: Platform, model: str, candidate: CandidateState) -> dict[str, Any] | None:
    """What the manifest says of the rows; None where no training set was finished."""
    from ml_platform.datasets import read_snapshot, snapshot_path

    path = snapshot_path(model, candidate.key)
    try:
        manifest = read_snapshot(platform.objects, path).manifest
    except NotFound:
        return None
    split = manifest["split"]
    return {
        "digest": manifest["digest"],
        "path": path,
        "rows": manifest["rows"],
        "train_rows": split["train_rows"],
        "test_rows": split["test_rows"],
        "left_out": manifest["left_out"]["reasons"],
    }


def list_decisions(
    platform: Platform,
    model: str,
    *,
    partition: str | None = None,
    decision: str | None = None,
    limit: int = 20,
    keys: bool = False,
    shadows: bool = False,
) -> dict[str, Any]:
    """A model's decisions, the newest first: ids to trace, with time, version, score, decision and flags.

    Of a batch only decisions of complete partitions are returned; online ones as soon as they are in a router's log.

    Args:
        platform: the root.
        model: whose decisions.
        partition: only those about requests of this month, ``YYYY-MM``.
        decision: only these, such as ``declined``.
        limit: how many at most; ``found`` counts all.
        keys: whether the entity's keys are told: they are personal data.
        shadows: whether what shadow versions would have decided is there too.

    Raises:
        NotFound: unknown model.
        DataError: the partition is no month.
    """
    from ml_platform.lifecycle.decisions import Wanted, read_decisions

    platform.registry.state().model(model)
    return read_decisions(platform, Wanted(model, partition, decision, keys, shadows), limit)


def read_clock(platform: Platform) -> dict[str, Any]:
    """The kind of the platform's clock, ``wall`` or ``replay``, and where it stands."""
    return {"kind": platform.settings.kind, "now": format_utc(platform.clock.now())}


def state_at(platform: Platform, at: datetime | None = None, known_at: datetime | None = None) -> dict[str, Any]:
    """Stages as in effect at a time, as far as they were recorded at another; both default to now."""
    state: State = platform.registry.state(at=at, known_at=known_at)
    if state.genesis is None:
        raise _before_the_first_entry(platform, at)
    return {
        "entries": state.size,
        "platform": state.genesis.platform,
        "models": [_model(known) for _, known in sorted(state.models.items())],
    }


def _before_the_first_entry(platform: Platform, at: datetime | None) -> NotFound:
    """Says from when on there is a registry, in the time that was asked too early."""
    first = platform.registry.entry(0)
    if at is not None and format_utc(at) < first.effective_at:
        name, since = "at", first.effective_at
    else:
        name, since = "known_at", first.recorded_at
    text = since.replace(".000000Z", "Z")
    return NotFound(
        f"There was no registry yet at that time; there is one from {text} on.",
        field=name,
        next_step=f"Ask for a later time: --{name.replace('_', '-')} {text}.",
    )
