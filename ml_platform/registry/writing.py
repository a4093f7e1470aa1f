"""What every writing part of the registry shares: the log, its clocks, and one way to append."""

from __future__ import annotations

from datetime import datetime

from ml_platform.core.clock import Clock
from ml_platform.registry.evidence import Evidence
from ml_platform.registry.log import Decide, EventLog
from ml_platform.registry.state import State

__all__ = ["Writing"]


class Writing:
    """The base of `Registry` and its parts."""

    _log: EventLog
    _clock: Clock
    _wall: Clock

    @property
    def _evidence(self) -> Evidence:
        return self._log.judging.evidence

    def _effective_now(self, state: State) -> datetime | None:
        """The platform's time in a replay root; None (when it is recorded) in a wall root."""
        return self._clock.now() if state.genesis is not None and state.genesis.replay else None

    def _write(self, decide: Decide, *, publish: bool = True) -> list[int]:
        """Appends, and publishes a checkpoint of what others rely on; also where an earlier run died before it did."""
        indexes = self._log.transact(decide)
        if publish:
            self._log.checkpoint()
        return indexes

    def _once(self, decide: Decide, done: list[int], *, publish: bool) -> int:
        """The index of what ``decide`` writes, or the one that it put into ``done`` because it was written before."""
        made = self._write(decide, publish=publish)
        return made[0] if made else done[0]
