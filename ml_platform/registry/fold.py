"""The fold: entries in, `State` out. Pure, in log-index order, copying only what it changes.

It never judges. Entries of unknown kinds change nothing, except that an unknown critical one is remembered as a
block. Entries about versions or candidates that a partial view (`state(at)`) does not hold are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, ClassVar, Final

from ml_platform.registry.events import Entry
from ml_platform.registry.layers import Layers
from ml_platform.registry.loop_fold import LOOP_HANDLERS, new_rollout
from ml_platform.registry.state import (
    ApprovalState,
    Authorship,
    CandidateState,
    Digests,
    Genesis,
    Intent,
    KeyState,
    ModelState,
    Move,
    PolicyState,
    State,
    VersionState,
    WriterState,
)

__all__ = ["Fold", "fold"]


_HELD: Final = {"staging", "canary", "production"}
_APPROVAL_FIELDS: Final = (
    "version", "action", "to", "principal", "public_key", "payload", "signature",
    "nonce", "policy", "baseline", "not_before", "not_after",
)  # fmt: skip


def fold(entries: Iterable[tuple[Entry, bytes]], start: State | None = None) -> State:
    """The state after more entries, each with its leaf hash (32 bytes)."""
    folding = Fold(start)
    for entry, leaf in entries:
        folding.add(entry, leaf)
    return folding.state()


class Fold:
    """A fold under way; `state` gives a frozen view, after which it can go on."""

    def __init__(self, start: State | None = None) -> None:
        self._take(start or State())

    def _take(self, start: State) -> None:
        self._size, self._recorded_at, self._genesis = start.size, start.recorded_at, start.genesis
        self._policies, self._orders, self._blocked = start.policies, start.orders, start.blocked
        self._keys, self._models, self._writers = start.keys, start.models, start.writers
        self._dicts: dict[str, dict[str, Any]] = {}
        self._owned: set[str] = set()

    def state(self) -> State:
        """The state so far; it will not change when more entries are added."""
        state = self.peek()
        self._take(state)
        return state

    def peek(self) -> State:
        """The state so far, valid only until the next `add`: for judging the next entry without a copy."""
        return State(
            self._size,
            self._recorded_at,
            self._genesis,
            self._keys,
            self._policies,
            self._orders,
            self._models,
            self._writers,
            self._blocked,
        )

    def add(self, entry: Entry, leaf: bytes) -> None:
        """One more entry."""
        handler = self._HANDLERS.get(entry.kind)
        if handler is not None:
            handler(self, entry, leaf)
        elif entry.kind in LOOP_HANDLERS:
            name = str(entry.model)
            made = LOOP_HANDLERS[entry.kind](self._model(name), entry)
            self._dicts["models"][name] = made
        elif entry.critical and not entry.known:
            self._block(entry)
        self._size = entry.index + 1
        self._recorded_at = entry.recorded_at

    def _own(self, name: str, current: Any) -> dict[str, Any]:
        if name not in self._dicts:
            self._dicts[name] = dict(current)
        return self._dicts[name]

    def _own_writers(self) -> Layers[str, WriterState]:
        if "writers" not in self._owned:
            self._writers = self._writers.copy()
            self._owned.add("writers")
        return self._writers

    def _model(self, name: str) -> ModelState:
        """A model whose dictionaries belong to this fold."""
        models = self._own("models", self._models)
        self._models = models
        if f"model {name}" not in self._owned:
            known = models.get(name) or ModelState(name)
            models[name] = replace(
                known,
                versions=dict(known.versions),
                candidates=known.candidates.copy(),
                approvals=known.approvals.copy(),
                nonces=known.nonces.copy(),
                intents=dict(known.intents),
                alerts=known.alerts.copy(),
                retrains=known.retrains.copy(),
            )
            self._owned.add(f"model {name}")
        return models[name]  # type: ignore[no-any-return]

    def _update_model(self, name: str, **changes: Any) -> None:
        self._dicts["models"][name] = replace(self._model(name), **changes)

    def _put(self, model: str, collection: str, key: object, value: object) -> None:
        getattr(self._model(model), collection)[key] = value

    def _block(self, entry: Entry) -> None:
        if entry.model is None:
            self._blocked = (*self._blocked, entry.index)
        else:
            self._update_model(entry.model, blocked=(*self._model(entry.model).blocked, entry.index))

    def _genesis_entry(self, entry: Entry, leaf: bytes) -> None:
        self._genesis = Genesis("sha256:" + leaf.hex(), entry.body)
        self._policies = (PolicyState(entry.index, entry.body["policy"]),)
        for key in entry.body["keys"]:
            self._add_key(key, entry.index)

    def _add_key(self, body: Any, index: int) -> None:
        self._keys = keys = self._own("keys", self._keys)
        keys[body["public_key"]] = KeyState(
            principal=body["principal"],
            public_key=body["public_key"],
            roles=tuple(body["roles"]),
            emails=tuple(body["emails"]),
            added=index,
        )

    def _key_added(self, entry: Entry, _: bytes) -> None:
        self._add_key(entry.body, entry.index)
        self._orders |= {entry.body["order"]}

    def _key_revoked(self, entry: Entry, _: bytes) -> None:
        self._keys = keys = self._own("keys", self._keys)
        known = keys.get(entry.body["public_key"])
        if known is not None:
            keys[known.public_key] = replace(
                known,
                revoked=entry.index,
                cause=entry.body["cause"],
                suspect_from=entry.body["suspect_from"],
            )
        self._orders |= {entry.body["order"]}

    def _policy(self, entry: Entry, _: bytes) -> None:
        self._policies = (*self._policies, PolicyState(entry.index, entry.body["policy"]))
        self._orders |= {entry.body["order"]}

    def _candidate_requested(self, entry: Entry, _: bytes) -> None:
        body = entry.body
        candidate = CandidateState(body["candidate"], entry.index, body["spec"], body["requested_by"])
        self._put(str(entry.model), "candidates", candidate.key, candidate)

    def _candidate_evaluated(self, entry: Entry, _: bytes) -> None:
        body, model = entry.body, self._model(str(entry.model))
        known = model.candidates.get(body["candidate"])
        if known is not None:
            evaluated = replace(
                known,
                evaluated=entry.index,
                run_record=body["run_record"],
                evaluation=body["evaluation"],
                signature=body["signature"],
                verdicts=tuple((gate["gate"], gate["verdict"]) for gate in body["gates"]),
            )
            self._put(model.name, "candidates", known.key, evaluated)

    def _registered(self, entry: Entry, _: bytes) -> None:
        body, model = entry.body, self._model(str(entry.model))
        candidate = model.candidates.get(body["candidate"])
        launcher = {candidate.requested_by} if candidate else set()
        signature = candidate.signature if candidate else None
        names = ("spec", "artifact", "contract", "run_record", "evaluation", "training_set")
        author = body["authorship"]
        version = VersionState(
            model=model.name,
            number=body["version"],
            candidate=body["candidate"],
            registered=entry.index,
            risk_class=body["risk_class"],
            digests=Digests(evaluation_signature=signature or "", **{name: body[name] for name in names}),
            baseline=body["baseline"],
            authorship=Authorship(
                known=author["status"] == "known",
                basis=author["basis"],
                emails=frozenset(author["emails"]),
                principals=frozenset(author["principals"]) | launcher | {body["registered_by"]},
            ),
            stage="trained",
            history=(),
        )
        self._put(model.name, "versions", version.number, version)
        if candidate is not None:
            self._put(model.name, "candidates", candidate.key, replace(candidate, version=version.number))

    def _approval_given(self, entry: Entry, _: bytes) -> None:
        body, model = entry.body, str(entry.model)
        approval = ApprovalState(
            index=entry.index,
            recorded_at=entry.recorded_at,
            model=model,
            source=body["from"],
            accepts=frozenset(body["accepts"]),
            **{name: body[name] for name in _APPROVAL_FIELDS},
        )
        self._put(model, "approvals", approval.payload, approval)
        self._put(model, "nonces", approval.nonce, approval.payload)

    def _approval_revoked(self, entry: Entry, _: bytes) -> None:
        self._orders |= {entry.body["order"]}
        model = self._model(str(entry.model))
        known = model.approvals.get(entry.body["payload"])
        if known is not None and known.revoked is None:
            self._put(model.name, "approvals", known.payload, replace(known, revoked=entry.index))

    def _transition_intended(self, entry: Entry, _: bytes) -> None:
        body = entry.body
        intent = Intent(entry.index, body["version"], body["action"], body["from"], body["to"])
        self._put(str(entry.model), "intents", entry.index, intent)

    def _transition(self, entry: Entry, _: bytes) -> None:
        body, model = entry.body, self._model(str(entry.model))
        self._move(entry, body["version"], body["from"], body["to"])
        if body["displaced"] is not None:
            self._move(entry, body["displaced"], body["to"], "archived")
        held: dict[str, int | None] = {}
        if body["from"] in _HELD:
            held[body["from"]] = None
        if body["to"] in _HELD:
            held[body["to"]] = body["version"]
        for payload in body["approvals"]:
            known = model.approvals.get(payload)
            if known is not None:
                self._put(model.name, "approvals", payload, replace(known, consumed=entry.index))
        begun = {"rollout": new_rollout(entry)} if body["to"] == "canary" else {}
        self._update_model(model.name, last_transition=entry.index, intents={}, **held, **begun)

    def _move(self, entry: Entry, number: int, source: str, to: str) -> None:
        model = self._model(str(entry.model))
        version = model.versions.get(number)
        if version is None:
            return
        own = number == entry.body["version"]
        move = Move(
            index=entry.index,
            effective_at=entry.effective_at,
            recorded_at=entry.recorded_at,
            action=entry.body["action"],
            source=source,
            to=to,
            actor=entry.body["actor"],
            reason=entry.body["reason"],
            approvals=tuple(entry.body["approvals"]) if own else (),
            required=entry.body["required"] if own else 0,
        )
        moved = replace(version, stage=to, history=(*version.history, move))
        self._put(model.name, "versions", number, moved)

    def _segments_sealed(self, entry: Entry, _: bytes) -> None:
        writers = self._own_writers()
        for segment in entry.body["segments"]:
            writers[segment["writer"]] = WriterState(segment["last_seq"] + 1)

    def _writer_closed(self, entry: Entry, _: bytes) -> None:
        writers = self._own_writers()
        writers[entry.body["writer"]] = WriterState(entry.body["last_seq"] + 1, closed=True)

    _HANDLERS: ClassVar[dict[str, Callable[[Fold, Entry, bytes], None]]] = {
        "genesis": _genesis_entry,
        "key_added": _key_added,
        "key_revoked": _key_revoked,
        "policy": _policy,
        "candidate_requested": _candidate_requested,
        "candidate_evaluated": _candidate_evaluated,
        "registered": _registered,
        "approval_given": _approval_given,
        "approval_revoked": _approval_revoked,
        "transition_intended": _transition_intended,
        "transition": _transition,
        "segments_sealed": _segments_sealed,
        "writer_closed": _writer_closed,
    }
