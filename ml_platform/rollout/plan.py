"""The declared way of a version into service. Validated and digested; executed by the online half."""

from __future__ import annotations

from dataclasses import dataclass

from ml_platform.core.durations import Duration
from ml_platform.core.errors import DeclarationError

__all__ = ["Rollout"]


@dataclass(frozen=True)
class Rollout:
    """Shadow for a time, then canary steps in percent of units, then all.

    Args:
        shadow: how long a new version is scored beside production without deciding; ``"0d"`` for none.
        canary: shares of units in percent, strictly rising, each between 0 and 100, both excluded.
        max_hold: after this time without an answer of the evidence, a person is asked.
    """

    shadow: str = "0d"
    canary: tuple[int, ...] | list[int] = ()
    max_hold: str = "14d"

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

    def spec(self) -> dict[str, object]:
        return {"shadow": self.shadow, "canary": list(self.canary), "max_hold": self.max_hold}
