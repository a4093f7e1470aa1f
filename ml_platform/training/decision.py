"""From a score to a decision, and the reason that stands for each feature."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from ml_platform.core.digests import canonical_json, parse_canonical
from ml_platform.core.errors import DeclarationError

__all__ = ["APPROVED", "DECLINED", "Decline"]

FORMAT: Final = "ml-platform/decision/1"
BASELINE: Final = "training_expectation"
APPROVED: Final = "approved"
DECLINED: Final = "declined"


@dataclass(frozen=True)
class Decline:
    """Declines when the score is above a limit; the score is the probability of the adverse event.

    ``reasons`` gives each feature of the model the text that an applicant reads when that feature speaks against them;
    several features may share one text. Contributions count from the declared baseline, the model's expectation over
    its training rows.

    Raises:
        DeclarationError: the limit is not within (0, 1), or a reason is empty.
    """

    above: float
    reasons: Mapping[str, str] = field(hash=False)

    def __post_init__(self) -> None:
        is_number = isinstance(self.above, int | float) and not isinstance(self.above, bool)
        if not is_number or not math.isfinite(self.above) or not 0 < self.above < 1:
            raise DeclarationError(
                "The limit is not a probability between 0 and 1.", field="above", next_step="Write for example 0.06."
            )
        object.__setattr__(self, "reasons", dict(self.reasons))
        for feature, text in self.reasons.items():
            if not isinstance(text, str) or not text.strip():
                raise DeclarationError("The reason is empty.", field=feature, next_step="Write what a person can read.")

    def check_features(self, names: Sequence[str]) -> None:
        """Every feature has a reason, and every reason a feature.

        Raises:
            DeclarationError: names those without.
        """
        without = [name for name in names if name not in self.reasons]
        if without:
            raise DeclarationError(
                f"Features without a reason: {', '.join(without)}.",
                field="reasons",
                next_step="Say for each feature what it means to the person decided about; several may share a text.",
            )
        unknown = sorted(set(self.reasons) - set(names))
        if unknown:
            raise DeclarationError(
                f"Reasons for what is no feature of the model: {', '.join(unknown)}.",
                field="reasons",
                next_step="Remove them, or mend the names.",
            )

    def declined(self, scores: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Which rows are declined: score > above, compared as float64 whatever the scores' type."""
        # A float32 array against a Python float would be compared in float32, which moves the limit.
        return np.asarray(scores, np.float64) > np.float64(self.above)

    def spec(self) -> dict[str, object]:
        return {
            "decision": "decline",
            "above": float(self.above),
            "baseline": BASELINE,
            "reasons": dict(sorted(self.reasons.items())),
        }

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Self:
        """The decision of a stored canonical form.

        Raises:
            DeclarationError: another kind of decision.
        """
        if spec.get("decision") != "decline" or spec.get("baseline") != BASELINE:
            raise DeclarationError("This is not a known decision.", next_step='Known is "decline".')
        return cls(above=spec["above"], reasons=spec["reasons"])

    def to_bytes(self) -> bytes:
        return canonical_json({"format": FORMAT, **self.spec()})

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        document = parse_canonical(raw)
        if document.pop("format", None) != FORMAT:
            raise DeclarationError("This is no decision of a known format.", next_step=f"Expected {FORMAT}.")
        return cls.from_spec(document)
