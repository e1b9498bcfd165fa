"""Looks at tables in Unity Catalog with requests only, for a worker on which no Spark is installed.

Unity Catalog says whether a table exists. A SQL warehouse counts its rows, if the settings name one.
Source: https://docs.databricks.com/api/workspace/statementexecution
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from car_damage.adapters.databricks import workspace
from car_damage.errors import RequestRefused, Unavailable
from car_damage.machine import absolute
from car_damage.ports import Clock, RowCounts

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

WAIT = "30s"
"""How long a request waits for the result of its statement; 5 to 50 s are allowed."""
POLL = 2.0
"""Seconds between two looks at a statement that takes longer."""
START = 600.0
"""Seconds that a statement may take, with the start of the warehouse."""


class WorkspaceCensus:
    """The port `Census` by databricks-sdk.

    Args:
        warehouse: id of the SQL warehouse that counts the rows; None: they are not looked at.
        clock: waits for the warehouse.
        client: makes the workspace client; called once.
    """

    def __init__(self, warehouse: str | None, clock: Clock, client: "Callable[[], WorkspaceClient]" = workspace.client) -> None:
        self._warehouse, self._clock, self._make = warehouse, clock, client

    def count(self, table: str, by: Sequence[str], folder: str | None = None) -> RowCounts:
        if not self._exists(table):
            return RowCounts(exists=False)
        if self._warehouse is None:
            return RowCounts(exists=True, rows=None)
        with workspace.translated(f"counting the rows of {table}", needs="CAN USE on the SQL warehouse, and SELECT on the table"):
            found = self._rows(table, by, folder)
        rows = {(*values, here == "true") if folder else (*values, here): int(number) for *values, here, number in found}
        return RowCounts(exists=True, rows=rows)

    def _exists(self, table: str) -> bool:
        from databricks.sdk.errors import NotFound

        with workspace.translated(f"looking for the table {table}", needs="SELECT on it, and USE SCHEMA on its schema"):
            try:
                return bool(self._api.tables.exists(table).table_exists)
            except NotFound:  # its schema is missing, too
                return False

    def _rows(self, table: str, by: Sequence[str], folder: str | None) -> list[list[Any]]:
        """One row for each combination of values: the values and the number of rows, all as text."""
        from databricks.sdk.service.sql import ExecuteStatementRequestOnWaitTimeout, StatementParameterListItem, StatementState

        here = ["startswith(path, :folder)"] if folder else []
        columns, name = ", ".join([*by, *here]), ".".join(f"`{part}`" for part in table.split("."))
        below = [StatementParameterListItem("folder", value=absolute(folder).rstrip("/") + "/")] if folder else None
        deadline = self._clock.monotonic() + START
        api = self._api.statement_execution
        answer = api.execute_statement(
            f"SELECT {columns}, count(*) FROM {name} GROUP BY {columns}",  # noqa: S608 - the names are ours and those of the settings
            self._warehouse,
            parameters=below,
            wait_timeout=WAIT,
            on_wait_timeout=ExecuteStatementRequestOnWaitTimeout.CONTINUE,
        )
        while answer.status.state in {StatementState.PENDING, StatementState.RUNNING}:
            if self._clock.monotonic() > deadline:
                api.cancel_execution(answer.statement_id)
                raise Unavailable(f"the SQL warehouse {self._warehouse} has not counted the rows of {table} within {START:.0f} s")
            self._clock.sleep(POLL)
            answer = api.get_statement(answer.statement_id)
        if answer.status.state is not StatementState.SUCCEEDED:
            error = answer.status.error
            raise RequestRefused(f"counting the rows of {table} failed{f': {error.message}' if error and error.message else ''}")
        return list((answer.result and answer.result.data_array) or [])

    @cached_property
    def _api(self) -> "WorkspaceClient":
        return self._make()
