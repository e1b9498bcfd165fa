"""Tables, as far as a worker sees them: whether they exist, and what a SQL warehouse counts.

Sources: https://docs.databricks.com/api/uc-tables/v1/table-exists.md, https://docs.databricks.com/api/workspace/statementexecution, and
libs/testserver/testsql/testsql.go in https://github.com/databricks/cli: a statement that fails is told with status 200.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Any

from tests.databricks.twin.core import Refused
from tests.databricks.twin.permissions import Permissions

STATEMENTS = "/api/2.0/sql/statements"
TABLES = "/api/2.1/unity-catalog/tables/"
WAREHOUSE = "4a1b2c3d4e5f6071"
_COUNT = re.compile(r"SELECT (.+), count\(\*\) FROM (`\w+`\.`\w+`\.`\w+`) GROUP BY (.+)")


class StatementsApi(Permissions):
    """Tables in Unity Catalog, and one SQL warehouse. It is no SQL engine: it only counts rows by the values of columns."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.rows: dict[str, list[dict[str, str | None]]] = {}
        """Full name -> rows."""
        self.looks = 1
        """Times that a statement is still running when somebody looks."""
        self._statements: dict[str, tuple[int, dict[str, Any]]] = {}
        """Id -> looks that are left, and the answer after them."""

    def _of_statements(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        """The answer, or None for a path of another API."""
        if method == "GET" and path.startswith(TABLES) and path.endswith("/exists"):
            name = path.removeprefix(TABLES).removesuffix("/exists")
            schema = name.rpartition(".")[0]
            if schema not in {table.rpartition(".")[0] for table in self.rows}:
                raise Refused(404, "SCHEMA_DOES_NOT_EXIST", f"Schema '{schema}' does not exist.")
            return {"table_exists": name in self.rows}
        if (method, path) == ("POST", STATEMENTS):
            return self._execute(body)
        if method == "POST" and path.startswith(f"{STATEMENTS}/") and path.endswith("/cancel"):
            self._statements[path.split("/")[-2]] = 0, {"status": {"state": "CANCELED"}}
            return {}
        if method == "GET" and (found := path.removeprefix(f"{STATEMENTS}/")) in self._statements:
            return self._state(found)
        return None

    def _execute(self, body: Any) -> Any:
        needed = {"statement", "warehouse_id"}
        self._only(body, needed | {"parameters", "wait_timeout", "on_wait_timeout"}, needed)
        if body["warehouse_id"] != WAREHOUSE:
            raise Refused(404, "NOT_FOUND", f"SQL warehouse {body['warehouse_id']} does not exist.")
        number = f"statement-{self._id()}"
        self._statements[number] = self.looks, self._counted(body["statement"], body.get("parameters", []))
        return self._state(number)

    def _state(self, number: str) -> dict[str, Any]:
        left, answer = self._statements[number]
        self._statements[number] = left - 1, answer
        return {"statement_id": number, **({"status": {"state": "PENDING"}} if left > 0 else answer)}

    def _counted(self, statement: str, parameters: list[dict[str, str]]) -> dict[str, Any]:
        found = _COUNT.fullmatch(statement)
        name = found[2].replace("`", "") if found else ""
        if not found or found[1] != found[3] or name not in self.rows:
            return _failed(f"[TABLE_OR_VIEW_NOT_FOUND] {statement}")
        given = {parameter["name"]: parameter["value"] for parameter in parameters}

        def value(row: dict[str, str | None], column: str) -> str | None:
            if starts := re.fullmatch(r"startswith\((\w+), :(\w+)\)", column):
                return str((row[starts[1]] or "").startswith(given[starts[2]])).lower()
            return row[column]

        columns = re.split(r", (?![^(]*\))", found[1])
        try:
            groups = Counter(tuple(value(row, column) for column in columns) for row in self.rows[name])
        except KeyError as error:
            return _failed(f"[UNRESOLVED_COLUMN] {error}")
        return {"status": {"state": "SUCCEEDED"}, "result": {"data_array": [[*key, str(rows)] for key, rows in groups.items()]}}


def _failed(message: str) -> dict[str, Any]:
    return {"status": {"state": "FAILED", "error": {"error_code": "BAD_REQUEST", "message": message}}}
