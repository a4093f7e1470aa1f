"""Stored feature views as assets: one a name, shared by every model that uses it."""

# No `annotations` from the future here: Dagster reads the annotation of `context` as it stands.

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from ml_platform import lifecycle
from ml_platform.features import FeatureView
from ml_platform.model import Model, plain_sources
from ml_platform.orchestration.columns import view_columns, view_lineage
from ml_platform.orchestration.keys import FEATURE_GROUP, SourceKeys, feature_months, op_name, owners, view_key
from ml_platform.orchestration.metadata import Metadata, metadata_value, table_metadata, versions_digest
from ml_platform.orchestration.resource import PlatformResource

if TYPE_CHECKING:
    from ml_platform.lifecycle import Materialized

__all__ = ["SharedView", "shared_views", "view_asset"]


@dataclass(frozen=True)
class SharedView:
    """A view's name, its definitions in this code location, and the models that use them."""

    name: str
    definitions: tuple[FeatureView, ...]
    models: tuple[Model, ...]


def shared_views(models: Sequence[Model]) -> list[SharedView]:
    """Every stored view once, sorted by name; its definitions sorted by digest."""
    names = sorted({view.name for model in models for view in model.stored_views})
    return [_shared(name, models) for name in names]


def _shared(name: str, models: Sequence[Model]) -> SharedView:
    users = tuple(model for model in models if any(view.name == name for view in model.stored_views))
    found = {view.digest: view for model in users for view in model.stored_views if view.name == name}
    return SharedView(name, tuple(found[digest] for digest in sorted(found)), users)


def view_spec(shared: SharedView, sources: SourceKeys) -> dg.AssetSpec:
    """What the graph shows of a view; its code version changes with its definitions only."""
    plain = [source for view in shared.definitions for source in plain_sources(view.history)]
    return dg.AssetSpec(
        view_key(shared.name),
        deps=sources.of(plain),
        group_name=FEATURE_GROUP,
        kinds={"duckdb", "deltalake"},
        owners=owners(shared.models),
        partitions_def=feature_months(),
        code_version="+".join(view.short_digest for view in shared.definitions),
        description=_description(shared),
        metadata={
            "dagster/column_schema": view_columns(shared.definitions),
            "ml/definitions": [view.reference for view in shared.definitions],
            "ml/tables": [view.table for view in shared.definitions],
        },
    )


def _metadata(shared: SharedView, made: Sequence["Materialized"], sources: SourceKeys) -> Metadata:
    lineage = view_lineage(shared.definitions, sources)
    return {
        **table_metadata(rows=sum(one.rows for one in made), lineage=lineage),
        "ml/tables": metadata_value({one.table: one.table_version for one in made}),
        "ml/rows_added": metadata_value(sum(one.added for one in made)),
    }


def _description(shared: SharedView) -> str:
    users = ", ".join(model.name for model in shared.models)
    return (
        f"Stored features of {shared.definitions[0].entity.name} by the month in which they became known; for {users}."
    )


def view_asset(shared: SharedView, sources: SourceKeys) -> dg.AssetsDefinition:
    """Materialises the months of a view, each definition into its own table, in a single run for any range."""
    spec = view_spec(shared, sources)

    @dg.multi_asset(name=op_name(spec.key), specs=[spec], backfill_policy=dg.BackfillPolicy.single_run())
    def materialize(context: dg.AssetExecutionContext, ml_platform: PlatformResource) -> dg.MaterializeResult[None]:
        platform, window = ml_platform.open(), context.partition_time_window
        made = [
            lifecycle.materialize_view(platform, view, start=window.start, end=window.end)  # whole months only
            for view in shared.definitions
        ]
        versions = {one.view.digest: one.table_version for one in made}
        return dg.MaterializeResult(data_version=versions_digest(versions), metadata=_metadata(shared, made, sources))

    return materialize
