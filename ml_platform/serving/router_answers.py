"""What a router gives back for one request: an answer, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ml_platform.core.contract import Refusal
from ml_platform.core.errors import PlatformError

__all__ = ["Answer", "Rejection", "joined", "refused", "unavailable"]


@dataclass(slots=True)
class Answer:
    """The decisions about the rows of a request, each in the log before this is given out.

    Attributes:
        outputs: named outputs, float32 [rows, 1].
        decisions: None for a model that only scores.
        versions: which version decided each row.
        prediction_ids: 36 characters each.
        reasons: of adverse decisions, the strongest first.
        epoch: of the route.
    """

    outputs: dict[str, npt.NDArray[np.float32]]
    decisions: list[str | None]
    versions: list[int]
    prediction_ids: list[str]
    reasons: list[tuple[str, ...]]
    epoch: int


@dataclass(frozen=True, slots=True)
class Rejection:
    """A request without an answer; nothing of it was decided.

    Attributes:
        unavailable: True where the platform is at fault and the same request may succeed later (HTTP 503), False
            where the request is (HTTP 400).
        field, rule: what the request broke; of an unavailable platform, what is missing.
        text: for the client: field, rule, kind of value and next step, never a value.
    """

    unavailable: bool
    field: str
    rule: str
    text: str


def refused(refusal: Refusal) -> Rejection:
    """Of a request that breaks the contract."""
    text = f"{refusal.field}: {refusal.rule}: {refusal.kind}. Next: send what the model's contract takes."
    return Rejection(unavailable=False, field=refusal.field, rule=refusal.rule, text=text)


def unavailable(error: PlatformError, rule: str) -> Rejection:
    """Of a platform that cannot decide, or not record, now."""
    return Rejection(unavailable=True, field=error.field or "serving", rule=rule, text=str(error))


def joined(parts: list[tuple[Any, Answer]], rows: int) -> Answer:
    """One answer from those about some of a request's rows each: (row numbers, answer)."""
    names = parts[0][1].outputs
    outputs = {name: np.empty((rows, 1), np.float32) for name in names}
    whole = Answer(outputs, [None] * rows, [0] * rows, [""] * rows, [()] * rows, parts[0][1].epoch)
    for places, part in parts:
        for name, values in part.outputs.items():
            whole.outputs[name][places] = values
        for at, row in enumerate(places):
            whole.decisions[row] = part.decisions[at]
            whole.versions[row] = part.versions[at]
            whole.prediction_ids[row] = part.prediction_ids[at]
            whole.reasons[row] = part.reasons[at]
    return whole
