"""Ways to tamper with a root, as somebody with access to its files would."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ml_platform import Platform

HEADERS, PERSONAL = "predictions", "predictions_personal"
Change = Callable[[list[dict]], list[dict]]


def files(platform: Platform, table: str) -> list[Path]:
    return sorted((platform.root / "lake" / "small_risk" / table).rglob("*.parquet"))


def rewrite(path: Path, change: Change) -> None:
    """Replaces a Parquet file, and pads it or not: Delta notes sizes, and a careful hand keeps them."""
    table = pq.read_table(path, partitioning=None)
    rows = change(table.to_pylist())
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def rewrite_all(platform: Platform, table: str, change: Change) -> None:
    for path in files(platform, table):
        rewrite(path, change)


def through_delta(platform: Platform, table: str, change: Change) -> None:
    """The same with Delta's own means: a new version of the table, all sizes right."""
    from deltalake import write_deltalake

    name = f"small_risk/{table}"
    stored = platform.lake.read(name)
    rows = change(stored.to_pylist())
    write_deltalake(
        platform.lake.uri(name),
        pa.Table.from_pylist(rows, schema=stored.schema),
        mode="overwrite",
        partition_by=["decided_date"],
    )


def setting(prediction_id: str, **values: object) -> Change:
    return lambda rows: [{**row, **values} if row["prediction_id"] == prediction_id else row for row in rows]


def without(prediction_id: str) -> Change:
    return lambda rows: [row for row in rows if row["prediction_id"] != prediction_id]


def doubled(original: str, **values: object) -> Change:
    return lambda rows: rows + [{**row, **values} for row in rows if row["prediction_id"] == original]


def overwrite(platform: Platform, path: str, raw: bytes) -> None:
    (platform.root / "store" / path).write_bytes(raw)


def snapshot_file(platform: Platform) -> Path:
    return next((platform.root / "store" / "snapshots").rglob("data.parquet"))


def edit_log(platform: Platform, statement: str, *values: object) -> None:
    """With ``sqlite3``, behind the registry's back."""
    platform.registry.close()
    with sqlite3.connect(platform.root / "registry.sqlite") as connection:
        for (name,) in connection.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            connection.execute(f"drop trigger {name}")
        connection.execute(statement, values)
