"""Spark sessions: one way to open one, for features and batch scoring; connectors for Delta, Kafka and S3.

``make jars`` copies the connectors (``deploy/jars/spark/pom.xml``) to where ``SparkSettings.jars`` finds them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ml_platform.core.errors import SettingsError
from ml_platform.core.storage import StorageSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["JARS_VARIABLE", "SparkSettings", "connector_jars", "open_spark", "spark_storage", "spark_uri"]

JARS_VARIABLE: Final = "ML_PLATFORM_SPARK_JARS"
_CHECKOUT_JARS: Final = Path(__file__).resolve().parents[2] / ".cache" / "jars" / "spark"


@dataclass(frozen=True)
class SparkSettings:
    """Where Spark runs and what it may use.

    Args:
        master: ``local[n,f]`` (n workers on this machine, a task may fail f − 1 times), ``spark://…``, ``yarn``,
            ``k8s://…``.
        memory: of the driver's and of each executor's Java machine, as Spark writes it (``1g``).
        jars: a folder of connectors; by default that of the environment variable ``ML_PLATFORM_SPARK_JARS``, else the
            one that ``make jars`` fills. None there: Spark without Delta, Kafka and S3.
        conf: Spark's own settings by name, which win over ours.
    """

    master: str = "local[*,4]"
    memory: str = "1g"
    jars: str = ""
    conf: Mapping[str, str] = field(default_factory=dict)


def connector_jars(settings: SparkSettings) -> list[Path]:
    """The connectors of a session, sorted; empty where nobody copied any and none were asked for.

    Raises:
        SettingsError: the folder that the settings or the environment name holds none.
    """
    named = settings.jars or os.environ.get(JARS_VARIABLE, "")
    found = sorted(Path(named or _CHECKOUT_JARS).glob("*.jar"))
    if named and not found:
        raise SettingsError("The folder holds no jars.", field="spark.jars", next_step="Run `make jars`, or name it.")
    return found


def open_spark(settings: SparkSettings, *, name: str = "ml_platform") -> SparkSession:
    """This process's Spark session; a session that is already running is returned as it is.

    Times are UTC; a local master listens on the loopback address only, without a web page; workers run the
    interpreter of this process unless ``PYSPARK_PYTHON`` names another.

    Raises:
        SettingsError: pyspark or Java is not there, or Spark does not start as it was told to.
    """
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise SettingsError(
            "Spark is not installed.", field="spark", next_step="Install the extra `spark`, and Java 17."
        ) from error
    if (running := SparkSession.getActiveSession()) is not None:
        return running
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(name)
    for key, value in _conf(settings).items():
        builder = builder.config(key, value)
    try:
        return builder.getOrCreate()
    except (PySparkException, OSError) as error:  # no Java, a wrong master, an unknown setting
        raise SettingsError(
            f"Spark did not start ({type(error).__name__}).",
            field="spark.master",
            next_step="Check that Java 17 is installed and the master answers.",
        ) from error


def _conf(settings: SparkSettings) -> dict[str, str]:
    jars = connector_jars(settings)
    conf = {
        "spark.master": settings.master,
        "spark.driver.memory": settings.memory,
        "spark.executor.memory": settings.memory,
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "65536",
    }
    if settings.master.startswith("local"):
        conf |= {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
        }
    if jars:
        conf["spark.jars"] = ",".join(str(jar) for jar in jars)
    if any(jar.name.startswith("delta-spark") for jar in jars):
        conf["spark.sql.extensions"] = "io.delta.sql.DeltaSparkSessionExtension"
        conf["spark.sql.catalog.spark_catalog"] = "org.apache.spark.sql.delta.catalog.DeltaCatalog"
    return conf | dict(settings.conf)


def spark_storage(storage: StorageSettings) -> dict[str, str]:
    """How Spark's file system for S3 reaches a store; credentials come from the environment's normal chain."""
    found = {
        "fs.s3a.endpoint": storage.endpoint,
        "fs.s3a.endpoint.region": storage.region,
        "fs.s3a.path.style.access": "true" if storage.endpoint else None,
        "fs.s3a.connection.ssl.enabled": "false" if (storage.endpoint or "").startswith("http://") else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def spark_uri(uri: str) -> str:
    """A folder or URL of ours as Spark's file systems name it.

    >>> spark_uri("s3://credit/lake"), spark_uri("gs://credit/lake")
    ('s3a://credit/lake', 'gs://credit/lake')
    """
    if uri.startswith("s3://"):
        return f"s3a://{uri.removeprefix('s3://')}"
    return uri if "://" in uri else Path(uri).absolute().as_uri()
