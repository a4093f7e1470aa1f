"""Asking for a candidate: its inputs are pinned and logged before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

from ml_platform.core.clock import format_utc, parse_utc
from ml_platform.core.digests import canonical_json, document_digest, file_digest, parse_canonical, tagged_hash
from ml_platform.core.errors import DataError, NotFound
from ml_platform.core.rows import utc
from ml_platform.features import definitions
from ml_platform.features.deprecation import refuse_deprecated, warn_deprecated
from ml_platform.lifecycle.features import feature_versions, materialize_model_views
from ml_platform.lifecycle.sources import source_table, source_versions
from ml_platform.model import Model
from ml_platform.platform import Platform
from ml_platform.training import Absent, CodeState, as_json
from ml_platform.training.artifact import load_artifact

__all__ = ["Candidate", "publish_definitions", "read_candidate", "request_candidate"]

FORMAT: Final = "ml-platform/candidate/1"
KEY_TAG: Final = "ml-platform/candidate-key/1"
_LOCK_FILES: Final = ("constraints.txt", "uv.lock", "poetry.lock", "requirements.txt")


@dataclass(frozen=True)
class Candidate:
    """A requested candidate and everything that was pinned for it; stored as ``request.json``."""

    model: str
    key: str
    as_of: datetime
    spec: str
    sources: Mapping[str, Mapping[str, Any]] = field(hash=False)
    features: Mapping[str, Mapping[str, Any]] = field(hash=False)
    code: Mapping[str, Any] = field(hash=False)
    lock: Any = field(hash=False)
    requested_by: str = "service"

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "model": self.model,
            "candidate": self.key,
            "as_of": format_utc(self.as_of),
            "spec": self.spec,
            "sources": {name: dict(source) for name, source in self.sources.items()},
            "features": {name: dict(view) for name, view in self.features.items()},
            "code": dict(self.code),
            "lock": self.lock,
            "requested_by": self.requested_by,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(
            model=document["model"],
            key=document["candidate"],
            as_of=parse_utc(document["as_of"]),
            spec=document["spec"],
            sources=document["sources"],
            features=document["features"],
            code=document["code"],
            lock=document["lock"],
            requested_by=document["requested_by"],
        )

    @property
    def inputs_digest(self) -> str:
        return document_digest("candidate", self.to_json())

    def source_version(self, name: str) -> int:
        return int(self.sources[name]["table_version"])

    def feature_version(self, reference: str) -> int:
        return int(self.features[reference]["table_version"])


def candidate_path(model: str, key: str, name: str) -> str:
    """Where a document of a candidate lies below the object store."""
    return f"candidates/{model}/{key}/{name}.json"


def read_candidate(platform: Platform, model: str, key: str) -> Candidate:
    """A requested candidate.

    Raises:
        NotFound: it was never requested.
    """
    try:
        raw = platform.objects.read(candidate_path(model, key, "request"))
    except NotFound as error:
        raise NotFound(
            "The candidate was never requested.",
            field="candidate",
            next_step=f"Request it: `mlp train {model} --as-of DATE`.",
        ) from error
    return Candidate.from_json(parse_canonical(raw))


def publish_definitions(platform: Platform, model: Model) -> None:
    """Stores the canonical form of everything that the model declares, by digest."""
    restricted = (attribute.source for attribute in model.protected)
    for declaration in (model.entity, model.request, *model.stored_views, *model.sources, *restricted):
        definitions.store(platform.objects, declaration)
    for one in (model.label, model):
        platform.objects.create_same(definitions.path_of(one.digest), canonical_json(one.spec()))


def _views_read(platform: Platform, model: str) -> set[str]:
    """Names of the views that a registered version of the model reads."""
    known = platform.registry.state().models.get(model)
    found: set[str] = set()
    for version in known.versions.values() if known else ():
        contract = load_artifact(platform.objects, version.digests.artifact).contract
        found |= {item.reference.partition("@")[0] for item in contract.fields}
    return found


def request_candidate(
    platform: Platform, model: Model, as_of: datetime, *, requested_by: str | None = None, code: Path | None = None
) -> Candidate:
    """Pins sources, stored features, code and lock file, logs the request, and returns the candidate.

    Equal inputs give the same candidate: asking again changes nothing.

    Args:
        platform: the root.
        model: the declaration.
        as_of: what was known later does not exist; not after the platform's clock.
        requested_by: the principal who asks; the settings' launcher by default.
        code: the folder of the code location; the current one by default.

    Raises:
        DataError: the as-of time lies in the future of the platform's clock, or training rows could be of a month that
            was not over by then, whose stored features are not there.
        NotFound: a source was never landed.
        Refused: it begins to use a view whose deprecation refuses new models.
    """
    as_of = utc(as_of)
    _require_come(platform, as_of)
    _require_whole_months(model, as_of)
    refuse_deprecated(model.name, model.stored_views, used_before=_views_read(platform, model.name))
    warn_deprecated(model.name, model.stored_views)
    publish_definitions(platform, model)
    versions = source_versions(platform, model.sources)
    materialize_model_views(platform, model, end=as_of)
    folder = code or Path.cwd()
    state = CodeState.of(folder, exclude=platform.root)
    lock = _lock_digest(folder)
    candidate = Candidate(
        model=model.name,
        key=_key(model, as_of, versions, state, lock),
        as_of=as_of,
        spec=model.digest,
        sources={
            source.name: {
                "table": source_table(source),
                "table_version": versions[source.name],
                "definition": source.digest,
            }
            for source in model.sources
        },
        features=feature_versions(platform, model),
        code=as_json(state.to_json()),
        lock=as_json(lock),
        requested_by=requested_by or platform.settings.launcher,
    )
    path = candidate_path(model.name, candidate.key, "request")
    # The first request pins; a later one with equal inputs may come from another commit with the same tree.
    if not platform.objects.create(path, canonical_json(candidate.to_json())):
        candidate = read_candidate(platform, model.name, candidate.key)
    platform.registry.candidate_requested(
        model.name,
        candidate.key,
        as_of=as_of,
        spec=model.digest,
        inputs=candidate.inputs_digest,
        requested_by=candidate.requested_by,
    )
    return candidate


def _require_come(platform: Platform, as_of: datetime) -> None:
    stands = platform.clock.now()
    if as_of > stands:
        move = f"Move it on: `mlp clock --move {format_utc(as_of)}`."
        raise DataError(
            f"The as-of time lies in the future of the platform's clock, which stands at {format_utc(stands)}.",
            field="as_of",
            next_step=move if platform.settings.kind == "replay" else "Ask for a time that has come.",
        )


def _require_whole_months(model: Model, as_of: datetime) -> None:
    """Stored views are written in whole months: no request of the as-of time's own month may be mature by then."""
    month = as_of.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    if model.stored_views and model.label.lag_duration.after(model.label.horizon_duration.after(month)) <= as_of:
        raise DataError(
            f"Rows of {month:%Y-%m} are mature by then, and stored features are written in months that are over.",
            field="as_of",
            next_step=f"Ask for the first of a month: {month:%Y-%m-%d}.",
        )


def _key(model: Model, as_of: datetime, versions: Mapping[str, int], code: CodeState, lock: str | Absent) -> str:
    digest = tagged_hash(
        KEY_TAG,
        ("us", as_of),
        ("text", model.digest),
        ("bytes", canonical_json(dict(versions))),
        ("text", code.tree),
        ("text", lock if isinstance(lock, str) else ""),
    )
    return f"{as_of:%Y%m%dT%H%M%SZ}_{digest.hex()[:12]}"


def _lock_digest(folder: Path) -> str | Absent:
    for name in _LOCK_FILES:
        if (folder / name).is_file():
            return file_digest(folder / name)
    return Absent("The code location has no lock file.")
