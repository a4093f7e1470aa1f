"""Read tables: what each entry changes in them. Pure; ``verify`` replays it and compares.

They serve queries and the database's own constraints (one production version a model, each nonce once); nothing is
decided from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from ml_platform.registry.events import Entry
from ml_platform.registry.state import State

__all__ = ["KEYS", "Change", "changes", "replay"]

# Read table -> its key columns.
KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "versions": ("model", "version"),
    "stages": ("model", "version"),
    "approvals": ("payload",),
    "nonces": ("nonce",),
    "segments": ("segment",),
}
_KINDS: Final = {
    "registered", "approval_given", "approval_revoked", "transition", "transition_reversed", "segments_sealed",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """One row inserted, or the row of a key updated."""

    table: str
    action: Literal["insert", "update"]
    row: Mapping[str, Any]


def changes(state: State, entry: Entry) -> list[Change]:
    """What an entry changes, given the state before it."""
    if entry.kind not in _KINDS:
        return []
    body, model = entry.body, entry.model
    if entry.kind == "registered":
        key = {"model": model, "version": body["version"]}
        fixed = {name: body[name] for name in ("candidate", "artifact", "evaluation", "training_set")}
        return [
            Change("versions", "insert", {**key, **fixed, "entry": entry.index}),
            Change("stages", "insert", {**key, "stage": "trained", "entry": entry.index}),
        ]
    if entry.kind == "approval_given":
        row = {name: body[name] for name in ("payload", "version", "principal", "nonce")}
        return [Change("approvals", "insert", {**row, "model": model, "entry": entry.index, "revoked": None})]
    if entry.kind == "approval_revoked":
        return [Change("approvals", "update", {"payload": body["payload"], "revoked": entry.index})]
    if entry.kind == "segments_sealed":
        names = ("writer", "first_id", "last_id", "min_decided_at", "max_decided_at")
        return [
            Change(
                "segments",
                "insert",
                {"segment": one["id"], "entry": entry.index, **{name: one[name] for name in names}},
            )
            for one in body["segments"]
        ]
    return _reversed(entry) if entry.kind == "transition_reversed" else _transition(state, entry)


def _reversed(entry: Entry) -> list[Change]:
    body = entry.body
    moved = [(body["version"], body["to"]), (body["restored"], body["from"])]  # the place is freed first
    return _stages(entry, moved)


def _stages(entry: Entry, moved: list[tuple[int | None, str]]) -> list[Change]:
    return [
        Change("stages", "update", {"model": entry.model, "version": number, "stage": stage, "entry": entry.index})
        for number, stage in moved
        if number is not None
    ]


def _transition(state: State, entry: Entry) -> list[Change]:
    body, model = entry.body, str(entry.model)
    known = state.models[model].approvals if model in state.models else {}
    used = [known[payload] for payload in body["approvals"] if payload in known]
    nonces = [
        Change("nonces", "update" if one.released else "insert", {"nonce": one.nonce, "entry": entry.index})
        for one in used
    ]
    return nonces + _stages(entry, [(body["displaced"], "archived"), (body["version"], body["to"])])


def replay(tables: dict[str, dict[tuple[Any, ...], dict[str, Any]]], change: Change) -> None:
    """Applies a change to tables held in memory, as the database does."""
    key = tuple(change.row[name] for name in KEYS[change.table])
    rows = tables.setdefault(change.table, {})
    if change.action == "insert":
        rows[key] = dict(change.row)
    elif key in rows:
        rows[key].update(change.row)
