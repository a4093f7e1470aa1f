"""Sessions of the real Spark: Delta tables both ways, UTC, the connectors that were copied."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ml_platform.core.delta import Lake
from ml_platform.core.errors import SettingsError
from ml_platform.core.spark import SparkSettings, connector_jars, open_spark, spark_uri

AT = datetime(2010, 5, 1, 23, 59, 59, 123456, tzinfo=UTC)


def test_spark_reads_the_lake_and_the_lake_reads_what_spark_wrote(spark: Any, tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    rows = pa.table({"id": pa.array([1, 2], pa.int64()), "at": pa.array([AT, AT], pa.timestamp("us", "UTC"))})
    lake.append("ours", rows)
    read = spark.read.format("delta").load(spark_uri(lake.uri("ours")))
    assert read.toArrow().sort_by("id").select(["id", "at"]).to_pylist() == rows.to_pylist()
    read.write.format("delta").save(spark_uri(lake.uri("sparks")))
    assert lake.read("sparks").sort_by("id").to_pylist() == rows.to_pylist()


def test_workers_run_this_interpreter(spark: Any) -> None:
    def interpreters(batches: Any) -> Any:
        import sys as workers

        for _ in batches:
            yield pa.RecordBatch.from_pydict({"python": [workers.executable]})

    found = spark.range(1).mapInArrow(interpreters, "python string").toArrow().to_pylist()
    assert found == [{"python": sys.executable}]


def test_a_running_session_is_returned_as_it_is(spark: Any) -> None:
    assert open_spark(SparkSettings(master="local[7]")) is spark
    assert spark.sparkContext.master == "local[2,4]"


def test_the_connectors_of_kafka_and_s3_are_there(spark: Any) -> None:
    load = spark.sparkContext._jvm.java.lang.Thread.currentThread().getContextClassLoader().loadClass
    for name in ("org.apache.spark.sql.kafka010.KafkaSourceProvider", "org.apache.hadoop.fs.s3a.S3AFileSystem"):
        assert load(name).getName() == name
    names = [jar.name for jar in connector_jars(SparkSettings())]
    assert not [name for name in names if name.startswith(("hadoop-client", "parquet-", "scala-library", "bundle"))]


def test_a_folder_without_jars_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="make jars"):
        connector_jars(SparkSettings(jars=str(tmp_path)))


def test_uris_are_those_of_sparks_file_systems(tmp_path: Path) -> None:
    assert spark_uri("s3://bucket/lake") == "s3a://bucket/lake"
    assert spark_uri(str(tmp_path)) == tmp_path.as_uri()
    assert spark_uri("abfss://lake@account/x") == "abfss://lake@account/x"
