"""Names: which asset, partition, group and job stands for what. Everything else asks here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import dagster as dg

from ml_platform.core.errors import DeclarationError
from ml_platform.features import Source
from ml_platform.features.declaration import check_unique
from ml_platform.features.periods import Grain
from ml_platform.model import Model

__all__ = [
    "ALIAS_STAGES",
    "FEATURE_GROUP",
    "FIRST_HOUR",
    "FIRST_MONTH",
    "SOURCE_GROUP",
    "WINDOWS_NAME",
    "SourceKeys",
    "batch_months",
    "candidates",
    "candidates_name",
    "check_models",
    "feature_backfill",
    "feature_periods",
    "group",
    "model_key",
    "op_name",
    "owners",
    "tags",
    "view_key",
    "windows",
]

ALIAS_STAGES: Final = ("staging", "canary", "production")
FEATURE_GROUP: Final = "ml/features"
SOURCE_GROUP: Final = "ml/sources"
FIRST_MONTH: Final = "2000-01"
FIRST_HOUR: Final = (
    "2024-01-01-00:00"  # Dagster shows up to 100,000 partitions of an asset; older hours: `mlp materialize`
)
WINDOWS_NAME: Final = "ml/windows"
_MONTH: Final = "%Y-%m"
_RESERVED: Final = ("features", "sources")


class SourceKeys:
    """The asset key of each source: the bound one, where another asset of Dagster delivers it, else ``sources/<name>``.

    Args:
        bound: source name → asset key of whoever delivers it (a dbt model, a table of another team).
    """

    def __init__(self, bound: Mapping[str, dg.AssetKey] | None = None) -> None:
        self._bound = dict(bound or {})

    def key(self, name: str) -> dg.AssetKey:
        return self._bound.get(name, dg.AssetKey(["sources", name]))

    def is_bound(self, name: str) -> bool:
        return name in self._bound

    def of(self, sources: Iterable[Source]) -> list[dg.AssetKey]:
        return sorted({self.key(source.name) for source in sources})

    def check(self, known: Iterable[str]) -> None:
        """Refuses a binding of a source that no model reads.

        Raises:
            DeclarationError: names it.
        """
        unknown = sorted(set(self._bound) - set(known))
        if unknown:
            raise DeclarationError(
                f"No model reads a source named {', '.join(unknown)}.",
                field="sources",
                next_step=f"Bind one of {', '.join(sorted(known))}.",
            )


def check_models(models: Iterable[Model]) -> tuple[Model, ...]:
    """The models of a code location, sorted by name: each name once, and none that other assets need.

    Raises:
        DeclarationError: names the model.
    """
    found = tuple(sorted(models, key=lambda model: model.name))
    check_unique((model.name for model in found), field="models")
    for model in found:
        if model.name in _RESERVED:
            raise DeclarationError(
                f"No model can be named {model.name}: shared assets bear that name.",
                field="models",
                next_step="Give the model another name.",
            )
    return found


def model_key(model: str, noun: str) -> dg.AssetKey:
    """``<model>/<noun>``."""
    return dg.AssetKey([model, noun])


def view_key(view: str) -> dg.AssetKey:
    """``features/<view>``: shared, so without a model."""
    return dg.AssetKey(["features", view])


def group(model: str) -> str:
    """The group of a model's assets."""
    return f"ml/{model}"


def tags(model: str) -> dict[str, str]:
    """Tags of a model's assets and runs: one run limit a model can be set on them."""
    return {"ml/model": model}


def op_name(key: dg.AssetKey) -> str:
    """The name of the op that computes an asset."""
    return "__".join(part.replace(".", "_") for part in key.path)


def owners(models: Iterable[Model]) -> list[str]:
    """All owners of several models."""
    return sorted({owner for model in models for owner in model.owners})


def candidates_name(model: str) -> str:
    """The name of a model's candidate partitions; such names are global in an instance, so it bears the model's."""
    return f"ml/{model}/candidates"


def candidates(model: str) -> dg.DynamicPartitionsDefinition:
    """The candidates of a model: keys come from the registry."""
    return dg.DynamicPartitionsDefinition(name=candidates_name(model))


def feature_periods(grain: Grain) -> dg.TimeWindowPartitionsDefinition:
    """Months, days or hours in which values became known; one is materialised when it is over."""
    if grain == "day":
        return dg.DailyPartitionsDefinition(start_date=f"{FIRST_MONTH}-01")
    if grain == "hour":
        return dg.HourlyPartitionsDefinition(start_date=FIRST_HOUR)
    return dg.MonthlyPartitionsDefinition(start_date=FIRST_MONTH, fmt=_MONTH)


def feature_backfill(grain: Grain) -> dg.BackfillPolicy:
    """A range of months is one run; days and hours are cut into runs of a year and of a week."""
    if grain == "month":
        return dg.BackfillPolicy.single_run()
    return dg.BackfillPolicy.multi_run(max_partitions_per_run=366 if grain == "day" else 168)


def batch_months() -> dg.MonthlyPartitionsDefinition:
    """Months of requests; a month is scored when it is over."""
    return dg.MonthlyPartitionsDefinition(start_date=FIRST_MONTH, fmt=_MONTH)


def windows() -> dg.DynamicPartitionsDefinition:
    """Windows of request times that were watched: days ``YYYY-MM-DD`` and months ``YYYY-MM``, shared by all models."""
    return dg.DynamicPartitionsDefinition(name=WINDOWS_NAME)
