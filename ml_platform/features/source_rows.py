"""Rows of sources, read for a materialisation: plain ones where they lie, those of SQL computed from their inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.core.delta import Lake
from ml_platform.core.errors import NotFound
from ml_platform.core.rows import utc
from ml_platform.features.duckdb import evaluate_source
from ml_platform.features.source import Source

__all__ = ["LakeSources", "SourceReader", "SourceRows", "read_rows"]

_UTC: Final = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class SourceRows:
    """Rows of a plain source, and the version of the table that they were read from."""

    table: pa.Table
    version: int | None = None


class SourceReader(Protocol):
    """Knows where plain sources lie; called once for each plain source that a view needs."""

    def read(self, source: Source, *, until: datetime) -> SourceRows:
        """The source's stored rows with known time ≤ ``until``, in any order."""
        ...


@dataclass(frozen=True)
class LakeSources:
    """Plain sources in the lake: ``tables`` maps logical names to tables, ``versions`` pins some of them."""

    lake: Lake
    tables: Mapping[str, str]
    versions: Mapping[str, int] = field(default_factory=dict)

    def read(self, source: Source, *, until: datetime) -> SourceRows:
        """Raises NotFound: the source is bound to no table, or the table is not there."""
        if source.name not in self.tables:
            raise NotFound("The source is bound to no table.", field=source.name, next_step="Bind it in the settings.")
        table = self.tables[source.name]
        version = self.versions.get(source.name, self.lake.version(table))
        known = pc.field(source.known_column) <= pa.scalar(utc(until), _UTC)
        rows = self.lake.read(table, version=version, columns=list(source.stored_columns), where=known)
        return SourceRows(rows, version)


def read_rows(source: Source, sources: SourceReader, *, until: datetime) -> tuple[pa.Table, dict[str, int | None]]:
    """The conformed rows of any source, and the table versions of the plain sources below it."""
    if source.sql is None:
        read = sources.read(source, until=until)
        return source.conform(read.table), {source.name: read.version}
    tables: dict[str, pa.Table] = {}
    versions: dict[str, int | None] = {}
    for item in source.inputs:
        tables[item.name], below = read_rows(item, sources, until=until)
        versions |= below
    return evaluate_source(source, tables), versions
