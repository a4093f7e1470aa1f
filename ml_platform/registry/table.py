"""The table of legal moves between stages; ``docs/registry.md`` shows the same one, and a test compares them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ml_platform.core.errors import IllegalTransition

__all__ = ["ACTIONS", "SINGLE", "STAGES", "TRANSITIONS", "Rule", "rule_for"]

STAGES: Final = ("trained", "staging", "canary", "production", "archived")
SINGLE: Final = ("staging", "canary", "production")  # held by one version at a time


@dataclass(frozen=True, slots=True)
class Rule:
    """One legal move.

    Args:
        action: its name.
        source: the stage before.
        to: the stage after.
        checked: gates, policy and a fresh baseline are required.
        approvals: signed approvals are required.
        earlier: the version must have held production, under approvals that were not withdrawn.
    """

    action: str
    source: str
    to: str
    checked: bool = False
    approvals: bool = False
    earlier: bool = False


TRANSITIONS: Final = (
    Rule("stage", "trained", "staging"),
    Rule("stage", "archived", "staging"),
    Rule("promote", "staging", "canary", checked=True, approvals=True),
    Rule("promote", "canary", "production", checked=True, approvals=True),
    Rule("rollback", "archived", "production", earlier=True),
    Rule("restore", "archived", "production", earlier=True),
    Rule("archive", "trained", "archived"),
    Rule("archive", "staging", "archived"),
    Rule("archive", "canary", "archived"),
)
ACTIONS: Final = ("stage", "promote", "rollback", "restore", "archive")


def rule_for(action: str, source: str, to: str) -> Rule:
    """The rule of a move.

    Raises:
        IllegalTransition: there is no such move; names those that there are.
    """
    for rule in TRANSITIONS:
        if (rule.action, rule.source, rule.to) == (action, source, to):
            return rule
    legal = [f"{rule.action} to {rule.to}" for rule in TRANSITIONS if rule.source == source]
    raise IllegalTransition(
        f"There is no {action} from {source} to {to}.",
        field="to",
        next_step=f"From {source}: {', '.join(legal) or 'only rollback or promotion of another version'}.",
    )
