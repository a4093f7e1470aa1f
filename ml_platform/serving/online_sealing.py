"""The sealer: what routers logged becomes rows of the lake and segments of the audit log, exactly once (DECISIONS 33).

One sealer at a time holds the lease. It fixes a plan beside the files that it takes, writes the segments' tables, tiles
and index, enters them in the log, closes writers that are dead, and only then removes files. Killed at any step, the
next one goes on from the plan and makes the same bytes.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol

from ml_platform.core.clock import Clock
from ml_platform.core.delta import Lake
from ml_platform.core.errors import Conflict, PlatformError, StorageFailed, Tampered
from ml_platform.core.objects import ObjectStore
from ml_platform.core.rows import micros
from ml_platform.core.subjects import Subjects
from ml_platform.serving.online_columns import EntityOf
from ml_platform.serving.online_plan import Plan, read_plan
from ml_platform.serving.online_segments import LoggedSegments
from ml_platform.serving.online_tables import write_quarantine
from ml_platform.serving.online_writers import WriterFolder, first_frame, writer_folders
from ml_platform.serving.raw_decision import Contracts
from ml_platform.serving.segment import Segment

__all__ = ["DECLARED_LAG_SECONDS", "EntityLookup", "OnlineSealer", "SealParts", "SealReport", "SealedLog"]

DECLARED_LAG_SECONDS: Final = 60
_LEASE: Final = "seal.lock"
_PLAN_BYTES: Final = 64 * 2**20


class SealedLog(Protocol):
    """The audit log as the sealer needs it; the registry is one."""

    def state(self) -> Any: ...

    def seal_segments(self, segments: Sequence[Mapping[str, Any]]) -> list[int]: ...

    def close_writer(self, writer: str, last_seq: int) -> int | None: ...


class EntityLookup(Protocol):
    """What a model decides about."""

    def __call__(self, model: str) -> EntityOf: ...


@dataclass(frozen=True)
class SealParts:
    """What a sealer reads and writes.

    Args:
        wal: the folder of all write-ahead logs.
        contracts: the contract of a digest.
        entity: what a model decides about.
        wall: the wall's clock: lag is a matter of real time, in a replay root too.
    """

    root_id: str
    wal: Path
    objects: ObjectStore
    lake: Lake
    subjects: Subjects
    log: SealedLog
    contracts: Contracts
    entity: EntityLookup
    wall: Clock


@dataclass
class SealReport:
    """What one pass of a sealer did.

    Attributes:
        late: records sealed later than the declared lag after they were recorded.
        adopted: dead writers whose logs were taken over.
        torn: ``writer/file`` → bytes behind its last whole record, which answered nobody and were cut.
        problems: writers that could not be sealed, each with the error; the others were.
    """

    segments: list[str] = field(default_factory=list)
    records: int = 0
    refused: int = 0
    late: int = 0
    adopted: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    torn: dict[str, int] = field(default_factory=dict)
    problems: dict[str, PlatformError] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def idle(self) -> bool:
        """Whether there was nothing to do."""
        return not (self.records or self.refused or self.closed or self.torn or self.problems)

    def to_json(self) -> dict[str, Any]:
        return {
            "segments": list(self.segments),
            "records": self.records,
            "refused": self.refused,
            "late": self.late,
            "adopted": list(self.adopted),
            "closed": list(self.closed),
            "torn": dict(self.torn),
            "problems": {name: {"what": one.what, "field": one.field} for name, one in self.problems.items()},
            "seconds": self.seconds,
        }


@dataclass
class _Step:
    """A plan whose segments are in the lake and not yet in the log."""

    folder: WriterFolder
    plan: Plan
    logged: LoggedSegments
    segments: list[Segment] = field(default_factory=list)


@dataclass
class OnlineSealer:
    """Seals what closed files of living writers and all files of dead ones hold.

    Args:
        hold_seconds: files of a living writer that together are small wait until the oldest is this old, so that quiet
            models do not become thousands of small segments. 0 seals whatever is closed.
    """

    parts: SealParts
    hold_seconds: float = 0.0

    def run(self, *, wait_seconds: float = 0.0) -> SealReport:
        """One pass: everything that may be sealed now is, unless its writer has a problem.

        Args:
            wait_seconds: how long to wait for another sealer.

        Raises:
            Conflict: another sealer holds the lease.
            StorageFailed: the disk is full or a store cannot be reached; the next pass goes on from what is there.
        """
        report, started = SealReport(), time.monotonic()
        with self._lease(wait_seconds), ExitStack() as locks:
            writers = [(folder, locks.enter_context(folder.adopted())) for folder in writer_folders(self.parts.wal)]
            report.adopted = [folder.writer for folder, dead in writers if dead]
            while self._round([one for one in writers if one[0].writer not in report.problems], report):
                pass
            for folder, dead in writers:
                if dead and folder.writer not in report.problems:
                    self._close(folder, report)
        report.seconds = time.monotonic() - started
        return report

    @contextmanager
    def _lease(self, wait_seconds: float) -> Iterator[None]:
        """The kernel lets go of it when the sealer dies."""
        try:
            self.parts.wal.mkdir(parents=True, exist_ok=True)
            stream = (self.parts.wal / _LEASE).open("a")
        except OSError as error:
            raise StorageFailed(
                f"The folder of the write-ahead logs cannot be used ({error.strerror}).",
                next_step="Mend the folder `wal`, then run it again.",
            ) from error
        with stream:
            until = time.monotonic() + wait_seconds
            while True:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= until:
                        raise Conflict(
                            "Another sealer is at work in this root.",
                            field=_LEASE,
                            next_step="Leave it running: one sealer is enough.",
                        ) from None
                    time.sleep(0.05)
            yield

    def _round(self, writers: Sequence[tuple[WriterFolder, bool]], report: SealReport) -> bool:
        """One plan of each writer; whether there was any."""
        steps: list[_Step] = []
        for folder, dead in writers:
            try:
                step = self._step(folder, dead=dead)
            except StorageFailed:
                raise
            except PlatformError as error:
                report.problems[folder.writer] = error
                continue
            if step is not None:
                steps.append(step)
        self.parts.log.seal_segments([one.sealed_entry() for step in steps for one in step.segments])
        for step in steps:
            self._finish(step, report)
        return bool(steps)

    def _step(self, folder: WriterFolder, *, dead: bool) -> _Step | None:
        """The writer's open plan, or its next one, written to the lake; None where nothing may be taken."""
        plan = self._plan(folder, dead=dead)
        if plan is None:
            return None
        if folder.info().root_id != self.parts.root_id:
            raise Tampered(
                "The writer wrote for another root.", field=folder.writer, next_step="Move its folder to its own root."
            )
        logged = LoggedSegments(
            folder, plan, self.parts.contracts, self.parts.entity(folder.model), self.parts.subjects
        )
        step = _Step(folder, plan, logged)
        for one in logged:
            one.tables(self.parts.lake, self.parts.objects).write(one.rows)
            step.segments.append(one.segment)
        if logged.refusals:
            write_quarantine(self.parts.lake, folder.model, folder.writer, plan.first_frame, logged.refusals)
        return step

    def _plan(self, folder: WriterFolder, *, dead: bool) -> Plan | None:
        before = read_plan(folder.path)
        if before is not None and not before.done:
            return before
        if before is not None:
            _remove(folder, before)  # killed between the log's entry and here
        files = self._takeable(folder, dead=dead)
        if not files:
            return None
        known = self.parts.log.state().writers.get(folder.writer)
        following = first_frame(files[0]) if before is None and known is not None else 0
        first = following if before is None or before.end is None else before.end
        plan = Plan(first, 0 if known is None else known.next_seq, tuple(file.name for file in files))
        plan.write(folder.path)
        return plan

    def _takeable(self, folder: WriterFolder, *, dead: bool) -> list[Path]:
        """Closed files, oldest first, as many as fit a plan; at least one if there is one."""
        files = folder.files() if dead else folder.closed_files()
        found: list[Path] = []
        size = 0
        for file in files:
            size += file.stat().st_size
            if found and size > _PLAN_BYTES:
                break
            found.append(file)
        waits = not dead and found and size < _PLAN_BYTES // 4
        if waits and time.time() - found[0].stat().st_mtime < self.hold_seconds:
            return []
        return found

    def _finish(self, step: _Step, report: SealReport) -> None:
        """What is in the log is not needed any more."""
        folder, plan, logged = step.folder, step.plan, step.logged
        done = replace(plan, end=logged.end)
        done.write(folder.path)
        _remove(folder, done)
        report.segments += [one.id for one in step.segments]
        report.records += sum(one.size for one in step.segments)
        report.refused += len(logged.refusals)
        report.torn.update({f"{folder.writer}/{name}": size for name, size in logged.torn.items()})
        limit = micros(self.parts.wall.now()) - DECLARED_LAG_SECONDS * 1_000_000
        report.late += logged.recorded_before(limit)

    def _close(self, folder: WriterFolder, report: SealReport) -> None:
        """Says that a dead writer's last record is sealed, and removes its folder."""
        if folder.files():
            return
        known = self.parts.log.state().writers.get(folder.writer)
        if known is not None:
            self.parts.log.close_writer(folder.writer, known.next_seq - 1)
        try:
            folder.remove()
        except OSError as error:
            raise _not_removed(folder, error) from error
        report.closed.append(folder.writer)


def _remove(folder: WriterFolder, plan: Plan) -> None:
    try:
        for name in plan.files:
            (folder.path / name).unlink(missing_ok=True)
    except OSError as error:
        raise _not_removed(folder, error) from error


def _not_removed(folder: WriterFolder, error: OSError) -> StorageFailed:
    return StorageFailed(
        f"A sealed log file cannot be removed ({error.strerror}); its records are safe.",
        field=folder.writer,
        next_step="Mend the folder's permissions; the next pass removes it.",
    )
