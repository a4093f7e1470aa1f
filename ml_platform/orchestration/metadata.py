"""What an asset says about what it made: our manifest under ``ml/…``, and Dagster's own keys for tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Protocol

import dagster as dg

from ml_platform.core.digests import document_digest

__all__ = ["Metadata", "Result", "manifest", "metadata_value", "table_metadata", "versions_digest"]

Metadata = dict[str, dg.MetadataValue[Any]]
MAX_DOCUMENT_BYTES: Final = 16_384


class Result(Protocol):
    """What every use case returns: a frozen value that can tell itself as JSON."""

    def to_json(self) -> Mapping[str, Any]: ...


def manifest(result: Result, **more: Any) -> Metadata:
    """The result's fields as ``ml/<name>``: numbers stay numbers, so that Dagster plots them over partitions.

    Fields that are None are left out; a document beyond 16 KiB is named by its size only, since metadata stays in
    Dagster's database for ever and the document itself is in the store.
    """
    fields = {**result.to_json(), **more}
    return {f"ml/{name}": metadata_value(value) for name, value in sorted(fields.items()) if value is not None}


def metadata_value(value: Any) -> dg.MetadataValue[Any]:
    """The kind of metadata that shows a JSON value best."""
    if isinstance(value, bool):
        return dg.MetadataValue.bool(value)
    if isinstance(value, int):
        return dg.MetadataValue.int(value)
    if isinstance(value, float):
        return dg.MetadataValue.float(value)
    if isinstance(value, str):
        return dg.MetadataValue.text(value)
    size = len(json.dumps(value))
    if size > MAX_DOCUMENT_BYTES:
        return dg.MetadataValue.text(f"{size} bytes of JSON, kept in the store")
    return dg.MetadataValue.json(value)


def table_metadata(
    *,
    rows: int | None = None,
    partition_rows: int | None = None,
    uri: str | None = None,
    schema: dg.TableSchema | None = None,
    lineage: dg.TableColumnLineage | None = None,
) -> Metadata:
    """Dagster's keys for a table; what is not given is left out."""
    found: dict[str, dg.MetadataValue[Any] | None] = {
        "dagster/row_count": None if rows is None else dg.MetadataValue.int(rows),
        "dagster/partition_row_count": None if partition_rows is None else dg.MetadataValue.int(partition_rows),
        "dagster/uri": None if uri is None else dg.MetadataValue.text(uri),
        "dagster/column_schema": None if schema is None else dg.MetadataValue.table_schema(schema),
        "dagster/column_lineage": None if lineage is None else dg.MetadataValue.column_lineage(lineage),
    }
    return {name: value for name, value in found.items() if value is not None}


def versions_digest(versions: Mapping[str, int]) -> dg.DataVersion:
    """The data version of a view: one digest over {definition digest: table version}."""
    return dg.DataVersion(document_digest("feature_tables", dict(versions)))
