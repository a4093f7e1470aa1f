"""Change points of a history that does not fit into memory: entity by entity, in parts that do.

DuckDB says in one pass, on disk where memory ends, when each version of a fact ends and to which part its entity
belongs; each part is then swept as a whole history is.
"""

# ruff: noqa: S608 - the only names put into this SQL are declared columns, quoted, and numbers and a folder of ours
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from ml_platform.core.errors import DeclarationError
from ml_platform.features.duckdb import shared_out
from ml_platform.features.source import SameAsEvent, Source
from ml_platform.features.sql import quoted
from ml_platform.features.views import FeatureView
from ml_platform.features.windows import NEVER, changes_of_versions

__all__ = ["change_parts"]

_ENDS: Final = "__ends_us"
_PART: Final = "__part"


def change_parts(
    view: FeatureView,
    rows: ds.Dataset | pa.Table,
    *,
    parts: int,
    folder: Path,
    memory_bytes: int = 1_000_000_000,
    threads: int = 1,
) -> Iterator[pa.Table]:
    """All change points of a windowed view: those of ``windows.all_changes``, each entity's in one of the tables.

    Memory is DuckDB's share and, after that, one part's: about 400 bytes a row and aggregation of its largest.

    Args:
        view: a view with aggregations.
        rows: conformed rows of ``view.history``, each once, in any order.
        parts: how many; an entity's rows are all in one.
        folder: an empty folder for about the size of the rows; what is in it may be removed afterwards.
        memory_bytes: what DuckDB may take before it uses the folder.
        threads: DuckDB's.

    Raises:
        DeclarationError: the view has no aggregations, or there are no parts.
    """
    if not view.aggregations or parts < 1:
        raise DeclarationError(
            "Only aggregations have change points, in one part or more.",
            field=view.name if parts > 0 else "parts",
            next_step="Give a windowed view and parts=100, for example.",
        )
    shared_out(_query(view, parts), rows, by=_PART, folder=folder, memory_bytes=memory_bytes, threads=threads)
    schema = view.history.arrow_schema()
    for part in sorted((folder / "parts").glob(f"{_PART}=*")):
        table: Any = pa.concat_tables(pq.read_table(file, partitioning=None) for file in sorted(part.glob("*.parquet")))
        ends = table.column(_ENDS).to_numpy()
        yield changes_of_versions(view, table.select(schema.names).cast(schema), ends)


def _query(view: FeatureView, parts: int) -> str:
    source = view.history
    columns = ", ".join(quoted(name) for name in source.arrow_schema().names)
    keys = [quoted(key) for key in view.entity.keys]
    with_key = " AND ".join(f"{key} IS NOT NULL" for key in keys)
    return (
        f"SELECT *, hash({', '.join(keys)}) % {parts} AS {_PART} "
        f"FROM (SELECT {columns}, {_ends(source)} AS {_ENDS} FROM history) WHERE {with_key}"
    )


def _ends(source: Source) -> str:
    if isinstance(source.known_time, SameAsEvent) and not source.tie_break:
        return f"{NEVER}::BIGINT"  # a fact has one version: nothing tells two apart
    event, known = quoted(source.event_time), quoted(source.known_column)
    fact = ", ".join([*(quoted(key) for key in source.keys), event])
    order = ", ".join(quoted(name) for name in (source.known_column, *source.tie_break))
    following = f"lead(epoch_us(greatest({event}, {known}))) OVER (PARTITION BY {fact} ORDER BY {order})"
    return f"coalesce({following}, {NEVER}::BIGINT)"
