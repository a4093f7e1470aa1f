"""``verify``: the whole log judged again from nothing, as an auditor would.

Checked are: genesis and keys; that every entry's bytes are the RFC 8785 form of what they say; every rule of every
entry, signatures and recomputed verdicts included; head and checkpoints; read tables = fold; that evidence is there
with its digest; sequences of writers. The first bad entry is named, with what was expected.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ml_platform.core.errors import NotFound, PlatformError, StorageFailed, Tampered
from ml_platform.core.merkle import leaf_hash
from ml_platform.registry.bodies import EVIDENCE
from ml_platform.registry.checkpoints import Checkpoints
from ml_platform.registry.events import Entry, parse_entry
from ml_platform.registry.evidence import Evidence
from ml_platform.registry.fold import Fold
from ml_platform.registry.judging import Judging
from ml_platform.registry.kinds import KINDS
from ml_platform.registry.notes import Verifier, open_checkpoint
from ml_platform.registry.projection import KEYS, changes, replay
from ml_platform.registry.report import Grade, Problem, Report
from ml_platform.registry.rules import check
from ml_platform.registry.sql import Database, Session, StoredEntry
from ml_platform.registry.state import State
from ml_platform.registry.tree import LogTree

__all__ = ["verify_log"]


def verify_log(
    database: Database,
    evidence: Evidence,
    checkpoints: Checkpoints,
    *,
    since: bytes | None = None,
    genesis: str | None = None,
) -> Report:
    """Judges the whole log again.

    Args:
        database: the log.
        evidence: its object store.
        checkpoints: its published checkpoints.
        since: the signed note of an older checkpoint, from whoever kept it.
        genesis: the platform's identity as it is known elsewhere, ``sha256:…``.
    """
    work = _Verification(evidence.fresh(), checkpoints, checkpoints.sizes())
    try:
        with database.reading() as session:
            work.entries(session)
            if work.sound:
                work.head(session)
                work.tables(session)
        if work.sound:
            work.all_checkpoints()
            work.pins(since, genesis)
    except Tampered as error:
        work.problem("tampered", None, error.what, error.next_step)
    return work.report(since)


@dataclass
class _Verification:
    evidence: Evidence
    checkpoints: Checkpoints
    sizes: list[int]  # listed before the log is read, since a live writer publishes after it commits
    tree: LogTree = field(default_factory=LogTree)
    fold: Fold = field(default_factory=Fold)
    read_tables: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    since_size: int | None = None

    @property
    def state(self) -> State:
        return self.fold.peek()

    @property
    def sound(self) -> bool:
        return all(problem.grade != "tampered" for problem in self.problems)

    def problem(self, grade: Grade, entry: int | None, what: str, expected: str) -> None:
        self.problems.append(Problem(grade, entry, what, expected))

    # -- the log itself ----------------------------------------------------------------------------------------------

    def entries(self, session: Session) -> None:
        judging = Judging(self.evidence, self.tree.root_at)
        marks = _Marks(self)
        for index, stored in enumerate(session.entries(0)):
            if not self._same_bytes(index, stored):
                return
            try:
                entry = parse_entry(stored.raw, index)
            except Tampered as error:
                self.problem("tampered", index, error.what, "the RFC 8785 bytes of an entry")
                return
            state = self.state
            if not self._judged(state, entry, judging):
                return
            for change in changes(state, entry):
                replay(self.read_tables, change)
            self.fold.add(entry, stored.leaf_hash)
            self.tree.extend((stored.leaf_hash,))
            if not marks.passed():
                return

    def _same_bytes(self, index: int, stored: StoredEntry) -> bool:
        if stored.index != index:
            self.problem("tampered", index, f"Entry {index} is missing.", f"entry {index} before {stored.index}")
        elif leaf_hash(stored.raw) != stored.leaf_hash:
            expected = f"bytes with the leaf hash {stored.leaf_hash.hex()}"
            self.problem("tampered", index, f"The bytes of entry {index} were changed.", expected)
        return self.sound

    def _judged(self, state: State, entry: Entry, judging: Judging) -> bool:
        try:
            for digest in _evidence_of(entry):
                self.evidence.read(digest)
            check(state, entry, judging)
        except NotFound as error:
            grade: Grade = "incomplete" if error.field == "evidence" else "tampered"
            self.problem(grade, entry.index, error.what, f"what {entry.kind} of entry {entry.index} needs")
        except StorageFailed:
            raise
        except PlatformError as error:
            self.problem("tampered", entry.index, f"{entry.kind}: {error.what}", f"a legal {entry.kind}")
        return self.sound

    def head(self, session: Session) -> None:
        """The head row says what the entries give."""
        head, frontier = session.head(), self.tree.frontier()
        if head.size != self.tree.size:
            first = min(head.size, self.tree.size)
            self.problem("tampered", first, f"The log has {self.tree.size} entries.", f"{head.size}, as its head says")
        elif (head.frontier, head.root) != (frontier.to_bytes(), frontier.root()):
            self.problem("tampered", None, "The head's root is not that of the entries.", frontier.root().hex())

    def tables(self, session: Session) -> None:
        """The read tables hold what the fold gives."""
        for table, key in KEYS.items():
            expected = self.read_tables.get(table, {})
            found = {tuple(row[name] for name in key): row for row in session.rows(table)}
            for place in sorted(found.keys() | expected.keys(), key=str):
                if found.get(place) != expected.get(place):
                    source = expected.get(place) or found[place]
                    what = f"The read table {table} differs from the log."
                    self.problem("tampered", source.get("entry"), what, "rows as the entries give them")
                    return

    # -- what others hold against it ---------------------------------------------------------------------------------

    def all_checkpoints(self) -> None:
        """No checkpoint is ahead of the log (those within it were compared on the way)."""
        for size in self.sizes:
            if size > self.tree.size:
                what = f"The log has {self.tree.size} entries: it was truncated or rolled back."
                self.problem("tampered", self.tree.size, what, f"{size}, as a signed checkpoint says")
                return

    def pins(self, since: bytes | None, genesis: str | None) -> None:
        """Identity and older checkpoint as known outside."""
        known = self.state.genesis
        if genesis is not None and (known is None or known.platform != genesis):
            self.problem("tampered", 0, "This log has another genesis.", genesis)
        if known is None:
            if since is not None:
                self.problem("tampered", 0, "The log is empty.", "the log of the checkpoint")
            return
        if since is not None:
            self._extends(since, known.log_vkey)
        quorum = known.body["witnesses"]["quorum"]
        if quorum:  # cosignatures come with the witnesses' issue; until then none can be shown
            self.problem("unwitnessed", None, "No witness has cosigned.", f"{quorum} cosignatures")

    def _extends(self, since: bytes, vkey: str) -> None:
        older = open_checkpoint(since, [Verifier.parse(vkey)])
        self.since_size = older.size
        if older.size > self.tree.size or self.tree.root_at(older.size) != older.root:
            what = f"The log does not extend the checkpoint of {older.size} entries."
            self.problem("tampered", None, what, f"root {older.root.hex()} at that size")

    def report(self, since: bytes | None) -> Report:
        state = self.fold.state()
        return Report(
            size=self.tree.size,
            root="sha256:" + self.tree.root_at(self.tree.size).hex(),
            genesis=state.genesis.platform if state.genesis else None,
            checkpoints=len(self.sizes),
            since=self.since_size if since is not None else None,
            problems=tuple(self.problems),
            open_writers=tuple(sorted(name for name, writer in state.writers.items() if not writer.closed)),
        )


class _Marks:
    """The published checkpoints, each compared when the log has grown to its size."""

    def __init__(self, work: _Verification) -> None:
        self._work = work
        self._sizes = [size for size in work.sizes if size > 0][::-1]
        self._good = 0

    def passed(self) -> bool:
        work, size = self._work, self._work.tree.size
        if not self._sizes or self._sizes[-1] != size:
            return True
        self._sizes.pop()
        genesis = work.state.genesis
        vkey = genesis.log_vkey if genesis else ""
        if work.checkpoints.read(size, Verifier.parse(vkey)).root != work.tree.root_at(size):
            what = f"An entry from {self._good} to {size - 1} is not the one that was signed."
            work.problem("tampered", self._good, what, f"the root of the checkpoint of {size} entries")
            return False
        self._good = size
        return True


def _evidence_of(entry: Entry) -> Iterator[str]:
    """The digests of objects that an entry names."""
    kind = KINDS.get(entry.kind)
    for name, check_ in kind.fields.items() if kind else ():
        if check_ is EVIDENCE:
            yield entry.body[name]
    if kind is not None and "signatures" in kind.fields:
        for one in entry.body["signatures"]:
            yield one["signature"]
    if kind is not None and "approvals" in kind.fields:
        yield from entry.body["approvals"]
