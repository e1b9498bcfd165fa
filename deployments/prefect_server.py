"""The command `prefect`, for a server on SQLite: transactions wait for their turn, and the caches of all connections have one limit.

Prefect begins most transactions that may write with BEGIN DEFERRED and a SELECT. If another connection commits before the first write,
SQLite refuses the write at once with "database is locked"; no time-out applies. With BEGIN IMMEDIATE the transaction waits for its turn, up
to Prefect's 60 s. Postgres knows neither statement.

Prefect gives each of its five connections a cache of 20,000 pages, which is 80 MB, and has no setting for it. Artifacts and events with
pictures fill them. SQLite itself gives each 2 MB. More is worth little here: a write through one connection voids the caches of the others,
which keep their memory until they are used again.
"""

import contextlib
import runpy
import sqlite3
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

SQLITE_BYTES = 16 * 2**20
"""Memory of all connections together, from which on SQLite reuses pages of a cache instead of adding some, in bytes."""


def lock_at_once(  # noqa: PLR0917 - SQLAlchemy calls it
    connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
) -> tuple[str, Any]:
    """A listener of SQLAlchemy's event `before_cursor_execute`."""
    del connection, cursor, context, many
    return ("BEGIN IMMEDIATE" if statement == "BEGIN DEFERRED" else statement), parameters


def limit_caches() -> None:
    """Set the limit. It is one of the process, not of the connection that sets it."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"PRAGMA soft_heap_limit = {SQLITE_BYTES}")


if __name__ == "__main__":
    limit_caches()
    event.listen(Engine, "before_cursor_execute", lock_at_once, retval=True)
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)
