"""Stored feature views as assets: one a name, shared by every model that uses it."""

# No `annotations` from the future here: Dagster reads the annotation of `context` as it stands.

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_platform import lifecycle
from ml_platform.features import FeatureView
from ml_platform.features.periods import GRAINS, Grain
from ml_platform.model import Model, plain_sources
from ml_platform.orchestration.columns import view_columns, view_lineage
from ml_platform.orchestration.feature_checks import quality_results, quality_specs, visible_partitions
from ml_platform.orchestration.keys import (
    FEATURE_GROUP,
    SourceKeys,
    feature_backfill,
    feature_periods,
    op_name,
    owners,
    view_key,
)
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

    @property
    def grain(self) -> Grain:
        """The finest grain that a definition asks for."""
        return max((view.about.partition for view in self.definitions), key=GRAINS.index)

    @property
    def owners(self) -> list[str]:
        """The declared owners of the view; where none are, those of the models that use it."""
        return sorted({owner for view in self.definitions for owner in view.about.owners}) or owners(self.models)


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
        owners=shared.owners,
        partitions_def=feature_periods(shared.grain),
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
        "ml/rejected": metadata_value([one.period for each in made for one in each.rejected]),
    }


def _description(shared: SharedView) -> str:
    users = ", ".join(model.name for model in shared.models)
    first = shared.definitions[0]
    said = f"{first.about.description.rstrip('.')}. " if first.about.description else ""
    gone = f" {first.about.deprecated.words()}" if first.about.deprecated else ""
    return (
        f"{said}Stored features of {first.entity.name} by the {shared.grain} in which they became known; "
        f"for {users}.{gone}"
    )


def view_asset(shared: SharedView, sources: SourceKeys) -> dg.AssetsDefinition:
    """Materialises the periods of a view, each definition into its own table, in a single run for any range.

    Rows are held against the declared quality checks before anybody sees them. Where a period is rejected, the others
    are shown as materialised, the check fails with its numbers, and the run fails.
    """
    spec = view_spec(shared, sources)

    @dg.multi_asset(
        name=op_name(spec.key),
        specs=[spec],
        check_specs=quality_specs(shared.definitions),
        backfill_policy=feature_backfill(shared.grain),
    )
    def materialize(context: dg.AssetExecutionContext, ml_platform: PlatformResource) -> Iterator[Any]:
        platform, window = ml_platform.open(), context.partition_time_window
        made = [
            lifecycle.materialize_view(platform, view, start=window.start, end=window.end)
            for view in shared.definitions
        ]
        yield from quality_results(made)
        metadata, version = _metadata(shared, made, sources), _version(made)
        rejected = [one for each in made for one in each.rejected]
        if rejected:
            for key in visible_partitions(context.partition_keys, made):
                context.log_event(dg.AssetMaterialization(spec.key, partition=key, metadata=metadata))
            raise dg.Failure(f"{len(rejected)} periods are not visible.", allow_retries=False)
        yield dg.MaterializeResult(data_version=version, metadata=metadata)

    return materialize


def _version(made: Sequence["Materialized"]) -> dg.DataVersion:
    return versions_digest({one.view.digest: one.table_version for one in made})
