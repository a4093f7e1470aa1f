"""The loop in one step each: what a watcher runs when a window is over, and which windows those are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from ml_platform.core.errors import Conflict, NotEnoughData
from ml_platform.lifecycle.alerting import deliver_notices
from ml_platform.lifecycle.monitoring import DriftResult, drift_report
from ml_platform.lifecycle.requesting import read_candidate
from ml_platform.lifecycle.retraining import RetrainAsked, watch_retrains
from ml_platform.lifecycle.watching import WatchResult, matured_window, watch
from ml_platform.lifecycle.window_records import monitored_window, window_before
from ml_platform.model import Model
from ml_platform.monitoring.retrain import freshness_due
from ml_platform.platform import Platform

__all__ = ["Monitored", "finished_windows", "is_stale", "mature_window", "monitor_window"]

MOST_WINDOWS: Final = 12  # that one look catches up on


@dataclass(frozen=True)
class Monitored:
    """A window that was judged: its drift (None where nothing was decided in it), alerts, and what was asked for.

    ``told``: by route of the settings, whether its notices went out; what did not goes with the next window.
    """

    model: str
    window: str
    drift: DriftResult | None
    watched: WatchResult
    asked: tuple[RetrainAsked, ...]
    told: Mapping[str, bool] = field(default_factory=dict, hash=False)

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "window": self.window,
            "drift": None if self.drift is None else self.drift.to_json(),
            "alerts": self.watched.to_json(),
            "retrain": [one.to_json() for one in self.asked],
            "told": dict(self.told),
        }


def monitor_window(platform: Platform, model: Model, window: str) -> Monitored:
    """Measures a window's drift, raises and closes alerts, and asks for a retrain where they say so. Idempotent.

    Raises:
        DataError: the window is neither a month nor a day.
        NotFound: the log knows no such model.
    """
    watched = watch(platform, model, window)
    asked = watch_retrains(platform, model)
    try:
        drift = drift_report(platform, model, window)
    except NotEnoughData:
        drift = None
    return Monitored(model.name, window, drift, watched, tuple(asked), _told(platform))


def _told(platform: Platform) -> dict[str, bool]:
    """Sends what the declared routes have not sent; a run may wait for that, a tick may not."""
    if not platform.settings.alerts:
        return {}
    try:
        return {one.route: one.failed is None for one in deliver_notices(platform)}
    except Conflict:
        return {}  # another run is at it


def finished_windows(platform: Platform, after: str | None, now: datetime) -> list[str]:
    """The windows that are over at ``now`` and come after one that was judged; the newest only, without one.

    Months in a replay root, whose clock goes in steps; days in a wall root.

    Args:
        platform: the root.
        after: a window of the same kind.
        now: aware.
    """
    form = "%Y-%m" if platform.settings.kind == "replay" else "%Y-%m-%d"
    newest = window_before(monitored_window(now.strftime(form)))
    found = [newest]
    while after is not None and len(found) < MOST_WINDOWS and found[-1].partition > after:
        found.append(window_before(found[-1]))
    names = [one.partition for one in reversed(found)]
    return [name for name in names if after is None or name >= after]


def is_stale(platform: Platform, model: Model) -> bool:
    """Whether the newest version is past the declared freshness, and no retrain is open that would mend it.

    The newest, not the one in production: a version that waits for approval is not trained a second time.
    """
    known = platform.registry.state().models.get(model.name)
    if known is None or known.production is None or known.open_retrain is not None:
        return False
    candidate = read_candidate(platform, model.name, known.version(max(known.versions)).candidate)
    due = freshness_due(candidate.as_of, model.monitor.freshness)
    return due is not None and due <= platform.clock.now()


def mature_window(platform: Platform, model: Model, after: str | None) -> str | None:
    """The newest finished window whose labels are all mature now, if it comes after one that was measured."""
    now = platform.clock.now()
    newest = monitored_window(finished_windows(platform, None, now)[-1])
    found = matured_window(model, newest, now)
    return None if found is None or (after is not None and found.partition <= after) else found.partition
