"""Rows of sources on Spark: conformed, and computed by the SQL that is written in DuckDB's dialect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from ml_platform.core.errors import DataError, DeclarationError, SchemaMismatch, SettingsError
from ml_platform.features.source import Source
from ml_platform.features.sql import check_order_free, rename_tables

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

__all__ = ["SPARK_TYPES", "check_zone", "conform", "evaluate_source", "named", "quoted"]

SPARK_TYPES: Final = {
    "int64": "bigint",
    "float64": "double",
    "string": "string",
    "bool": "boolean",
    "timestamp": "timestamp",
    "date": "date",
}


def quoted(name: str) -> str:
    """A Spark identifier, quoted."""
    return "`" + name.replace("`", "``") + "`"


def named(name: str) -> Column:
    """A column by its whole name, dots and all."""
    from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

    return F.col(quoted(name))


def check_zone(frame: DataFrame) -> None:
    """Refuses a session in which a day or a text would mean other instants than elsewhere.

    Raises:
        SettingsError: the session's time zone is not UTC.
    """
    if frame.sparkSession.conf.get("spark.sql.session.timeZone") not in ("UTC", "Etc/UTC"):
        raise SettingsError(
            "The session's time zone is not UTC.",
            field="spark.sql.session.timeZone",
            next_step="Open the session by open_spark, or set it to UTC.",
        )


def conform(source: Source, frame: DataFrame) -> DataFrame:
    """The declared columns, by name, each row once; the counterpart of ``Source.conform``.

    Types must be the declared ones. Rows that break a promise fail the job that reads them, not this call: a null key
    or time, NaN or infinity; and, when a view is computed, rows with the same identity that differ elsewhere.

    Raises:
        SchemaMismatch: a column is missing, not declared or mistyped.
        SettingsError: the session's time zone is not UTC.
    """
    check_zone(frame)
    found = dict(frame.dtypes)
    for name, kind in source.stored_columns.items():
        if found.pop(name, None) != SPARK_TYPES[kind]:
            raise SchemaMismatch(
                "The column is missing or has another type.", field=name, next_step=f"Deliver {SPARK_TYPES[kind]}."
            )
    if found:
        raise SchemaMismatch(
            "A column is not declared.", field=", ".join(sorted(found)), next_step="Select the declared columns."
        )
    required = {field.name for field in source.arrow_schema() if not field.nullable}
    columns = [_checked(name, kind, required=name in required) for name, kind in source.stored_columns.items()]
    return frame.select(*columns).distinct()


def _checked(name: str, kind: str, *, required: bool) -> Column:
    from pyspark.sql import functions as F  # noqa: N812

    column = named(name)
    if required:
        column = _unless(named(name).isNull(), f"{name}: a key, time or tie-break is null.", column, kind)
    if kind == "float64":
        broken = F.isnan(named(name)) | (F.abs(named(name)) == F.lit(float("inf")))
        column = _unless(broken, f"{name}: NaN or infinity.", column, kind)
    return column.alias(name)


def _unless(broken: Column, message: str, column: Column, kind: str) -> Column:
    from pyspark.sql import functions as F  # noqa: N812

    return F.when(broken, F.raise_error(F.lit(message)).cast(SPARK_TYPES[kind])).otherwise(column)


def evaluate_source(source: Source, inputs: Mapping[str, DataFrame]) -> DataFrame:
    """The rows of a SQL source over conformed inputs (by logical name), conformed, in no order.

    The SQL is translated from DuckDB's dialect to Spark's. Aggregate functions whose result depends on the order of
    rows (sums of doubles, for example) are refused: Spark has no order.

    Raises:
        DeclarationError: the source has no SQL, an input is missing, or the SQL depends on the order of rows.
        DataError: Spark cannot read the translated SQL.
        SchemaMismatch: its columns are not the declared ones.
    """
    from pyspark.errors import AnalysisException

    missing = [item.name for item in source.inputs if item.name not in inputs]
    if source.sql is None or missing:
        raise DeclarationError(
            "The source has no SQL, or an input is missing.",
            field=", ".join(missing) or source.name,
            next_step="Give a frame for each input, by its logical name.",
        )
    check_order_free(source.sql, {item.name: item.stored_columns for item in source.inputs})
    physical = {item.name: f"input_{uuid4().hex}" for item in source.inputs}
    session = next(iter(inputs.values())).sparkSession
    for logical, view in physical.items():
        inputs[logical].createOrReplaceTempView(view)
    try:
        frame = session.sql(rename_tables(source.sql, physical, dialect="spark"))
    except AnalysisException as error:
        raise DataError(
            f"Spark cannot read the translated SQL ({error.getCondition()}).",
            field=source.name,
            next_step="Write it without functions that only DuckDB has.",
        ) from None
    finally:
        for view in physical.values():
            session.catalog.dropTempView(view)
    return conform(source, _cast(source, frame))


def _cast(source: Source, frame: DataFrame) -> DataFrame:
    """Integers and floats of another width in the declared one, as conforming does elsewhere; nothing else."""
    wider = {"bigint": ("tinyint", "smallint", "int"), "double": ("float",), "timestamp": ("timestamp_ntz",)}
    columns = []
    for name, kind in frame.dtypes:
        wanted = SPARK_TYPES.get(source.stored_columns.get(name, ""), kind)
        fits = kind in wider.get(wanted, ())
        columns.append(named(name).cast(wanted).alias(name) if fits else named(name))
    return frame.select(*columns)
