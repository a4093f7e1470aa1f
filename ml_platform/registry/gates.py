"""Gates as the registry sees them: recomputed from the stored table, compared with the policy's minimum.

The one place where this package meets `ml_platform.training.gates`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ml_platform.core.errors import DeclarationError
from ml_platform.registry.bodies import IDENTIFIER

__all__ = ["GateVerdict", "covers", "gate_kind", "gate_name", "on_inconclusive", "recompute"]


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """What a gate says, and whether a person may decide where it says nothing.

    Args:
        gate: the gate's name.
        kind: the gate's kind, by which the policy speaks of it.
        verdict: ``pass``, ``fail``, ``inconclusive`` or ``not_evaluated``.
        on_inconclusive: ``refuse`` or ``ask``.
        explained: whether the evaluation says why there is no data, where it was not evaluated.
    """

    gate: str
    kind: str
    verdict: str
    on_inconclusive: str
    explained: bool = False


def gate_kind(spec: Mapping[str, Any]) -> str:
    """The kind of a gate specification; raises `DeclarationError` when it has none."""
    return _text(spec, "kind")


def gate_name(spec: Mapping[str, Any]) -> str:
    """The name of a gate specification."""
    return _text(spec, "name")


def on_inconclusive(spec: Mapping[str, Any]) -> str:
    """``refuse`` (the default) or ``ask``."""
    return str(spec.get("on_inconclusive", "refuse"))


def _text(spec: Mapping[str, Any], field: str) -> str:
    value = spec.get(field)
    if not IDENTIFIER.holds(value):
        raise DeclarationError(
            "A gate specification has no such field.", field=f"gates.{field}", next_step="Use Gate.spec()."
        )
    return str(value)


def covers(declared: Mapping[str, Any], minimum: Mapping[str, Any]) -> bool:
    """Whether a declared gate is at least as strict as the policy's; `DeclarationError` when one is no gate."""
    from ml_platform.training.gates import Gate, stricter_or_equal

    return stricter_or_equal(Gate.from_spec(declared), Gate.from_spec(minimum))


def recompute(spec: Mapping[str, Any], evaluation: Mapping[str, Any], table: bytes) -> tuple[GateVerdict, ...]:
    """The verdicts of all declared gates from the evaluation's stored table, never from what it claims.

    Raises:
        Tampered: table and evaluation do not fit together.
    """
    from ml_platform.training.evaluation import recompute_verdicts

    attributes = {str(gate.get("name")): gate.get("by") for gate in spec.get("gates", ())}
    judged = recompute_verdicts(spec, evaluation, table)
    unavailable = evaluation["context"]["unavailable"]
    return tuple(
        GateVerdict(
            gate=one.gate,
            kind=one.kind,
            verdict=one.verdict,
            on_inconclusive=one.on_inconclusive,
            explained=attributes.get(one.gate) in unavailable,
        )
        for one in judged
    )
