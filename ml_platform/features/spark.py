"""Spark as the engine of large histories: the same definitions, the same values.

The point-in-time join is one window a view: requests and rows of a key stand in one order of time, and a running
maximum says which row holds. Windowed aggregations and facts that may be withdrawn are swept entity by entity, by the
very code that the embedded engine uses, in Spark's Python workers, where ``ml_platform`` must be installed. Nothing
depends on partitions or on the order of rows, and results have no order.

Who calls this: jobs whose sources outgrow one machine. Sessions come from ``core.spark.open_spark``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import pyarrow as pa

from ml_platform.core.errors import DeclarationError, SchemaMismatch
from ml_platform.features.asof import History, Join, check_names
from ml_platform.features.held import held_changes
from ml_platform.features.source import Source
from ml_platform.features.spark_sources import SPARK_TYPES, check_zone, named, quoted
from ml_platform.features.views import FeatureView
from ml_platform.features.windows import NEVER, changes_of_versions, changes_schema

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

__all__ = ["all_changes", "point_in_time"]

_ARROW_TYPES: Final[dict[Any, str]] = {
    pa.int64(): "bigint",
    pa.float64(): "double",
    pa.string(): "string",
    pa.bool_(): "boolean",
    pa.timestamp("us", "UTC"): "timestamp",
    pa.date32(): "date",
}
_ENDS: Final = "__ends_us"
_DUPLICATES: Final = (
    "Rows with the same key and times differ elsewhere: give corrections a later known time, or declare a tie_break."
)


def _with_ends(source: Source, rows: DataFrame) -> DataFrame:
    """Each version with when the next one of its fact is known (µs); fails where two cannot be told apart."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F  # noqa: N812

    order = [named(name) for name in (source.known_column, *source.tie_break)]
    fact = Window.partitionBy(*(named(key) for key in source.keys), named(source.event_time)).orderBy(*order)
    version = F.struct(*order)
    e = F.unix_micros(F.greatest(named(source.event_time), named(source.known_column)))
    ends = F.when(F.lag(version).over(fact) == version, F.raise_error(F.lit(_DUPLICATES)).cast("bigint")).otherwise(
        F.coalesce(F.lead(e).over(fact), F.lit(int(NEVER)))
    )
    return rows.withColumn(_ENDS, ends)


def _swept(
    source: Source,
    keys: Sequence[str],
    rows: DataFrame,
    schema: pa.Schema,
    sweep: Callable[[pa.Table, Any], pa.Table],
) -> DataFrame:
    """All rows of an entity in one partition, and the sweep over each partition."""
    versions = _with_ends(source, rows)
    for key in keys:
        versions = versions.filter(named(key).isNotNull())  # after the ends: such a version still ends the one before
    stored = source.arrow_schema()

    def run(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        read = list(batches)
        if not read:
            return
        table = pa.Table.from_batches(read)
        ends: Any = table.column(_ENDS).to_numpy()
        swept = sweep(table.select(stored.names).cast(stored), ends)
        yield from swept.cast(schema).to_batches(max_chunksize=65_536)

    ddl = ", ".join(f"{quoted(field.name)} {_ARROW_TYPES[field.type]}" for field in schema)
    return versions.repartition(*(named(key) for key in keys)).mapInArrow(run, ddl)


def all_changes(view: FeatureView, rows: DataFrame) -> DataFrame:
    """Every change point of a windowed view, as ``windows.all_changes`` gives them, in no order.

    An entity's rows must fit into a worker's memory, with those of the other entities in its partition: more
    partitions (``spark.sql.shuffle.partitions``) are smaller ones.

    Args:
        view: a view with aggregations.
        rows: conformed rows of ``view.history``.

    Raises:
        DeclarationError: the view has no aggregations.
    """
    if not view.aggregations:
        raise DeclarationError("The view has no aggregations.", field=view.name, next_step="Store its rows instead.")
    check_zone(rows)

    def sweep(table: pa.Table, ends: Any) -> pa.Table:
        return changes_of_versions(view, table, ends)

    return _swept(view.history, view.entity.keys, rows, changes_schema(view), sweep)


def point_in_time(rows: DataFrame, *, time: str, joins: Sequence[Join]) -> DataFrame:
    """The rows, in no order, with the features that were known at each row's time; as ``duckdb.point_in_time``.

    A key may be a feature of an earlier join.

    Args:
        rows: any frame; ``time`` is a timestamp column without nulls.
        time: the request time T.
        joins: the views; the data of each history is a Spark frame of conformed rows or of change points.

    Raises:
        SchemaMismatch: a column is missing, or a key or time has another type.
        DeclarationError: two columns of the result would have the same name.
        SettingsError: the session's time zone is not UTC.
    """
    check_zone(rows)
    check_names(rows.columns, joins)
    _check_time(rows, time)
    for join in joins:
        _check_types(rows, join)
        rows = _join_one(rows, time, join)
    return rows


def _join_one(rows: DataFrame, time: str, join: Join) -> DataFrame:
    from pyspark.sql import Window
    from pyspark.sql import functions as F  # noqa: N812

    history = join.history
    keys = [f"__k{i}" for i in range(len(history.keys))]
    asked = rows.select(
        *(named(own).alias(key) for own, key in zip(join.key_columns, keys, strict=True)),
        _floored(named(time), history.refresh_us).alias("__at"),
        F.lit(1).alias("__asks"),
        F.struct(*(named(name) for name in rows.columns)).alias("__row"),
    )
    events = _events(history, keys)
    both = asked.unionByName(events, allowMissingColumns=True)
    # Rows before requests at the same time: what is known at T counts at T.
    past = Window.partitionBy(*keys).orderBy("__at", "__asks").rowsBetween(Window.unboundedPreceding, 0)
    found = both.withColumn("__last", F.max("__held").over(past)).filter("__asks = 1")
    return found.select("__row.*", *_answers(history, join, keys, F.col(f"__row.{quoted(time)}")))


def _floored(time: Column, refresh_us: int | None) -> Column:
    from pyspark.sql import functions as F  # noqa: N812

    micros = F.unix_micros(time)
    return micros if refresh_us is None else micros - F.pmod(micros, F.lit(refresh_us))


def _events(history: History, keys: Sequence[str]) -> DataFrame:
    """One row for each instant at which another row may begin to hold: its keys, the instant, and what then holds."""
    from pyspark.sql import functions as F  # noqa: N812

    data = cast("DataFrame", history.data)
    event, known = named(history.event_time), named(history.known_time)
    values = [named(value).alias(f"v{i}") for i, value in enumerate(history.values)]
    if history.deleted is None:
        at = F.unix_micros(F.greatest(event, known))
        ties = [named(column).alias(f"t{i}") for i, column in enumerate(history.tie_break)]
        # The largest struct so far is the row that holds: its fields are compared from the left.
        held = F.struct(event.alias("ev"), known.alias("kn"), *ties, *values)
    else:
        data = _held(history, data)
        at = F.unix_micros(named("__at"))
        held = F.struct(named("__at").alias("at"), event.alias("ev"), known.alias("kn"), *values)
    for key in history.keys:
        data = data.filter(named(key).isNotNull())
    renamed = [named(own).alias(key) for own, key in zip(history.keys, keys, strict=True)]
    return data.select(*renamed, at.alias("__at"), F.lit(0).alias("__asks"), held.alias("__held"))


def _held(history: History, data: DataFrame) -> DataFrame:
    """Where facts may be withdrawn: from when on which row of an entity is the last one, or none."""
    kinds = {spark: kind for kind, spark in SPARK_TYPES.items()}
    source = Source(
        "history",
        columns={name: kinds[spark] for name, spark in data.dtypes},
        keys=history.keys,
        event_time=history.event_time,
        known_time=history.known_time,
        tie_break=history.tie_break,
        deleted=history.deleted,
    )
    nullable = [field.with_nullable(nullable=True) for field in source.arrow_schema()]
    schema = pa.schema([pa.field("__at", pa.timestamp("us", "UTC")), *nullable])

    def sweep(table: pa.Table, ends: Any) -> pa.Table:
        return held_changes(source, table, np.asarray(ends))

    return _swept(source, history.keys, data, schema, sweep)


def _answers(history: History, join: Join, keys: Sequence[str], time: Column) -> list[Column]:
    from pyspark.sql import functions as F  # noqa: N812

    has_key = reduce(and_, (F.col(key).isNotNull() for key in keys))
    alive = has_key & F.col("__last.ev").isNotNull()
    if history.ttl_us is not None:
        alive &= F.unix_micros(time) - F.unix_micros(F.col("__last.ev")) < F.lit(history.ttl_us)
    columns = []
    for i, value in enumerate(history.values):
        held = F.when(alive, F.col(f"__last.v{i}"))
        if value in history.when_empty:
            held = F.when(has_key, F.coalesce(held, F.lit(float(history.when_empty[value]))))
        columns.append(held)
    columns += [F.when(alive, F.col(f"__last.{name}")) for name in ("ev", "kn")]
    return [column.alias(name) for column, name in zip(columns, join.output_names(), strict=True)]


def _check_time(frame: DataFrame, name: str) -> None:
    kind = _type_of(frame, name)
    if kind != "timestamp":
        raise SchemaMismatch("The column is no timestamp with a zone.", field=name, next_step="Deliver UTC times.")


def _type_of(frame: DataFrame, name: str) -> str:
    found = dict(frame.dtypes)
    if name not in found:
        raise SchemaMismatch("The column is missing.", field=name, next_step=f"There are {', '.join(sorted(found))}.")
    kind = found[name]
    return "integer" if kind in ("tinyint", "smallint", "int", "bigint") else kind


def _check_types(rows: DataFrame, join: Join) -> None:
    history: Any = join.history
    for column in (*history.values, *history.tie_break, *([history.deleted] if history.deleted else [])):
        _type_of(history.data, column)
    _check_time(history.data, history.event_time)
    _check_time(history.data, history.known_time)
    for own, theirs in zip(join.key_columns, history.keys, strict=True):
        if _type_of(rows, own) != _type_of(history.data, theirs):
            raise SchemaMismatch(
                f"The key has another type than in {join.view}.", field=own, next_step="Deliver the declared type."
            )
