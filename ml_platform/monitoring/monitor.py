"""What is watched and what a drift asks for, as a model declares it: validated, and in its digest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from ml_platform.core.durations import Duration
from ml_platform.core.errors import DeclarationError
from ml_platform.monitoring.retrain import Retraining

__all__ = ["Monitor"]

Retrain = Literal["automatic", "queued", "never"]


@dataclass(frozen=True)
class Monitor:
    """Critical features (their drift is P2), how a retrain is asked for, and how old a version may become.

    Args:
        critical: names of features of the model.
        retrain: ``"automatic"``, ``"queued"`` for a person's approval, or ``"never"``.
        freshness: the age of the production version's training data after which a retrain is asked for.
        psi_limit: population stability index above which a feature has drifted (0.2 is the field's usual limit).
        retraining: how often, and how many mature rows make a retrain useful. In the model's digest only where it is
            not the default, so that what was declared before there was a choice keeps its digest.
    """

    critical: tuple[str, ...] | list[str] = ()
    retrain: Retrain = "queued"
    freshness: str | None = None
    psi_limit: float = 0.2
    retraining: Retraining = field(default_factory=Retraining)

    def __post_init__(self) -> None:
        object.__setattr__(self, "critical", tuple(self.critical))
        if self.retrain not in get_args(Retrain):
            raise DeclarationError(
                "This is not a way to retrain.",
                field="retrain",
                next_step=f"Choose one of {', '.join(get_args(Retrain))}.",
            )
        if self.freshness is not None and Duration.parse(self.freshness, field="freshness").is_zero:
            raise DeclarationError("Freshness of no time.", field="freshness", next_step='Write for example "540d".')
        if not 0 < self.psi_limit < 10:
            raise DeclarationError("A PSI limit is a small positive number.", field="psi_limit", next_step="Write 0.2.")

    def check_features(self, names: tuple[str, ...]) -> None:
        """Every critical feature must be one of the model's.

        Raises:
            DeclarationError: it is not.
        """
        unknown = sorted(set(self.critical) - set(names))
        if unknown:
            raise DeclarationError(
                "A critical feature is not a feature of the model.",
                field=", ".join(unknown),
                next_step=f"Choose from {', '.join(names)}.",
            )

    def spec(self) -> dict[str, object]:
        document: dict[str, object] = {
            "critical": sorted(self.critical),
            "retrain": self.retrain,
            "freshness": self.freshness,
            "psi_limit": self.psi_limit,
        }
        if self.retraining != Retraining():
            document["retraining"] = self.retraining.spec()
        return document
