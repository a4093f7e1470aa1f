"""By which route an online decision was made: the signed document that the log names, its signature checked now."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Any, Final
from weakref import WeakKeyDictionary

from ml_platform.core.errors import ArtifactCorrupt, NotFound, Tampered
from ml_platform.governance.parts import Parts
from ml_platform.governance.reading import optional_text
from ml_platform.registry import Entry, Registry, State
from ml_platform.registry.flip import open_flip
from ml_platform.registry.route import open_route
from ml_platform.serving.record import SHADOW_ROLE

__all__ = ["route_section"]

_KINDS: Final = frozenset({"route_applied", "route_flipped"})
_read: WeakKeyDictionary[Registry, tuple[int, dict[str, int]]] = WeakKeyDictionary()
_guard = Lock()


def route_section(parts: Parts, state: State, header: Mapping[str, Any]) -> dict[str, Any] | None:
    """Route and local rollback of a decision; None for one that was made by no route.

    Raises:
        Tampered: a stored document is not signed by the service key, or is another than the log and the record name.
    """
    if header["route_digest"] is None:
        return None
    entry = _entry(parts, state, header["model"], str(header["route_digest"]))
    shown = {"digest": header["route_digest"], "epoch": header["epoch"], "arm": header["role"]}
    return {**shown, **_route(parts, state, entry, header), "flip": _flip(parts, state, header)}


def _route(parts: Parts, state: State, entry: Entry | None, header: Mapping[str, Any]) -> dict[str, Any]:
    if entry is None:
        absent = {"absent": "The log has no entry about this route yet."}
        return {"log_index": None, "document": absent, "signature_checked": False}
    raw = _evidence(parts, entry.body["route"])
    if raw is None:
        absent = {"absent": "The signed route is not stored any more."}
        return {"log_index": entry.index, "document": absent, "signature_checked": False}
    signed = open_route(raw, state.genesis.service_key if state.genesis else "")
    route = signed.route
    if (signed.digest, route.epoch, route.model) != (header["route_digest"], header["epoch"], header["model"]):
        raise Tampered(
            "The stored route is not the one by which the record says it was decided.",
            field=f"entry {entry.index}",
            next_step="Restore the evidence objects and the log from a backup.",
        )
    named = [(arm.version, arm.artifact) for arm in route.arms if arm.arm == header["role"]]
    if header["flip_digest"] is None and header["role"] != SHADOW_ROLE:
        _require_named((header["version"], header["artifact_digest"]), named, entry)
    return {"log_index": entry.index, "document": route.document(), "signature_checked": True}


def _require_named(decided: tuple[int, str], named: list[tuple[int, str]], entry: Entry) -> None:
    if decided not in named:
        raise Tampered(
            "The route or rollback does not name the version that decided.",
            field=f"entry {entry.index}",
            next_step="Compare the record with the router's log: one of the two was changed.",
        )


def _flip(parts: Parts, state: State, header: Mapping[str, Any]) -> dict[str, Any] | None:
    if header["flip_digest"] is None:
        return None
    shown = {"digest": header["flip_digest"]}
    entry = _entry(parts, state, header["model"], header["flip_digest"])
    if entry is None:
        return {**shown, "log_index": None, "document": {"absent": "The log has no entry about this rollback yet."}}
    raw = _evidence(parts, entry.body["flip"])
    if raw is None:
        return {**shown, "log_index": entry.index, "document": {"absent": "The document is not stored any more."}}
    opened = open_flip(raw)
    if opened.digest != header["flip_digest"]:
        raise Tampered(
            "The stored local rollback is not the one that the record names.",
            field=f"entry {entry.index}",
            next_step="Restore the evidence objects from a backup.",
        )
    _require_named((header["version"], header["artifact_digest"]), [(opened.target, opened.artifact)], entry)
    reason = optional_text(parts.objects, entry.body["reason"])
    return {**shown, "log_index": entry.index, "document": opened.document(), "reason": reason}


def _evidence(parts: Parts, digest: str) -> bytes | None:
    try:
        return parts.objects.get(digest)
    except NotFound:
        return None
    except ArtifactCorrupt as error:
        raise Tampered(error.what, field=digest, next_step=error.next_step) from error


def _entry(parts: Parts, state: State, model: str, digest: str) -> Entry | None:
    """The entry that names a route or a flip; the newest of a model is at hand, the others are looked for once."""
    known = state.models.get(model)
    newest = [] if known is None else [one for one in (known.route, known.flip) if one is not None]
    for one in newest:
        if one.digest == digest:
            return parts.registry.entry(one.index)
    with _guard:
        seen, places = _read.get(parts.registry, (0, {}))
        for entry in parts.registry.entries(seen):
            seen = entry.index + 1
            if entry.kind in _KINDS:
                places[str(entry.body["digest"])] = entry.index
        _read[parts.registry] = (seen, places)
    return parts.registry.entry(places[digest]) if digest in places else None
