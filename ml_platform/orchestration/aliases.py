"""Alias assets: which version holds a stage. Nothing computes them; ``reconcile`` reports what the log says."""

from __future__ import annotations

import dagster as dg

from ml_platform.model import Model
from ml_platform.orchestration.keys import ALIAS_STAGES, group, model_key, tags

__all__ = ["alias_specs"]

_MEANING = {
    "staging": "The version that waits for people to approve it.",
    "canary": "The version that answers a share of the requests.",
    "production": "The version that decides.",
}


def alias_specs(model: Model) -> list[dg.AssetSpec]:
    """``staging``, ``canary`` and ``production``: their data version is the model version, ``none`` when empty.

    What decides depends on ``production`` and not on ``trained_model``: Dagster credits the newest materialisation
    upstream, which may be a candidate that nobody promoted.
    """
    return [
        dg.AssetSpec(
            model_key(model.name, stage),
            deps=[model_key(model.name, "registered_version")],
            group_name=group(model.name),
            owners=list(model.owners),
            tags=tags(model.name),
            description=f"{_MEANING[stage]} Its data version is that model version, or none.",
        )
        for stage in ALIAS_STAGES
    ]
