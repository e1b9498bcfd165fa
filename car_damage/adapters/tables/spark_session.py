"""Creates the Spark session of the settings, with Delta Lake."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from car_damage.adapters.tables.spark_errors import condition, short
from car_damage.errors import SettingsError, Terminal, Unavailable
from car_damage.machine import cores
from car_damage.settings import Spark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

JAVA = 17
"""The oldest Java version that Spark runs on."""
_JAVA_TIMEOUT = 30.0
"""Seconds for `java -version`."""
_CONNECT_PORT = 15002
"""The default port of a Connect server."""
_CONNECT_TIMEOUT = 10.0
"""Seconds for a connection to a server of Spark."""
_EXTRA = "pip install 'car-damage[spark]'"


def session(settings: Spark, warehouse: Path) -> "SparkSession":
    """The session of the Databricks cluster or job, of a Connect server, of a master, or of this process.

    Args:
        settings: where Spark runs, and Spark's own settings.
        warehouse: a folder for Spark's own files, which Spark creates when it needs it.

    Raises:
        Terminal: pyspark, delta-spark, Java or Delta's jars are missing. The message says what to install.
        SettingsError: `spark.master` is not an address.
        Unavailable: the Connect server or the master does not answer.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise Terminal(f"tables.engine = spark needs pyspark and delta-spark: {_EXTRA}") from error
    if "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return SparkSession.builder.getOrCreate()
    if settings.master.startswith("sc://"):
        return _connected(settings)
    return _started(settings, warehouse)


def check_java() -> None:
    """Check the Java that Spark needs.

    Raises:
        Terminal: Java is missing, does not run, or is too old. The message says what to install.
    """
    wanted = f"tables.engine = spark needs Java {JAVA} or later: install it (Debian: openjdk-{JAVA}-jre-headless), or set JAVA_HOME"
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if java is None or not Path(java).exists():
        raise Terminal(f"there is no Java{f' in JAVA_HOME={home}' if home else ''}; {wanted}")
    try:
        output = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=_JAVA_TIMEOUT, check=False).stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Terminal(f"{java} does not run ({error}); {wanted}") from error
    number = output.partition('version "')[2].partition('"')[0].partition(".")[0]
    if not number.isdecimal():
        raise Terminal(f"{java} -version prints no version, but: {output.strip()[:200] or 'nothing'}; {wanted}")
    if int(number) < JAVA:
        raise Terminal(f"{java} is Java {number}; {wanted}")


def _connected(settings: Spark) -> "SparkSession":
    try:
        from pyspark.sql.connect.session import SparkSession as ConnectSession
    except ImportError as error:
        raise Terminal(f"spark.master = sc://... needs Spark Connect's client: {_EXTRA}") from error
    from pyspark.errors import PySparkException, PySparkValueError

    try:
        # The address may contain a token, so Spark's errors, which contain the address, are not passed on.
        builder = ConnectSession.builder.remote(settings.master)
        address = urlsplit(settings.master)
        host, port = address.hostname or "", address.port or _CONNECT_PORT
    except (PySparkException, ValueError):
        raise SettingsError(
            "spark.master is not an address of a Spark Connect server; expected sc://host:port, optionally with /;token=... at the end"
        ) from None
    for name, value in settings.conf.items():
        builder = builder.config(name, value)
    where = f"the Spark Connect server of spark.master, {host}:{port},"
    try:
        # The client itself would retry for ten minutes.
        socket.create_connection((host, port), _CONNECT_TIMEOUT).close()
        found = builder.create()  # getOrCreate could return a session of another server
    except PySparkValueError:
        raise SettingsError("spark.master: Spark refuses the parameters after /;") from None
    except (OSError, PySparkException) as error:
        raise Unavailable(f"{where} does not answer: {short(error)}; start it as docs/spark.md shows, or correct spark.master") from error
    try:
        found.sql("DESCRIBE HISTORY delta.`/car-damage-looks-for-delta` LIMIT 1").collect()
    except PySparkException as error:
        if condition(error).startswith("PARSE"):
            raise Terminal(
                f"{where} lacks Delta Lake: start it with delta-spark's jar and its SQL extension, as docs/spark.md shows"
            ) from error
        # Any other error comes from Delta, because the table does not exist.
    return found  # type: ignore[return-value] # it has the methods that both kinds of session have


def _check_master(master: str) -> None:
    """Fail fast if no master answers. Spark itself retries for 90 seconds, and its error names neither the master nor the cause."""
    if not master.startswith("spark://"):
        return
    tried = []
    for address in master.removeprefix("spark://").split(","):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host or address, int(port)), _CONNECT_TIMEOUT).close()
        except ValueError:
            raise SettingsError(f"spark.master: {address} is not a host and port") from None
        except OSError as error:
            tried.append(f"{address}: {error.strerror or error}")
        else:
            return
    raise Unavailable(f"no Spark master answers ({'; '.join(tried)}): start it, or correct spark.master")


def _started(settings: Spark, warehouse: Path) -> "SparkSession":
    try:
        from delta import configure_spark_with_delta_pip
    except ImportError as error:
        raise Terminal(f"tables.engine = spark needs delta-spark: {_EXTRA}") from error
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    check_java()
    _check_master(settings.master)
    if settings.master.startswith("local"):
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # otherwise Spark's workers use the first python3 on the PATH
    few = str(2 * cores())  # the defaults, 200, 50 and, for each VACUUM, 10,000, are too many for small tables of metadata
    builder = SparkSession.builder.master(settings.master).appName("car-damage")
    for name, value in {
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.warehouse.dir": str(warehouse),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": few,
        "spark.databricks.delta.snapshotPartitions": few,
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": few,
        **settings.conf,
    }.items():
        builder = builder.config(name, value)
    if "spark.jars" not in settings.conf:  # a setting of jars includes Delta's
        packages = [name for name in settings.conf.get("spark.jars.packages", "").split(",") if name]
        builder = configure_spark_with_delta_pip(builder, packages)
    try:
        return builder.getOrCreate()
    except (PySparkException, Py4JError) as error:
        raise Terminal(
            f"Spark did not start on {settings.master}: {short(error)}. The lines above come from Spark and show the cause: Spark or Java "
            "refuses a setting in spark.conf, or Delta's jars are missing. Spark downloads them from Maven Central at its first start; "
            "without access to it, set spark.jars in spark.conf to the jars' files"
        ) from error
