"""The event log: entries in the database, the fold in memory, checkpoints in the store.

What is decided is decided from the log itself, folded here, never from the read tables. Reading catches up with what
other processes wrote; everything beyond the newest checkpoint is judged again before anything is built on it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Final

from ml_platform.core.clock import Clock, WallClock, format_utc, parse_utc
from ml_platform.core.errors import NotFound, Tampered
from ml_platform.core.merkle import leaf_hash
from ml_platform.registry.checkpoints import Checkpoints, Claim, require_extension, rolled_back
from ml_platform.registry.events import Entry, Event, encode_entry, parse_entry
from ml_platform.registry.evidence import Evidence
from ml_platform.registry.fold import Fold
from ml_platform.registry.judging import Judging
from ml_platform.registry.notes import Checkpoint, Verifier
from ml_platform.registry.projection import Change, changes
from ml_platform.registry.rules import check
from ml_platform.registry.sql import Database, Head, Session, StoredEntry
from ml_platform.registry.state import State
from ml_platform.registry.tree import LogTree

__all__ = ["Decide", "EventLog"]

# From the state and `recorded_at` (RFC 3339), under the lock: what to write, or an error.
Decide = Callable[[State, str], Sequence[Event]]

_BULK: Final = {"segments_sealed", "writer_closed"}  # not kept in memory: they change no model's state
_REMEMBERED_VIEWS: Final = 32


class EventLog:
    """An append-only log with one writer at a time, on any number of processes.

    Args:
        database: migrated already.
        evidence: where evidence objects are.
        checkpoints: with a signer where entries are to be written.
        wall: wall time, for ``recorded_at``.
    """

    def __init__(
        self, database: Database, evidence: Evidence, checkpoints: Checkpoints, wall: Clock | None = None
    ) -> None:
        self._database = database
        self._checkpoints = checkpoints
        self._wall = wall or WallClock()
        self._lock = threading.RLock()
        self._tree = LogTree()
        self._fold = Fold()
        self._state = State()
        self._entries: list[tuple[Entry, bytes]] = []
        self._checked: set[tuple[int, bytes]] = set()
        self._views: dict[tuple[int, str, str], State] = {}
        self.judging = Judging(evidence, self._tree.root_at)

    # -- reading -----------------------------------------------------------------------------------------------------

    def refresh(self) -> State:
        """The state now, with what other processes wrote.

        Raises:
            Tampered: the database is not an extension of what was read or committed to before.
        """
        with self._lock:
            with self._database.reading() as session:
                current = self._tree.size > 0 and session.head().size == self._tree.size
            if not current:
                claims = self._checkpoints.claims()
                with self._database.reading() as session:
                    self._catch_up(session, claims)
            return self._state

    def state(self, at: datetime | None = None, known_at: datetime | None = None) -> State:
        """What had taken effect at ``at``, as far as it had been recorded at ``known_at`` (both: now).

        Authority is always judged in log order; this is only a view of stages and keys.
        """
        with self._lock:
            state = self.refresh()
            if at is None and known_at is None:
                return state
            latest = "9999"
            effective = latest if at is None else format_utc(at)
            recorded = latest if known_at is None else format_utc(known_at)
            key = (state.size, effective, recorded)
            if key not in self._views:
                if len(self._views) >= _REMEMBERED_VIEWS:
                    self._views.clear()
                view = Fold()
                for entry, leaf in self._entries:
                    if entry.effective_at <= effective and entry.recorded_at <= recorded:
                        view.add(entry, leaf)
                self._views[key] = view.state()
            return self._views[key]

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[Entry]:
        """Entries in log order, as the log has them when it is asked."""
        size = self.refresh().size
        with self._database.reading() as session:
            for stored in session.entries(start, size if stop is None else min(stop, size)):
                if stored.index >= self._tree.size or self._tree.leaf(stored.index) != leaf_hash(stored.raw):
                    raise _altered(stored.index)
                yield parse_entry(stored.raw, stored.index)

    def entry(self, index: int) -> Entry:
        """One entry; `NotFound` beyond the log."""
        for entry in self.entries(index, index + 1) if index >= 0 else ():
            return entry
        raise NotFound("The log has no such entry.", field="index", next_step="`mlp verify` prints its size.")

    def raw(self, index: int) -> bytes:
        """The stored bytes of an entry: the Merkle leaf."""
        self.entry(index)
        with self._database.reading() as session:
            return next(session.entries(index, index + 1)).raw

    @property
    def tree(self) -> LogTree:
        """The Merkle tree of what was read; `refresh` first."""
        return self._tree

    def row(self, table: str, **key: object) -> dict[str, object] | None:
        """A row of a read table: a hint where to look, to be checked against its entry."""
        with self._database.reading() as session:
            return session.row(table, **key)

    # -- writing -----------------------------------------------------------------------------------------------------

    def append(self, events: Sequence[Event], precondition: Callable[[State], None] | None = None) -> list[int]:
        """Writes events, all or none, if the precondition does not raise; returns their indexes."""

        def decide(state: State, _: str) -> Sequence[Event]:
            if precondition is not None:
                precondition(state)
            return events

        return self.transact(decide)

    def transact(self, decide: Decide) -> list[int]:
        """Writes what ``decide`` returns, all or none, and returns the indexes.

        ``decide`` runs inside the locked transaction on the state of that moment; every event is judged there by
        its rule. Nothing is written when either raises.

        Raises:
            Tampered: the log does not extend the newest checkpoint or the signer's mark; writes stop.
            ConcurrentTransition: a constraint of the database says that another was first.
            StorageFailed: the database refused; nothing was half-done.
        """
        self._checkpoints.require_signer()
        with self._lock:
            self.refresh()  # evidence of what others wrote is read and judged before the lock is taken
            before = self._tree.size
            try:
                with self._database.writing() as session:
                    self._catch_up(session, self._checkpoints.claims())
                    before = self._tree.size
                    recorded_at = self._recorded_at()
                    events = decide(self._state, format_utc(recorded_at))
                    added = self._write(session, events, recorded_at)
            except BaseException:
                self._tree.truncate(before)
                self._fold = Fold(self._state)
                raise
            self._keep(added)
            return [entry.index for entry, _ in added]

    def checkpoint(self) -> Checkpoint:
        """Signs and publishes the log's size and root as of now; idempotent for a size."""
        with self._lock:
            state = self.refresh()
            if state.genesis is None:
                raise NotFound("The log has no genesis.", next_step="`mlp init` makes one.")
            made = self._checkpoints.publish(state.genesis.origin, state.size, self._fresh_root_at)
            self._checked.add((made.size, made.root))
            return made

    def _fresh_root_at(self, size: int) -> bytes:
        """The root at a size that another process may have reached and signed since we last read."""
        if size > self._tree.size:
            self.refresh()
        return self._tree.root_at(size)

    def _recorded_at(self) -> datetime:
        now = self._wall.now()
        return max(now, parse_utc(self._state.recorded_at)) if self._state.recorded_at else now

    def _write(self, session: Session, events: Sequence[Event], recorded_at: datetime) -> list[tuple[Entry, bytes]]:
        if not events:
            return []
        fold, projected = self._fold, list[Change]()
        added, rows = list[tuple[Entry, bytes]](), list[StoredEntry]()
        for index, event in enumerate(events, start=self._tree.size):
            entry, raw = encode_entry(event, index=index, recorded_at=recorded_at)
            state, leaf = fold.peek(), leaf_hash(raw)
            check(state, entry, self.judging)
            projected += changes(state, entry)
            fold.add(entry, leaf)
            added.append((entry, leaf))
            rows.append(StoredEntry(index, raw, leaf))
        self._tree.extend(leaf for _, leaf in added)
        frontier = self._tree.frontier()
        session.append(rows, Head(frontier.size, frontier.to_bytes(), frontier.root()))
        session.apply(projected)
        return added

    # -- catching up -------------------------------------------------------------------------------------------------

    def _keep(self, added: Sequence[tuple[Entry, bytes]]) -> None:
        self._state = self._fold.state()
        self._entries += [one for one in added if one[0].kind not in _BULK]

    def _catch_up(self, session: Session, claims: Sequence[Claim]) -> None:
        """Reads what is new, holds it against head and checkpoints, and judges what no checkpoint covers."""
        head, known = session.head(), self._tree.size
        if head.size < known:
            raise rolled_back(known)
        added = list[tuple[Entry, bytes]]()
        try:
            stored = self._read(session, known, head)
            covered = self._covered(stored, claims)
            for one in stored:
                entry = parse_entry(one.raw, one.index)
                if entry.index >= covered:
                    check(self._fold.peek(), entry, self.judging)
                self._fold.add(entry, one.leaf_hash)
                added.append((entry, one.leaf_hash))
        except BaseException:
            self._tree.truncate(known)
            self._fold = Fold(self._state)
            raise
        self._keep(added)

    def _read(self, session: Session, known: int, head: Head) -> list[StoredEntry]:
        stored = list(session.entries(known, head.size))
        for index, one in enumerate(stored, start=known):
            if one.index != index or one.leaf_hash != leaf_hash(one.raw):
                raise _altered(index)
        self._tree.extend(one.leaf_hash for one in stored)
        if self._tree.size != head.size:
            raise _altered(self._tree.size)
        frontier = self._tree.frontier()
        if frontier.to_bytes() != head.frontier or frontier.root() != head.root:
            raise _altered(known, what="An entry")
        return stored

    def _covered(self, stored: Sequence[StoredEntry], claims: Sequence[Claim]) -> int:
        """The size up to which a checkpoint vouches for the log, which must extend all of them."""
        genesis = self._state.genesis
        if genesis is None and not stored:
            if claims:
                raise rolled_back(claims[0].size)
            return 0
        vkey = genesis.log_vkey if genesis else str(parse_entry(stored[0].raw, 0).body.get("log_vkey"))
        covered = 0
        for claim in (one.open(Verifier.parse(vkey)) for one in claims):
            if (claim.size, claim.root) not in self._checked:
                require_extension(claim, self._tree.root_at)
                self._checked.add((claim.size, claim.root))
            covered = max(covered, claim.size)
        return covered


def _altered(index: int, what: str = "Entry") -> Tampered:
    named = f"Entry {index}" if what == "Entry" else f"{what} from {index} on"
    return Tampered(
        f"{named} is missing or is not what the log's hashes say. Nothing is written.",
        field=f"entry {index}",
        next_step="`mlp verify` names the entry; restore the database from a backup.",
    )
