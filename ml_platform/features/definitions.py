"""Definitions by digest: an old version is computed from what was declared then, not from today's Python."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from ml_platform.core.digests import canonical_json, document_digest, parse_canonical
from ml_platform.core.errors import ArtifactCorrupt, DeclarationError
from ml_platform.core.fields import Field
from ml_platform.core.objects import ObjectStore
from ml_platform.features.aggregations import Aggregation
from ml_platform.features.declaration import DEFINITION_FORMAT, Declaration
from ml_platform.features.entity import Entity
from ml_platform.features.expressions import Expression
from ml_platform.features.source import INGESTED, KnownTime, SameAsEvent, Source
from ml_platform.features.views import EXACT, FeatureView, RequestView

__all__ = ["load", "load_kinds", "path_of", "rebuild", "store"]


def path_of(digest: str) -> str:
    """Where a definition lies in the object store."""
    return f"definitions/{digest.removeprefix('sha256:')}.json"


def store(objects: ObjectStore, declaration: Declaration) -> str:
    """Writes the canonical form, once, and returns its digest; storing it again changes nothing.

    Raises:
        Conflict: the path holds other bytes.
    """
    objects.create_same(path_of(declaration.digest), canonical_json(declaration.spec()))
    return declaration.digest


def load(objects: ObjectStore, digest: str) -> Declaration:
    """The declaration of a digest, rebuilt from its canonical form.

    Raises:
        NotFound: nothing is stored under it.
        ArtifactCorrupt: the stored bytes, or what they rebuild to, have another digest.
    """
    spec = _intact(objects, digest)
    declaration = rebuild(spec)
    if declaration.digest != digest:
        raise ArtifactCorrupt(
            "This version of the library reads the stored definition as another one.",
            field=digest,
            next_step="Use the version of the library that the run record names.",
        )
    return declaration


def load_kinds(objects: ObjectStore, digest: str, kinds: Collection[str]) -> Declaration | None:
    """As ``load``, of some kinds only; None where something of another kind is stored under the digest."""
    return load(objects, digest) if _intact(objects, digest).get("kind") in kinds else None


def _intact(objects: ObjectStore, digest: str) -> dict[str, Any]:
    try:
        spec = parse_canonical(objects.read(path_of(digest)))
        intact = isinstance(spec, dict) and document_digest("definition", spec) == digest
    except (ValueError, DeclarationError):
        intact = False
    if not intact:
        raise ArtifactCorrupt(
            "The stored definition is not what its digest says.",
            field=digest,
            next_step="Restore it from a backup, or store the declaration again.",
        )
    return dict(spec)


def rebuild(spec: Mapping[str, Any]) -> Declaration:
    """The declaration of a canonical form.

    Raises:
        DeclarationError: the format or kind is unknown.
    """
    builder = _BUILDERS.get(str(spec.get("kind")))
    if spec.get("format") != DEFINITION_FORMAT or builder is None:
        raise DeclarationError(
            "The definition has an unknown format or kind.",
            field="kind",
            next_step=f"Known are {', '.join(_BUILDERS)} in {DEFINITION_FORMAT}.",
        )
    return builder(spec)


def _entity(spec: Mapping[str, Any]) -> Entity:
    return Entity(spec["name"], keys=tuple(spec["keys"]), personal=spec["personal"])


def _known_time(spec: Mapping[str, Any]) -> KnownTime:
    if "same_as_event" in spec:
        return SameAsEvent(spec["same_as_event"])
    return INGESTED if "ingested" in spec else str(spec["column"])


def _source(spec: Mapping[str, Any]) -> Source:
    return Source(
        spec["name"],
        columns=spec["columns"],
        keys=tuple(spec["keys"]),
        event_time=spec["event_time"],
        known_time=_known_time(spec["known_time"]),
        tie_break=tuple(spec["tie_break"]),
        deleted=spec["deleted"],
        sql=spec["sql"],
        inputs=tuple(_source(inner) for inner in spec["inputs"].values()),
    )


def _field(spec: Mapping[str, Any]) -> Field:
    values = dict(spec)
    values["range"] = None if values["range"] is None else tuple(values["range"])
    values["categories"] = None if values["categories"] is None else tuple(values["categories"])
    return Field(**values)


def _request_view(spec: Mapping[str, Any]) -> RequestView:
    columns = tuple(_field(column) for column in spec["columns"].values())
    kinds = {column.name: column.kind for column in columns}
    return RequestView(
        spec["name"],
        entity=_entity(spec["entity"]),
        source=_source(spec["source"]),
        time=spec["time"],
        columns=columns,
        derived={name: Expression.from_spec(tree, kinds) for name, tree in spec["derived"].items()},
    )


def _duration(months: int, microseconds: int) -> str:
    if months:
        return f"{months}mo"
    for unit, size in (("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000)):
        if microseconds % size == 0:
            return f"{microseconds // size}{unit}"
    return f"{microseconds // 1_000_000}s"


def _optional_duration(microseconds: int | None) -> str | None:
    return None if microseconds is None else _duration(0, microseconds)


def _aggregation(feature: str, spec: Mapping[str, Any]) -> Aggregation:
    return Aggregation.from_document(feature, spec, _duration(**spec["over"]))


def _feature_view(spec: Mapping[str, Any]) -> FeatureView:
    return FeatureView(
        spec["name"],
        entity=_entity(spec["entity"]),
        source=_source(spec["rows"]),
        aggregations=tuple(_aggregation(name, item) for name, item in spec["aggregations"].items()),
        columns=tuple(_field(column) for column in spec["columns"].values()),
        refresh=_optional_duration(spec["refresh_us"]) or EXACT,
        ttl=_optional_duration(spec["ttl_us"]),
    )


_BUILDERS: Final[dict[str, Callable[[Mapping[str, Any]], Declaration]]] = {
    Entity.kind: _entity,
    Source.kind: _source,
    RequestView.kind: _request_view,
    FeatureView.kind: _feature_view,
}
