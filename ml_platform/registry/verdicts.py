"""Which gates that did not pass a person may decide, and the error that names those where nobody may. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ml_platform.core.errors import GateFailed
from ml_platform.registry.gates import GateVerdict
from ml_platform.registry.policy import risk_rules

__all__ = ["open_verdicts"]


def open_verdicts(
    policy: Mapping[str, Any], risk_class: str, verdicts: Iterable[GateVerdict], *, model: str, candidate: str
) -> tuple[GateVerdict, ...]:
    """The gates that did not pass and that a person may decide.

    Args:
        policy: the policy in force.
        risk_class: of the version or candidate.
        verdicts: recomputed.
        model: whose verdicts these are, for the error's next step.
        candidate: its key.

    Raises:
        GateFailed: a gate failed, or is inconclusive or not evaluated where nobody may decide. It names every gate
            that did not pass; its field is the first that refuses.
    """
    rules = risk_rules(policy, risk_class)
    asked: list[GateVerdict] = []
    refused: list[GateVerdict] = []
    for one in verdicts:
        if one.verdict == "pass":
            continue
        asks = one.verdict == "inconclusive" and one.on_inconclusive == "ask" and one.kind in rules["may_ask"]
        unavailable = one.kind in rules["may_be_unavailable"] and one.explained
        lacks_data = one.verdict == "not_evaluated" and unavailable
        (asked if asks or lacks_data else refused).append(one)
    if refused:
        raise _gates_failed(refused, asked, model, candidate)
    return tuple(asked)


def _gates_failed(
    refused: Sequence[GateVerdict], asked: Sequence[GateVerdict], model: str, candidate: str
) -> GateFailed:
    named = [f"{one.gate} {one.verdict}" for one in refused]
    named += [f"{one.gate} {one.verdict} (a person might decide)" for one in asked]
    return GateFailed(
        f"Not passed, recomputed from the stored evaluation table: {', '.join(named)}.",
        field=f"gates.{refused[0].gate}",
        next_step=f"`mlp show {model} --candidate {candidate}` shows numbers and reasons; then train another one.",
    )
