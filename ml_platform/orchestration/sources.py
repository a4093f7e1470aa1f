"""Sources as assets: those that others deliver through Dagster are named, the rest are landed from files."""

# No `annotations` from the future here: Dagster reads the annotation of `config` as it stands.

from collections.abc import Iterable
from pathlib import Path

import dagster as dg
from pydantic import Field

from ml_platform import lifecycle
from ml_platform.features import Source
from ml_platform.model import Model, plain_sources
from ml_platform.orchestration.columns import source_columns
from ml_platform.orchestration.keys import SOURCE_GROUP, SourceKeys, op_name
from ml_platform.orchestration.metadata import manifest, table_metadata
from ml_platform.orchestration.resource import PlatformResource

__all__ = ["LandConfig", "model_sources", "source_asset", "source_spec"]


class LandConfig(dg.Config):
    """Which file to land."""

    file: str = Field(description="A Parquet file with the source's columns; landing it twice changes nothing.")


def model_sources(models: Iterable[Model]) -> dict[str, list[Source]]:
    """Every plain source of the models by name, the restricted ones included, with its distinct definitions."""
    found: dict[str, dict[str, Source]] = {}
    for model in models:
        for source in (*model.sources, *(attribute.source for attribute in model.protected)):
            for plain in plain_sources(source):
                found.setdefault(plain.name, {})[plain.digest] = plain
    return {name: list(found[name].values()) for name in sorted(found)}


def source_spec(source: Source, keys: SourceKeys) -> dg.AssetSpec:
    """What the graph shows of a source; a request view is this too: it is read from its source."""
    return dg.AssetSpec(
        keys.key(source.name),
        group_name=SOURCE_GROUP,
        kinds={"deltalake"},
        description=f"Rows as delivered, known at `{source.known_column}`; append-only.",
        metadata={"dagster/column_schema": source_columns(source), "ml/definition": source.reference},
    )


def source_asset(source: Source, keys: SourceKeys) -> dg.AssetsDefinition:
    """Lands a file as new rows of the source."""
    key = keys.key(source.name)

    @dg.multi_asset(name=op_name(key), specs=[source_spec(source, keys)])
    def land(config: LandConfig, ml_platform: PlatformResource) -> dg.MaterializeResult[None]:
        landed = lifecycle.land_source(ml_platform.open(), source, Path(config.file))
        return dg.MaterializeResult(
            data_version=dg.DataVersion(str(landed.table_version)),
            metadata={**manifest(landed), **table_metadata(rows=landed.rows)},
        )

    return land
