"""Reversals: a promotion whose route could not be set is undone, as if it had not been. Pure."""

from __future__ import annotations

from ml_platform.core.errors import Conflict, IllegalTransition
from ml_platform.registry.events import Entry
from ml_platform.registry.judging import Judging
from ml_platform.registry.state import ModelState, State

__all__ = ["check_reversed", "reversible"]


def check_reversed(state: State, entry: Entry, _: Judging) -> None:
    """Only the newest transition of a model is reversed, only a promotion, and only while no route rests on it.

    Raises:
        Conflict: another transition was written since, or a route rests on it.
        IllegalTransition: it was no promotion, or the entry says something else than it.
    """
    body = entry.body
    undone = reversible(state.model(str(entry.model)), body["transition"])
    if undone != (body["version"], body["from"], body["to"], body["restored"]):
        raise IllegalTransition(
            "The reversal is not that of the transition which it names.",
            field="transition",
            next_step="Reverse the newest transition.",
        )


def reversible(model: ModelState, transition: int) -> tuple[int, str, str, int | None]:
    """What a reversal of a transition says: (version, from, to, version that gets its place back).

    Raises:
        Conflict: it is not the newest transition of the model, or a route rests on it.
        IllegalTransition: it was no promotion.
    """
    if transition != model.last_transition or (model.route is not None and model.route.transition == transition):
        raise Conflict(
            "Another transition was written since, or a route rests on this one.",
            field="transition",
            next_step="Roll back instead.",
        )
    for version in model.versions.values():
        for move in version.history:
            if move.index == transition and move.action == "promote" and move.to != "archived":
                restored = [
                    other.number
                    for other in model.versions.values()
                    if any(one.index == transition for one in other.history) and other is not version
                ]
                return version.number, move.to, move.source, restored[0] if restored else None
    raise IllegalTransition(
        "Only a promotion is reversed.", field="transition", next_step="Move the version as the table allows."
    )
