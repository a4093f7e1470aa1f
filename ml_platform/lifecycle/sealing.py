"""Sealing: what routers and streams recorded goes into the lake and the audit log, once, or again and again."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

from ml_platform.core.errors import Conflict, Refused, StorageFailed
from ml_platform.governance.contracts import KnownContracts, known_entity
from ml_platform.lifecycle.routing import announce_routes, enter_pending_flips
from ml_platform.lifecycle.streaming import pull_records
from ml_platform.platform import Platform
from ml_platform.serving.online_sealing import OnlineSealer, SealParts, SealReport
from ml_platform.serving.online_writers import complete_now
from ml_platform.serving.wal import WAL_FOLDER

__all__ = ["HOLD_SECONDS", "SealReport", "seal_follow", "seal_once"]

_COMPLETE_SECONDS = 3.0
HOLD_SECONDS = 20.0  # of the 60 within which a record is sealed: few files become one segment


def seal_once(platform: Platform, *, wait_seconds: float = 30.0, now: bool = False) -> SealReport:
    """Seals everything that is closed: finished files of living writers, all files of dead ones.

    Args:
        platform: the root.
        now: ask living writers to finish their newest files first, and wait for that a few seconds.
        wait_seconds: how long to wait while another sealer is at work.

    Raises:
        Conflict: another sealer is still at work.
        StorageFailed: the disk is full or a store cannot be reached; the next call goes on from what is there.
        Refused: everything is sealed, and the log does not allow what a local rollback did; the flip stands.
    """
    if now:
        complete_now(platform.root / WAL_FOLDER, _COMPLETE_SECONDS)
    pulled = pull_records(platform)
    report = _sealer(platform, 0.0).run(wait_seconds=wait_seconds)
    report.problems.update(pulled.problems)
    enter_pending_flips(platform)  # made while the registry was away; a sealer is the process that is always there
    return report


def seal_follow(
    platform: Platform,
    *,
    every_seconds: float,
    stop: Event,
    said: Callable[[SealReport], None],
    failed: Callable[[StorageFailed | Conflict | Refused], None],
) -> None:
    """Seals again and again until ``stop`` is set; a pass that has begun is finished.

    Args:
        platform: the root.
        every_seconds: pause between two passes.
        stop: set by whoever ends it.
        said: told of every pass that found something.
        failed: told of a pass that could not work: the disk is full, another sealer holds the lease, or the log does
            not allow what a local rollback did. It is tried again.
    """
    sealer = _sealer(platform, min(HOLD_SECONDS, every_seconds * 4))
    while not stop.is_set():
        try:
            pulled = pull_records(platform)
            report = sealer.run()
            report.problems.update(pulled.problems)
            announce_routes(platform)
            enter_pending_flips(platform)
        except (StorageFailed, Conflict, Refused) as error:
            failed(error)
        else:
            if not report.idle:
                said(report)
        stop.wait(every_seconds)


def _sealer(platform: Platform, hold_seconds: float) -> OnlineSealer:
    parts = SealParts(
        root_id=platform.root_id,
        wal=platform.root / WAL_FOLDER,
        objects=platform.objects,
        lake=platform.lake,
        subjects=platform.subjects,
        log=platform.registry,
        contracts=KnownContracts(platform),
        entity=lambda model: known_entity(platform, model),
        wall=platform.wall,
    )
    return OnlineSealer(parts, hold_seconds)
