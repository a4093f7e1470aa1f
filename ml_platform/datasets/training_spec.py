"""What a training set is declared to be."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from ml_platform.core.digests import document_digest
from ml_platform.core.errors import DeclarationError
from ml_platform.datasets.labels import MATURED_AT, SPLIT, Label
from ml_platform.datasets.split import TimeSplit
from ml_platform.features.declaration import check_known, check_unique
from ml_platform.features.source import Source
from ml_platform.features.views import FeatureView, RequestView

__all__ = ["GAP", "TEST", "TRAIN", "TrainingSetSpec", "age_column"]

TRAIN: Final = "train"
TEST: Final = "test"
GAP: Final = "gap"


def age_column(view: str) -> str:
    """The column of the age of a view's value at T: T − event time, int64 µs."""
    return f"{view}__age_us"


@dataclass(frozen=True)
class TrainingSetSpec:
    """Label, features in model order, split.

    Raises:
        DeclarationError: not exactly the label's request view among the features, a name that stands twice, a stored
            view whose entity the request does not name, or one that is made of outcomes that are not mature.
    """

    label: Label
    features: tuple[RequestView | FeatureView, ...]
    split: TimeSplit = field(default_factory=TimeSplit)

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", tuple(self.features))
        requests = [view for view in self.features if isinstance(view, RequestView)]
        if requests != [self.label.rows]:
            raise DeclarationError(
                "The features do not hold exactly the request view that is labelled.",
                field="features",
                next_step=f"List {self.label.rows.name}, and stored views beside it.",
            )
        for view in self.stored:
            for key in view.entity.keys:
                check_known(key, self.label.rows.source.columns, field=view.name)
            _refuse_immature(view.name, view.history, self.label)
            taken = {item.name for item in view.features} & set(self.label.rows.source.stored_columns)
            if taken:
                raise DeclarationError(
                    f"The stored view has a feature with the name of a request column: {', '.join(sorted(taken))}.",
                    field=view.name,
                    next_step="Rename the stored feature.",
                )
        check_unique(self.columns, field="features")

    @property
    def stored(self) -> tuple[FeatureView, ...]:
        return tuple(view for view in self.features if isinstance(view, FeatureView))

    @property
    def identity(self) -> tuple[str, ...]:
        """Entity keys and time."""
        return (*self.label.rows.entity.keys, self.label.rows.time)

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(item.name for view in self.features for item in view.features)

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the training set, in order."""
        ages = (age_column(view.name) for view in self.stored)
        return (*self.identity, *self.feature_names, *ages, self.label.column, MATURED_AT, SPLIT)

    def spec(self) -> dict[str, Any]:
        """What changes a training set; the order of features does, since it is the order of its rows' bytes."""
        return {
            "kind": "training_set",
            "label": self.label.digest,
            "features": [view.reference for view in self.features],
            "columns": list(self.columns),
            "split": self.split.spec(),
        }

    @cached_property
    def digest(self) -> str:
        return document_digest("definition", self.spec())


def _refuse_immature(view: str, source: Source, label: Label) -> None:
    if source.event_time == source.known_column == MATURED_AT and source.name.endswith(".matured"):
        return
    if source.name == label.outcome.name:
        raise DeclarationError(
            "The stored view is made of outcomes that may not be mature.",
            field=view,
            next_step="Read label.matured: outcomes that are known early are the bad ones.",
        )
    for inner in source.inputs:
        _refuse_immature(view, inner, label)
