"""The three engines behind the port Tables: delta-rs, Spark in this process, and Spark Connect."""

import fcntl
import os
import socket
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from car_damage.adapters.folder import Folder
from car_damage.adapters.tables.delta_rs import DeltaRs
from car_damage.adapters.tables.spark import SparkDelta
from car_damage.adapters.tables.spark_session import check_java, session
from car_damage.errors import Terminal
from car_damage.ports import Tables
from car_damage.settings import Images, Spark

DELTA_RS, SPARK, CONNECT = "delta-rs", "spark", "connect"
ENGINES = (DELTA_RS, SPARK, CONNECT)
FEW_ROWS = {
    "spark.sql.shuffle.partitions": "1",
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "1",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
    "spark.ui.enabled": "false",
}
"""Settings of Spark for tables with few rows: most time would go into generating code for them."""
FAST_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""Options of Java for fast compilation: no test runs long enough to gain from optimised code."""


class Sessions:
    """One Java process with Spark, which also serves Spark Connect. The two sessions reach it in different ways."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = 0

    @cache  # noqa: B019 - lives as long as the test session
    def classic(self) -> Any:
        """The session of this process. Without Java the test is skipped; in continuous integration it fails."""
        try:
            check_java()
        except Terminal as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        conf = {
            "spark.plugins": "org.apache.spark.sql.connect.SparkConnectPlugin",
            "spark.connect.grpc.binding.address": "127.0.0.1",
            "spark.connect.grpc.binding.port": str(self.port),
            "spark.driver.extraJavaOptions": FAST_JAVA,
            "spark.log.level": "OFF",
            **FEW_ROWS,
        }
        # Only one process at a time: the download of the jars takes no lock.
        with Path(tempfile.gettempdir(), "car-damage-tests-spark.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return session(Spark(master="local[2,4]", conf=conf), self._folder)

    @cache  # noqa: B019 - lives as long as the test session
    def connected(self) -> Any:
        """A session of Spark Connect, over a socket."""
        self.classic()
        return session(Spark(master=f"sc://127.0.0.1:{self.port}"), self._folder)

    def stop(self) -> None:
        """End Spark, if it was started."""
        if self.connected.cache_info().currsize:
            self.connected().stop()
        if self.classic.cache_info().currsize:
            self.classic().stop()


def tables(engine: str, root: Path, sessions: Sessions, sleep: Callable[[float], None] = lambda _: None) -> Tables:
    """The tables of one of `ENGINES` below a folder. Without `sleep`, they never wait."""
    if engine == DELTA_RS:
        return DeltaRs(root, Folder(), Images(), sleep)
    return SparkDelta(sessions.classic if engine == SPARK else sessions.connected, Folder(), root, sleep)
