"""The registry: everything that may be asked of the log, and everything that may be written to it.

Every method that writes judges the entry inside the append's locked transaction, and can be run again after a
crash. Nothing is ever changed or removed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from ml_platform.core.clock import Clock, WallClock
from ml_platform.core.errors import Conflict, NotFound
from ml_platform.core.objects import ObjectStore
from ml_platform.registry import writes
from ml_platform.registry.approvals import Decision, build_payload, parse_payload
from ml_platform.registry.checkpoints import Checkpoints, CheckpointSigner
from ml_platform.registry.events import Entry, Event
from ml_platform.registry.evidence import Evidence
from ml_platform.registry.log import EventLog
from ml_platform.registry.loop_writes import AlertWrites, RetrainWrites
from ml_platform.registry.notes import Checkpoint
from ml_platform.registry.ordered import OrderedWrites
from ml_platform.registry.orders import new_head
from ml_platform.registry.proof import InclusionProof
from ml_platform.registry.report import Report
from ml_platform.registry.route_writes import RouteWrites
from ml_platform.registry.sql import Database
from ml_platform.registry.state import State
from ml_platform.registry.verification import verify_log
from ml_platform.registry.writes import Move, Registration

__all__ = ["Registry", "TransitionResult"]

_NONCE_BYTES: Final = 16


@dataclass(frozen=True)
class TransitionResult:
    """What a transition did: its log index, and which version it displaced to ``archived``."""

    index: int
    model: str
    version: int
    source: str
    to: str
    displaced: int | None


class Registry(OrderedWrites, RouteWrites, AlertWrites, RetrainWrites):
    """The registry of one root.

    Args:
        log: the event log.
        database: its database.
        checkpoints: its checkpoints.
        clock: the platform's clock; in a replay root it gives ``effective_at``.
        wall: wall time.
    """

    def __init__(
        self, log: EventLog, database: Database, checkpoints: Checkpoints, *, clock: Clock, wall: Clock
    ) -> None:
        self._log = log
        self._database = database
        self._checkpoints = checkpoints
        self._clock = clock
        self._wall = wall

    @classmethod
    def open(
        cls,
        url: str,
        objects: ObjectStore,
        *,
        signer: CheckpointSigner | None = None,
        clock: Clock | None = None,
        wall: Clock | None = None,
        evidence: Evidence | None = None,
    ) -> Registry:
        """Opens the registry of a database URL and an object store.

        Args:
            url: an SQLAlchemy URL.
            objects: the store of evidence and checkpoints.
            signer: the log's key; None to read only.
            clock: the platform's clock (default: the wall's).
            wall: the wall's clock.
            evidence: how evidence is read (default: from ``objects``).
        """
        database = Database(url)
        database.migrate()
        real = wall or WallClock()
        checkpoints = Checkpoints(objects, signer)
        log = EventLog(database, evidence or Evidence(objects), checkpoints, real)
        return cls(log, database, checkpoints, clock=clock or real, wall=real)

    @classmethod
    def create(cls, url: str, objects: ObjectStore, genesis: Mapping[str, Any], **parts: Any) -> Registry:
        """Opens the registry and writes its genesis; the same genesis again changes nothing.

        Raises:
            Conflict: the log has another genesis.
        """
        registry = cls.open(url, objects, **parts)
        registry.begin(genesis)
        return registry

    def begin(self, genesis: Mapping[str, Any]) -> None:
        """Writes the genesis of an empty log; see `create`."""
        replay = genesis.get("root_kind") == "replay"

        def decide(state: State, _: str) -> list[Event]:
            if state.genesis is None:
                return [Event("genesis", dict(genesis), None, self._clock.now() if replay else None)]
            if dict(state.genesis.body) != dict(genesis):
                raise Conflict("This root has another genesis.", field="genesis", next_step="Use another root folder.")
            return []

        self._write(decide)

    def close(self) -> None:
        """Lets go of the database."""
        self._database.close()

    # -- reading -----------------------------------------------------------------------------------------------------

    def state(self, at: datetime | None = None, known_at: datetime | None = None) -> State:
        """The state now, or what was in effect at ``at`` as far as it was recorded at ``known_at``."""
        return self._log.state(at, known_at)

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[Entry]:
        """Log entries in order."""
        return self._log.entries(start, stop)

    def entry(self, index: int) -> Entry:
        """One entry; `NotFound` beyond the log."""
        return self._log.entry(index)

    def sealed_in(self, segment: str) -> int:
        """The log index of the entry that sealed a segment; `NotFound` when it is not sealed yet."""
        row = self._log.row("segments", segment=segment)
        index = None if row is None else int(str(row["entry"]))
        if index is None or not _seals(self.entry(index), segment):
            raise NotFound("The segment is not sealed in this log.", field="segment", next_step="Run `mlp seal`.")
        return index

    def inclusion(self, index: int) -> InclusionProof:
        """The proof of an entry against the newest checkpoint; makes one first where none covers the entry.

        Raises:
            NotFound: no such entry, or no checkpoint covers it and this process may not sign.
        """
        sizes = self._checkpoints.sizes()
        raw = self._log.raw(index)
        size = sizes[-1] if sizes and sizes[-1] > index else self.checkpoint().size
        path = self._log.tree.inclusion_proof(index, size)
        return InclusionProof(index, raw, tuple(path), self._checkpoints.note(size))

    def checkpoint(self) -> Checkpoint:
        """Signs and publishes size and root of the log as of now."""
        return self._log.checkpoint()

    def verify(self, since: bytes | None = None, genesis: str | None = None) -> Report:
        """Judges the whole log again; see `verify_log`."""
        evidence = self._log.judging.evidence
        return verify_log(self._database, evidence, self._checkpoints, since=since, genesis=genesis)

    # -- candidates and versions -------------------------------------------------------------------------------------

    def candidate_requested(
        self, model: str, candidate: str, *, as_of: datetime, spec: str, inputs: str, requested_by: str
    ) -> int:
        """Logs a candidate before its run; returns the log index. Again with the same inputs: no-op."""

        def decide(state: State, _: str) -> list[Event]:
            return writes.requested(
                state,
                model=model,
                candidate=candidate,
                as_of=as_of,
                spec=spec,
                inputs=inputs,
                requested_by=requested_by,
                effective_at=self._effective_now(state),
            )

        self._write(decide, publish=False)
        return self.state().model(model).candidates[candidate].requested

    def candidate_evaluated(
        self, model: str, candidate: str, *, run_record: str, evaluation: str, signature: str
    ) -> int:
        """Logs an evaluation with recomputed verdicts, passed or not; returns the log index.

        Args:
            model: model name.
            candidate: candidate key.
            run_record: digest of the run record's bytes.
            evaluation: digest of the evaluation document's bytes.
            signature: the evaluator's armored signature over the text of that digest.
        """
        signed = self._evidence.put(signature.encode())

        def decide(state: State, _: str) -> list[Event]:
            return writes.evaluated(
                state,
                self._log.judging,
                model=model,
                candidate=candidate,
                run_record=run_record,
                evaluation=evaluation,
                signature=signed,
                effective_at=self._effective_now(state),
            )

        self._write(decide, publish=False)
        return int(self.state().model(model).candidates[candidate].evaluated or 0)

    def register(self, registration: Registration) -> int:
        """Gives a candidate its version number (dense, from 1), or the one that it has."""
        judging = self._log.judging
        self._write(lambda state, _: writes.registered(state, judging, registration, self._effective_now(state)))
        return int(self.state().model(registration.model).candidates[registration.candidate].version or 0)

    # -- approvals and transitions -----------------------------------------------------------------------------------

    def payload(
        self, model: str, version: int, *, action: str, to: str, reason: str, decisions: Sequence[Decision] = (),
        source: str | None = None, days: float = 7,
    ) -> bytes:  # fmt: skip
        """The bytes that an approver signs under ``<action>@ml-platform``; see `build_payload`."""
        state, now = self.state(), self._wall.now()
        return build_payload(
            state,
            model,
            version,
            action=action,
            to=to,
            source=source or state.version(model, version).stage,
            reason=reason,
            nonce=secrets.token_hex(_NONCE_BYTES),
            not_before=now,
            not_after=now + timedelta(days=days),
            seen=new_head(state, self._log.tree.root_at(state.size)),
            decisions=decisions,
        )

    def approve(self, payload: bytes, signature: str) -> int:
        """Enters a signed approval; returns its log index."""
        judging = self._log.judging
        self._write(lambda state, _: writes.approval(state, judging, payload, signature, self._effective_now(state)))
        approvals = self.state().model(parse_payload(payload)["model"]).approvals
        return approvals[self._evidence.put(payload)].index

    def transition(
        self, model: str, version: int, action: str, *, to: str, actor: str, reason: str,
        warm: Callable[[], None] | None = None, seen_size: int | None = None,
    ) -> TransitionResult:  # fmt: skip
        """Changes a version's stage: announced, warmed, then written with all checks again; then a checkpoint.

        Args:
            model: model name.
            version: version number.
            action: of the table of transitions.
            to: the stage after.
            actor: principal who asks.
            reason: why; kept as evidence.
            warm: loads what is needed between announcement and transition; when it raises, nothing moves.
            seen_size: the size of the log on which the caller decided (default: now).

        Raises:
            ConcurrentTransition: the model moved since.
            PlatformError: as `check_transition`.
        """
        wish = Move(model, version, action, to, actor, self._evidence.put(reason.encode()))
        judging, seen = self._log.judging, self.state().size if seen_size is None else seen_size
        announced = self._write(
            lambda state, at: writes.intended(
                state, judging, wish, seen_size=seen, recorded_at=at, effective_at=self._effective_now(state)
            ),
            publish=False,
        )[0]
        if warm is not None:
            warm()
        index = self._write(
            lambda state, at: writes.moved(
                state, judging, wish, index=announced, recorded_at=at, effective_at=self._effective_now(state)
            )
        )[0]
        body = self.entry(index).body
        return TransitionResult(index, model, version, body["from"], to, body["displaced"])


def _seals(entry: Entry, segment: str) -> bool:
    return any(one["id"] == segment for one in entry.body.get("segments", ()))
