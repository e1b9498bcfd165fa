"""The limit that `deployments.prefect_server` sets for SQLite's caches."""

import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path

from deployments.prefect_server import SQLITE_BYTES

CONNECTIONS = 5
DATABASE_BYTES = 30 * 10**6
# A process of its own, because the limit is one of the process. The connections are opened as Prefect opens them.
READ_BY_ALL = """
import contextlib, runpy, sqlite3, sys
import psutil

_, database, number = sys.argv
sys.argv = ["prefect", "--version"]
with contextlib.suppress(SystemExit):
    runpy.run_module("deployments.prefect_server", run_name="__main__", alter_sys=True)
process = psutil.Process()
before, connections = process.memory_info().rss, []
for _ in range(int(number)):
    connections.append(sqlite3.connect(database))
    connections[-1].execute("PRAGMA cache_size = 20000")
    for row in connections[-1].execute("SELECT data FROM artifact"):
        pass
print(process.memory_info().rss - before)
"""


def test_connections_that_read_the_whole_database_do_not_each_keep_it_in_memory(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "prefect.db")) as database, database:
        database.execute("CREATE TABLE artifact (data BLOB)")
        database.executemany("INSERT INTO artifact VALUES (zeroblob(?))", [(10**6,)] * (DATABASE_BYTES // 10**6))
    command = [sys.executable, "-c", READ_BY_ALL, str(tmp_path / "prefect.db"), str(CONNECTIONS)]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])
    assert grown < 1.5 * SQLITE_BYTES < CONNECTIONS * DATABASE_BYTES
