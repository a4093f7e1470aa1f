"""Sources in the lake: landing rows, and reading what was known at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from ml_platform.core.columns import arrow_type
from ml_platform.core.digests import file_digest
from ml_platform.core.errors import NotFound, SchemaMismatch
from ml_platform.features import Source
from ml_platform.platform import Platform

__all__ = ["Landed", "land_source", "read_source", "read_table", "source_table", "source_versions"]


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


def read_table(file: Path, *, columns: Mapping[str, str] | None = None, times: Sequence[str] = ()) -> pa.Table:
    """The rows of a Parquet file, or of a CSV file (``.csv``) with a header.

    Args:
        file: its path.
        columns: declared column types, which the texts of a CSV file are read as; none are guessed then.
        times: instead, the columns that are UTC times; the others' types are guessed.

    Raises:
        NotFound: there is no such file.
        SchemaMismatch: it is not readable, or a text is not of the declared type.
    """
    try:
        if file.suffix.lower() != ".csv":
            return pq.read_table(file)
        declared = columns or dict.fromkeys(times, "timestamp")
        types = {name: arrow_type(kind, field=name) for name, kind in declared.items()}
        texts = csv.ConvertOptions(column_types=types, strings_can_be_null=True)
        return csv.read_csv(file, convert_options=texts)
    except FileNotFoundError as error:
        raise NotFound("There is no such file.", field=file.name, next_step="Check the path.") from error
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # its text may hold a value
        raise SchemaMismatch(
            "The file is not readable as what its name says, or a value is not of its column's declared type.",
            field=file.name,
            next_step="Deliver Parquet, or CSV with a header, UTC times (2010-01-01T00:00:00Z) and empty nulls.",
        ) from None


def land_source(platform: Platform, source: Source, file: Path) -> Landed:
    """Appends a file's rows to a source's table, checked against its declaration, at most once per file.

    Args:
        platform: the root.
        source: the declaration.
        file: Parquet, or CSV with a header.

    Raises:
        NotFound: there is no such file.
        SchemaMismatch: the file is not readable, or its columns are not the declared ones; nothing was appended.
        DataError: see ``Source.conform``; nothing was appended.
    """
    raw = read_table(file, columns=source.columns)
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
