"""Gates as asset checks of ``evaluation``: the display. The registry is the lock: it judges again before it writes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import dagster as dg

from ml_platform.model import Model
from ml_platform.orchestration.keys import model_key
from ml_platform.orchestration.metadata import Metadata, metadata_value
from ml_platform.training import ONNX_PARITY, Verdict

__all__ = ["check_name", "check_result", "check_results", "gate_specs"]

_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_]+")


def check_name(gate: str) -> str:
    """A gate's name as Dagster takes it: letters, digits and underscores."""
    return _NOT_IN_NAMES.sub("_", gate).strip("_")


def gate_specs(model: Model) -> list[dg.AssetCheckSpec]:
    """A blocking check a gate, ``onnx_parity`` included, which nobody declares and every candidate must pass."""
    key = model_key(model.name, "evaluation")
    return [
        dg.AssetCheckSpec(
            check_name(gate.name),
            asset=key,
            blocking=True,
            description=gate.describe(),
            metadata={"ml/gate": gate.spec()},
        )
        for gate in (*model.gates, ONNX_PARITY)
    ]


def check_results(
    model: Model, verdicts: Iterable[Verdict], unavailable: Mapping[str, str]
) -> list[dg.AssetCheckResult]:
    """One result a gate. ``unavailable``: protected attributes without data here, with the written reason."""
    key = model_key(model.name, "evaluation")
    excused = {gate.name for gate in model.gates if gate.by in unavailable}
    return [check_result(key, verdict, excused=verdict.gate in excused) for verdict in verdicts]


def check_result(key: dg.AssetKey, verdict: Verdict, *, excused: bool) -> dg.AssetCheckResult:
    """A verdict as Dagster shows it; red exactly where the registry would refuse.

    Only *pass* is green. *fail*, *inconclusive* where nobody may decide and *not evaluated* without a written reason
    are errors and block. *inconclusive* where the gate asks a person, and *not evaluated* where the root's settings say
    why there is no data, are warnings: they never block, and whoever approves must decide them in writing.
    """
    asks = verdict.verdict == "inconclusive" and verdict.on_inconclusive == "ask"
    open_to_people = asks or (verdict.verdict == "not_evaluated" and excused)
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=check_name(verdict.gate),
        passed=verdict.verdict == "pass",
        severity=dg.AssetCheckSeverity.WARN if open_to_people else dg.AssetCheckSeverity.ERROR,
        description=f"{verdict.verdict.replace('_', ' ').capitalize()}. {verdict.reason}",
        metadata=_facts(verdict),
    )


def _facts(verdict: Verdict) -> Metadata:
    facts: dict[str, Any] = {
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "threshold": verdict.threshold,
        "on_inconclusive": verdict.on_inconclusive,
        "also": {name: interval.to_json() for name, interval in verdict.also.items()} or None,
    }
    if verdict.metric is not None:
        bounds = verdict.metric
        facts |= {"point": bounds.point, "low": bounds.low, "high": bounds.high, "interval": bounds.to_json()}
    return {f"ml/{name}": metadata_value(value) for name, value in facts.items() if value is not None}
