"""The declared way of a version into service: its steps, and what harm a step must exclude. Validated and digested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Self

from ml_platform.core.durations import Duration
from ml_platform.core.errors import DeclarationError

__all__ = ["ALL_UNITS_BP", "Guardrails", "Rollout"]

ALL_UNITS_BP: Final = 10_000  # shares are basis points of the units
_LIMITS: Final = {"errors": 1.0, "decision_rate": 1.0}


@dataclass(frozen=True)
class Guardrails:
    """How much worse a canary may be than the primary before it counts as harm, and how sure a decision must be.

    A step ends well only when the interval of every difference excludes its margin: that a margin was not *seen* to be
    crossed is no evidence on few units. With the defaults the shares decide: about 800 canary units without an error
    exclude one error more in a hundred.

    Args:
        errors: share of refused requests, canary less primary.
        latency_p50_ms, latency_p99_ms: milliseconds that the quantile may be higher.
        decision_rate: share of adverse decisions, either way.
        score_shift: mean score, either way, in standard deviations of the primary's scores.
        alpha: chance, over all guardrails and all looks of a step, of calling a harmless canary harmful.
        min_units: units that the canary must have decided about before a step can end well.
        min_time: and how long the step must have lasted, on the platform's clock.

    Raises:
        DeclarationError: a margin, a chance or a number that means nothing.
    """

    errors: float = 0.01
    latency_p50_ms: float = 5.0
    latency_p99_ms: float = 25.0
    decision_rate: float = 0.05
    score_shift: float = 0.25
    alpha: float = 0.05
    min_units: int = 200
    min_time: str = "1h"

    def __post_init__(self) -> None:
        for name in ("errors", "latency_p50_ms", "latency_p99_ms", "decision_rate", "score_shift"):
            value = getattr(self, name)
            if not _is_number(value) or not 0 < value < _LIMITS.get(name, float("inf")):
                raise DeclarationError(
                    "A margin of harm is a positive number; one of a share is below 1.",
                    field=name,
                    next_step=f"Write for example {name}={_default(name)}.",
                )
        if not _is_number(self.alpha) or not 0 < self.alpha < 0.5:
            raise DeclarationError(
                "The chance of a false alarm is between 0 and 0.5.", field="alpha", next_step="Write for example 0.05."
            )
        if not isinstance(self.min_units, int) or isinstance(self.min_units, bool) or self.min_units < 2:
            raise DeclarationError(
                "A step needs at least two units.", field="min_units", next_step="Write for example 200."
            )
        Duration.parse(self.min_time, field="min_time")

    def spec(self) -> dict[str, Any]:
        """The canonical form; numbers that may have decimals are decimal numbers in it."""
        whole = {"min_units": self.min_units, "min_time": self.min_time}
        return {name: float(value) for name, value in asdict(self).items() if name not in whole} | whole

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Self:
        return cls(**spec)


@dataclass(frozen=True)
class Rollout:
    """Shadow for a time, then canary steps in percent of units, then all.

    Args:
        shadow: how long a new version is scored beside production without deciding; ``"0d"`` for none.
        canary: shares of units in percent, strictly rising, each between 0 and 100, both excluded.
        max_hold: after this time without an answer of the evidence, a person is asked.
        guardrails: what harm each step must exclude. In the model's digest only where it is not the default, so that
            what was declared before there were guardrails keeps its digest.
    """

    shadow: str = "0d"
    canary: tuple[int, ...] | list[int] = ()
    max_hold: str = "14d"
    guardrails: Guardrails = field(default_factory=Guardrails)

    def __post_init__(self) -> None:
        Duration.parse(self.shadow, field="shadow")
        if Duration.parse(self.max_hold, field="max_hold").is_zero:
            raise DeclarationError("A hold needs some time.", field="max_hold", next_step='Write for example "14d".')
        steps = tuple(self.canary)
        object.__setattr__(self, "canary", steps)
        in_range = all(isinstance(step, int) and 0 < step < 100 for step in steps)
        if not in_range or list(steps) != sorted(set(steps)):
            raise DeclarationError(
                "Canary steps are rising whole percentages between 0 and 100.",
                field="canary",
                next_step="Write for example canary=[5, 25, 50]; the last step to 100 is implied.",
            )

    def share_after(self, share_bp: int) -> int:
        """The share of units of the step after a share, in basis points; all of them after the last step.

        >>> Rollout(canary=[5, 25]).share_after(500)
        2500
        """
        return next((step * 100 for step in self.canary if step * 100 > share_bp), ALL_UNITS_BP)

    def spec(self) -> dict[str, object]:
        document: dict[str, object] = {"shadow": self.shadow, "canary": list(self.canary), "max_hold": self.max_hold}
        if self.guardrails != Guardrails():
            document["guardrails"] = self.guardrails.spec()
        return document

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Self:
        """The plan of a stored canonical form: a version is rolled out by what was declared with it."""
        values = dict(spec)
        if "guardrails" in values:
            values["guardrails"] = Guardrails.from_spec(values["guardrails"])
        return cls(**values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # noqa: PLR0124 - NaN


def _default(name: str) -> object:
    return next(one.default for one in fields(Guardrails) if one.name == name)
