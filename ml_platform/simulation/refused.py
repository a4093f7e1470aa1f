"""Two declarations that must not pass: one that the declaration itself refuses, one that its fairness gate stops."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ml_platform.core.contract import Contract
from ml_platform.core.fields import category
from ml_platform.datasets import Label
from ml_platform.features import RequestView, SameAsEvent, Source
from ml_platform.model import Model
from ml_platform.simulation.market import PROXY_STATES
from ml_platform.training import Decline, Function, LightGBM, RunContext, TrainingData
from ml_platform.training.onnx_surcharge import with_surcharge

__all__ = ["claimed_label", "label_without_known_time", "surcharge_by_state"]

CHARGED: Final = "lives_in_charged_state"
SURCHARGE: Final = 0.03


def label_without_known_time(model: Model) -> Label:
    """The model's label over outcomes that do not say when they were known.

    Raises:
        DeclarationError: always: training would use outcomes from the future.
    """
    return _relabelled(model, Source(known_time=None, **_outcome(model)))


def claimed_label(model: Model, reason: str) -> Label:
    """The same with a written claim that outcomes are known when they happen; the reason lands in the record."""
    return _relabelled(model, Source(known_time=SameAsEvent(reason), **_outcome(model)))


def _outcome(model: Model) -> dict[str, Any]:
    outcome = model.label.outcome
    return {
        "name": outcome.name,
        "columns": dict(outcome.columns),
        "keys": outcome.keys,
        "event_time": outcome.event_time,
    }


def _relabelled(model: Model, outcome: Source) -> Label:
    label = model.label
    return Label(label.rows, outcome, label.column, horizon=label.horizon, kind=label.kind, lag=label.lag)


def surcharge_by_state(model: Model) -> Model:
    """The model with a hand-made surcharge for some states: no protected attribute in it, and one behind it.

    In the simulated market those states are where one group of applicants lives, and they say nothing about default.
    """
    request = model.request
    states = " or ".join(f"addr_state = '{state}'" for state in sorted(PROXY_STATES))
    by_state = RequestView(
        "application_by_state",
        entity=request.entity,
        source=request.source,
        time=request.time,
        columns=(*request.columns, category("addr_state", on_unknown="flag")),
        derived={**request.derived, CHARGED: f"case when {states} then 1 else 0 end"},
    )
    label = Label(
        by_state,
        model.label.outcome,
        model.label.column,
        horizon=model.label.horizon,
        kind=model.label.kind,
        lag=model.label.lag,
    )
    names = [item.name for item in by_state.features]
    reasons = {name: model.decline.reasons.get(name, "Where the applicant lives") for name in names}
    return replace(
        model,
        name=f"{model.name}_by_state",
        features=[by_state],
        label=label,
        trainer=Function("surcharge_by_state", train_charged, predict_charged, export_charged, bit_identical=True),
        decision=Decline(above=model.decline.above, reasons=reasons),
        description="Must not pass: its approval rates differ between groups.",
    )


def _base() -> LightGBM:
    return LightGBM(objective="binary", num_leaves=7, learning_rate=0.03, rounds=120, min_data_in_leaf=50)


def train_charged(data: TrainingData, run: RunContext) -> bytes:
    """The trained model's text, behind the index of the feature that is charged for."""
    return data.feature_names.index(CHARGED).to_bytes(2, "big") + _base().fit(data, run)


def predict_charged(native: bytes, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The model's probability with the surcharge."""
    charged = matrix[:, int.from_bytes(native[:2], "big")].astype(np.float64)
    scores: npt.NDArray[np.float64] = np.minimum(1.0, _base().predict(native[2:], matrix) + SURCHARGE * charged)
    return scores


def export_charged(native: bytes, contract: Contract) -> bytes:
    """The same as ONNX."""
    return with_surcharge(_base().to_onnx(native[2:], contract), int.from_bytes(native[:2], "big"), SURCHARGE)
