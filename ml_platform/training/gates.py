"""Gates: what a candidate must show before it may have a version number.

A gate is a declared demand; ``verdicts`` judges it. Demands can be compared: a declaration may only be stricter than
the policy that risk officers signed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, get_args

from ml_platform.core.errors import DeclarationError
from ml_platform.core.fields import check_name

__all__ = [
    "ONNX_PARITY",
    "Gate",
    "OnInconclusive",
    "at_least",
    "brier_skill",
    "calibrated",
    "group_ratio",
    "not_worse_than_production",
    "stricter_or_equal",
]

OnInconclusive = Literal["refuse", "ask"]


@dataclass(frozen=True)
class _Kind:
    """A rule in words, its metrics, the open interval of its threshold, and which way is stricter."""

    says: str
    metrics: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 1.0
    higher_is_stricter: bool = True
    by_attribute: bool = False


_KINDS: Final[dict[str, _Kind]] = {
    "at_least": _Kind("The lower bound of {metric} is above {threshold:g}.", metrics=("auc",)),
    "calibrated": _Kind(
        "The upper bound of the calibration error is at most {threshold:g}, and 1 is within the slope's interval.",
        higher_is_stricter=False,
    ),
    "brier_skill": _Kind(
        "The lower bound of the Brier skill over the training base rate is above {threshold:g}.", low=-1
    ),
    "group_ratio": _Kind(
        "The lower bound of each group's {metric} over that of the best-off group of {by} is above {threshold:g}.",
        metrics=("approval_rate",),
        by_attribute=True,
    ),
    "not_worse_than_production": _Kind(
        "On the same rows, the bound of {metric} is less than {threshold:g} below production's.",
        metrics=("auc",),
        higher_is_stricter=False,
    ),
    "onnx_parity": _Kind(
        "ONNX and native scores differ by less than {threshold:g} on every row.", higher_is_stricter=False
    ),
}


@dataclass(frozen=True)
class Gate:
    """One demand; the builders below make them.

    Args:
        kind: the rule.
        threshold: what the bound of the 95 % interval is held against.
        metric: of what, where the kind has several.
        by: the protected attribute, where the kind compares groups.
        on_inconclusive: ``refuse``, or ``ask`` a person, who decides with a signed reason.

    Raises:
        DeclarationError: names the field and the choices.
    """

    kind: str
    threshold: float
    metric: str | None = None
    by: str | None = None
    on_inconclusive: OnInconclusive = "refuse"

    def __post_init__(self) -> None:
        rule = _KINDS.get(self.kind)
        if rule is None:
            raise DeclarationError("This is not a gate.", field="kind", next_step=f"Choose one of {', '.join(_KINDS)}.")
        if (self.metric is None) != (not rule.metrics) or (self.metric and self.metric not in rule.metrics):
            choices = ", ".join(rule.metrics) or "none"
            raise DeclarationError(
                "The gate has no such metric.", field=f"{self.kind}.metric", next_step=f"Choose one of: {choices}."
            )
        if (self.by is not None) != rule.by_attribute:
            raise DeclarationError(
                "Only a gate that compares groups names an attribute.",
                field=f"{self.kind}.by",
                next_step="Name it in group_ratio(…, by=…).",
            )
        if self.by is not None:
            check_name(self.by, field=f"{self.kind}.by")
        if self.on_inconclusive not in get_args(OnInconclusive):
            raise DeclarationError(
                "This is not a way to end an open verdict.",
                field=f"{self.kind}.on_inconclusive",
                next_step='Choose "refuse" or "ask".',
            )
        object.__setattr__(self, "threshold", _threshold(self.threshold, self.kind, rule))

    @property
    def name(self) -> str:
        """``at_least.auc``, ``calibrated``, ``group_ratio.approval_rate.applicant_group`` …; unique within a model."""
        return ".".join(part for part in (self.kind, self.metric, self.by) if part)

    def describe(self) -> str:
        """The demand in one sentence."""
        return _KINDS[self.kind].says.format(threshold=self.threshold, metric=self.metric, by=self.by)

    def spec(self) -> dict[str, object]:
        return {
            "name": self.name,
            "kind": self.kind,
            "metric": self.metric,
            "by": self.by,
            "threshold": self.threshold,
            "on_inconclusive": self.on_inconclusive,
        }

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Self:
        """The gate of a stored canonical form.

        Raises:
            DeclarationError: a field is missing, unknown or impossible.
        """
        values = dict(spec)
        name = values.pop("name", None)
        if set(values) != set(cls.__dataclass_fields__):
            raise DeclarationError("This is not a gate specification.", field="gates", next_step="Use Gate.spec().")
        gate = cls(**values)
        if gate.name != name:
            raise DeclarationError(
                "The specification's name is not the gate's.", field="gates.name", next_step=f"It is {gate.name}."
            )
        return gate


def _threshold(value: object, kind: str, rule: _Kind) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise DeclarationError("The threshold is not a number.", field=kind, next_step="Write a number.")
    if not rule.low < value < rule.high:
        raise DeclarationError(
            f"The threshold is not between {rule.low:g} and {rule.high:g}.", field=kind, next_step="Write such a one."
        )
    return float(value)


ONNX_PARITY: Final = Gate("onnx_parity", 1e-6)
"""Always judged, never declared: what is served must be what was trained."""


def at_least(metric: str, threshold: float, *, on_inconclusive: OnInconclusive = "refuse") -> Gate:
    """The lower bound of the metric's interval must be above the threshold. Metrics: ``auc``."""
    return Gate("at_least", threshold, metric=metric, on_inconclusive=on_inconclusive)


def calibrated(ece: float = 0.02, *, on_inconclusive: OnInconclusive = "refuse") -> Gate:
    """The upper bound of the equal-mass calibration error is at most ``ece``, and 1 is within the slope's interval."""
    return Gate("calibrated", ece, on_inconclusive=on_inconclusive)


def brier_skill(above: float = 0.0, *, on_inconclusive: OnInconclusive = "refuse") -> Gate:
    """The lower bound of the Brier skill against the *training* base rate must be above ``above``."""
    return Gate("brier_skill", above, on_inconclusive=on_inconclusive)


def group_ratio(metric: str, *, by: str, at_least: float = 0.8, on_inconclusive: OnInconclusive = "refuse") -> Gate:
    """Each group's rate over that of the best-off group; the lower bound must be above ``at_least``.

    Groups under 100 rows are reported, not gated. Metrics: ``approval_rate``. 0.8 is the four-fifths rule
    (29 CFR 1607.4 D).
    """
    return Gate("group_ratio", at_least, metric=metric, by=by, on_inconclusive=on_inconclusive)


def not_worse_than_production(metric: str, *, by: float, on_inconclusive: OnInconclusive = "refuse") -> Gate:
    """On the rows that both accept, the metric may be less than ``by`` below production's. Metrics: ``auc``."""
    return Gate("not_worse_than_production", by, metric=metric, on_inconclusive=on_inconclusive)


def stricter_or_equal(gate: Gate, minimum: Gate) -> bool:
    """Whether a gate demands everything that another one demands: the same thing, no looser, asking no more often."""
    if gate.name != minimum.name:
        return False
    if gate.on_inconclusive == "ask" and minimum.on_inconclusive == "refuse":
        return False
    if _KINDS[gate.kind].higher_is_stricter:
        return gate.threshold >= minimum.threshold
    return gate.threshold <= minimum.threshold
