"""The command `prefect`, for a server on SQLite: a transaction that may write takes SQLite's lock when it begins.

Prefect begins most of them with BEGIN DEFERRED and a SELECT. If another connection commits before the first write, SQLite refuses the write
at once with "database is locked"; no time-out applies. With BEGIN IMMEDIATE the transaction waits for its turn, up to Prefect's 60 s.
Postgres knows neither statement.
"""

import runpy
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine


def lock_at_once(  # noqa: PLR0917 - SQLAlchemy calls it
    connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
) -> tuple[str, Any]:
    """A listener of SQLAlchemy's event `before_cursor_execute`."""
    del connection, cursor, context, many
    return ("BEGIN IMMEDIATE" if statement == "BEGIN DEFERRED" else statement), parameters


if __name__ == "__main__":
    event.listen(Engine, "before_cursor_execute", lock_at_once, retval=True)
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)
