"""Sources in the lake: landing rows, and reading what was known at a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ml_platform.core.digests import file_digest
from ml_platform.core.errors import NotFound, SchemaMismatch
from ml_platform.features import Source
from ml_platform.platform import Platform

__all__ = ["Landed", "land_source", "read_source", "source_table", "source_versions"]


def source_table(source: Source) -> str:
    """The lake's table of a plain source."""
    return f"sources/{source.name}"


@dataclass(frozen=True)
class Landed:
    """What landing a file did; ``added`` is 0 when the file was landed before."""

    source: str
    table: str
    table_version: int
    rows: int
    added: int

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "table": self.table,
            "table_version": self.table_version,
            "rows": self.rows,
            "added": self.added,
        }


def land_source(platform: Platform, source: Source, file: Path) -> Landed:
    """Appends a Parquet file's rows to a source's table, checked against its declaration, at most once per file.

    Raises:
        NotFound: there is no such file.
        SchemaMismatch: the file is not Parquet, or its columns are not the declared ones; nothing was appended.
        DataError: see ``Source.conform``; nothing was appended.
    """
    try:
        raw = pq.read_table(file)
    except FileNotFoundError as error:
        raise NotFound("There is no such file.", field=source.name, next_step="Check the path.") from error
    except pa.ArrowInvalid as error:
        raise SchemaMismatch(
            "The file is not readable Parquet.", field=source.name, next_step="Deliver it again, whole."
        ) from error
    rows = source.conform(source.stamp(raw, platform.wall.now()))
    table, digest = source_table(source), file_digest(file)
    app_id = f"land/{source.name}/{digest}"
    seen = platform.lake.txn(table, app_id) is not None
    version = platform.lake.append(
        table,
        rows,
        app_id=app_id,
        txn_version=1,
        metadata={"definition": source.digest, "file": digest, "rows": rows.num_rows},
    )
    return Landed(source.name, table, version, rows.num_rows, 0 if seen else rows.num_rows)


def source_versions(platform: Platform, sources: tuple[Source, ...]) -> dict[str, int]:
    """The newest table version of each source.

    Raises:
        NotFound: a source was never landed.
    """
    versions: dict[str, int] = {}
    for source in sources:
        version = platform.lake.version(source_table(source))
        if version is None:
            raise NotFound(
                "The source has no rows here.",
                field=source.name,
                next_step=f"Land it first: `mlp land {source.name} FILE`.",
            )
        versions[source.name] = version
    return versions


def read_source(platform: Platform, source: Source, *, known_until_us: int, version: int | None = None) -> pa.Table:
    """A plain source's rows with known time at or before a time, in declared columns.

    Args:
        platform: the root.
        source: a source without SQL.
        known_until_us: microseconds since 1970 UTC, inclusive.
        version: table version; the newest by default.
    """
    until = pa.scalar(known_until_us, pa.timestamp("us", "UTC"))
    return platform.lake.read(
        source_table(source),
        version=version,
        columns=list(source.stored_columns),
        where=pc.field(source.known_column) <= until,
    )
