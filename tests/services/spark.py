"""A real local Spark session for tests: two workers, little memory, loopback only, one per test process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from ml_platform.core.spark import SparkSettings, connector_jars, open_spark
from tests.conftest import missing

LOCAL = SparkSettings(
    master="local[2,4]",  # a task may fail three times, as on a cluster
    memory="768m",
    conf={
        "spark.sql.shuffle.partitions": "2",
        "spark.default.parallelism": "2",
        "spark.databricks.delta.snapshotPartitions": "1",
        "spark.log.level": "ERROR",
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",  # half the start of a short session
    },
)


def require_spark() -> None:
    """Skips where a part of Spark is absent; fails where CI promises it."""
    pytest.importorskip("pyspark") if shutil.which("java") else missing("java (Debian package openjdk-17-jre-headless)")
    if not connector_jars(LOCAL):
        missing("Spark's connectors are not copied: run `make jars` (needs the Debian package maven)")


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The session of this test process; stopped, with its Java machine, when the tests end."""
    require_spark()
    folder = str(tmp_path_factory.mktemp("spark"))
    local = {"spark.local.dir": folder, "spark.sql.warehouse.dir": f"{folder}/warehouse"}
    session = open_spark(SparkSettings(LOCAL.master, LOCAL.memory, conf={**LOCAL.conf, **local}), name="tests")
    yield session
    gateway = session.sparkContext._gateway
    session.stop()
    gateway.shutdown()
    if gateway.proc.stdin is not None:
        gateway.proc.stdin.close()  # the launcher ends the Java machine when its input closes
    gateway.proc.wait(timeout=30)
