"""The rules of every entry: judged before it is written, inside the append's lock, and again by ``verify``.

Pure: the state before the entry and the evidence come as arguments. Kinds that are not known cannot be judged; the
fold remembers those that are critical.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final

from ml_platform.core.errors import DeclarationError, Tampered
from ml_platform.registry.alerts import check_acknowledged, check_closed_alert, check_raised
from ml_platform.registry.approvals import check_approval
from ml_platform.registry.authority import (
    check_approval_revoked,
    check_first,
    check_key_added,
    check_key_revoked,
    check_new_policy,
)
from ml_platform.registry.candidates import check_evaluated, check_registered, check_requested
from ml_platform.registry.events import Entry
from ml_platform.registry.judging import Judging
from ml_platform.registry.retrains import (
    check_retrain_decided,
    check_retrain_finished,
    check_retrain_merged,
    check_retrain_requested,
    check_retrain_started,
)
from ml_platform.registry.reversals import check_reversed
from ml_platform.registry.routes import MAX_FLIP_LAG, check_applied, check_decided, check_flipped
from ml_platform.registry.segments import check_closed, check_sealed
from ml_platform.registry.state import State
from ml_platform.registry.transitions import check_intended, check_transition

__all__ = ["check"]

_RULES: Final[Mapping[str, Callable[[State, Entry, Judging], None]]] = {
    "genesis": check_first,
    "key_added": check_key_added,
    "key_revoked": check_key_revoked,
    "policy": check_new_policy,
    "candidate_requested": check_requested,
    "candidate_evaluated": check_evaluated,
    "registered": check_registered,
    "approval_given": check_approval,
    "approval_revoked": check_approval_revoked,
    "transition_intended": check_intended,
    "transition": check_transition,
    "segments_sealed": check_sealed,
    "writer_closed": check_closed,
    "transition_reversed": check_reversed,
    "route_applied": check_applied,
    "route_flipped": check_flipped,
    "rollout_decided": check_decided,
    "alert_raised": check_raised,
    "alert_acknowledged": check_acknowledged,
    "alert_closed": check_closed_alert,
    "retrain_requested": check_retrain_requested,
    "retrain_merged": check_retrain_merged,
    "retrain_decided": check_retrain_decided,
    "retrain_started": check_retrain_started,
    "retrain_finished": check_retrain_finished,
}
# Kinds that may have taken effect before they were recorded, in a wall root too, and by how much.
_LATE: Final[Mapping[str, timedelta]] = {"route_flipped": MAX_FLIP_LAG}


def check(state: State, entry: Entry, judging: Judging) -> None:
    """Raises a `PlatformError` when the entry may not follow this state."""
    if state.genesis is None and entry.kind != "genesis":
        raise DeclarationError("The log has no genesis.", field="genesis", next_step="`mlp init` makes one.")
    _check_times(state, entry)
    rule = _RULES.get(entry.kind)
    if rule is not None:
        rule(state, entry, judging)


def _check_times(state: State, entry: Entry) -> None:
    """Log order is time order; beside listed kinds, only a replay root records what took effect at another time."""
    if entry.recorded_at < state.recorded_at:
        raise Tampered(
            f"Entry {entry.index} was recorded before the one that it follows.",
            field="recorded_at",
            next_step="Compare the log with a copy, or with an older checkpoint.",
        )
    replay = entry.body.get("root_kind") == "replay" if state.genesis is None else state.genesis.replay
    if not entry.known or entry.effective_at == entry.recorded_at or replay:
        return
    lag = _LATE.get(entry.kind)
    if lag is None:
        raise DeclarationError(
            "In a wall root this kind of entry takes effect when it is recorded.",
            field="effective_at",
            next_step="Leave effective_at out.",
        )
    if not timedelta(0) <= entry.recorded - entry.effective <= lag:
        raise DeclarationError(
            f"This kind of entry may be recorded at most {lag.days} days after it took effect, never before.",
            field="effective_at",
            next_step="Enter it sooner, or with a later time; its document says when it was made.",
        )
