"""Delta tables by Spark: a Databricks cluster's, a serverless job's, a master's, a Connect server's, or this process's own.

DataFrames and SQL only, with columns and expressions in text, so that the same code runs on a classic session and over
Spark Connect. `catalog.schema.table` is that very name in Unity Catalog, or the folder `<root>/catalog/schema/table`,
where delta-rs finds it too. Photos are opened where they are decoded; only rows of metadata come to the driver.

Every write is one commit. Spark cannot be told on which version a MERGE must stand, so the history is asked before and
after it: a writer that came in the moment between is a conflict. The rows of the late commit stand by then, without the
columns that are written only once, and whoever planned on the older version plans again on what is there.
"""

import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from car_damage.adapters.folder import Folder
from car_damage.adapters.tables.delta import REMOVE, Change, DeltaTables, plain, result_schema
from car_damage.adapters.tables.spark_calls import awaited
from car_damage.adapters.tables.spark_errors import WorkerDied, condition, foreign, translated
from car_damage.adapters.tables.spark_files import Reader, parts
from car_damage.errors import CommitConflict, SettingsError
from car_damage.ports import Files, Work

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

LOOKS, LEAST = 20, 64
"""Files are worked on in so many steps, after each of which progress is told; but in no fewer tasks a step than this."""

_ABSENT = frozenset(
    {"DELTA_MISSING_DELTA_TABLE", "DELTA_PATH_DOES_NOT_EXIST", "DELTA_TABLE_NOT_FOUND", "PATH_NOT_FOUND", "TABLE_OR_VIEW_NOT_FOUND"}
)
_NO_TABLE = "DELTA_TABLE_ONLY_OPERATION"
"""Of a path: there is no table. Of a name in a catalog: it is something else."""
_CREATED = frozenset(
    {
        "DELTA_PATH_EXISTS",
        "TABLE_OR_VIEW_ALREADY_EXISTS",
        "DELTA_TABLE_ALREADY_EXISTS",
        # Both found an empty folder, and the other one's first commit stands.
        "DELTA_PROTOCOL_CHANGED",
        "DELTA_METADATA_CHANGED",
    }
)
_TYPES = {"string": "string", "int64": "bigint", "bool": "boolean", "double": "double", "timestamp[us, tz=UTC]": "timestamp"}

_log = logging.getLogger(__name__)


class SparkDelta(DeltaTables):
    """The port `Tables` on a Spark session.

    Args:
        session: gives the session; asked for when a table is first touched.
        files: what `compare_landing` lists. Spark's own listing of binary files leaves out empty ones, which would never get a verdict.
        root: folder of all tables, which Spark's machines and this one see alike; None: names in the session's catalog.
        sleep: waits between two attempts, in seconds.
    """

    def __init__(
        self, session: "Callable[[], SparkSession]", files: Files, root: Path | None, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        super().__init__(root, files, sleep)
        self._session = session

    def each(self, files: "pa.Table", work: Work, schema: "pa.Schema", tick: Callable[[int], None]) -> "pa.Table":
        """See the port. Spark's machines read the files by their paths.

        Photos that end the Python worker of their task are told from the others by working on all of that step again,
        each in a process of its own.
        """
        import pyarrow as pa

        if not isinstance(self._files, Folder):
            raise SettingsError(
                'landing.folder: tables.engine = "spark" opens photos where Spark runs, and the folder is not mounted here: mount it '
                'at this path on all machines, or take tables.engine = "delta-rs"'
            )
        dealt = parts(files)
        step = max(LEAST, -(-dealt.num_rows // LOOKS))
        done = [result_schema(schema).empty_table()]
        for start in range(0, dealt.num_rows, step):
            some = dealt.slice(start, step)
            try:
                done.append(self._work_on(some, work, schema, alone=False))
            except WorkerDied as error:
                _log.warning("a file may have ended its process: those of %d tasks are looked at one by one: %s", some.num_rows, error)
                done.append(self._work_on(some, work, schema, alone=True))
            tick(sum(rows.num_rows for rows in done))
        return pa.concat_tables(done)

    def read(self, table: str, columns: Sequence[str], version: int | None = None) -> "tuple[pa.Table, int]":
        latest = self._latest(table)
        if latest < 0:
            return self._absent(table, columns, version)
        at = latest if version is None else version
        wanted = ", ".join(map(_quoted, columns))
        with translated(self._called(table)):
            rows = self._session().sql(f"SELECT {wanted} FROM {self._name(table)} VERSION AS OF {at}").toArrow()
        return plain(rows), at

    def _work_on(self, dealt: "pa.Table", work: Work, schema: "pa.Schema", *, alone: bool) -> "pa.Table":
        whole = result_schema(schema)
        with translated("the new files"):
            # One row, and so one task, a part: rows of a single partition are dealt out evenly.
            tasks = self._frame(dealt).coalesce(1).repartition(dealt.num_rows)
            return awaited(self._session(), tasks.mapInArrow(Reader(work, whole, alone=alone), _described(whole)).toArrow).cast(whole)

    def _commit(self, table: str, change: Change) -> int:
        there = self._latest(table)
        change.expect(table, there)
        if there < 0:
            return self._create(table, change.rows)
        # The column that tells what to delete has a name of its own each time. It stands in the commit's history, by which
        # this very commit is found again.
        mark = f"{REMOVE}_{uuid.uuid4().hex}"
        changed = change.source(mark)
        if not changed.num_rows:
            return there
        with translated(self._called(table)), self._view(changed, mark):
            statement = self._statement(table, change, mark)
            [counts] = awaited(self._session(), lambda: self._session().sql(statement).collect())
        mine = self._own(table, mark, there)
        if mine is None and counts["num_affected_rows"]:
            raise CommitConflict(f"{table}: the commit is not in the table's history; another writer's took its place")
        if mine is None:
            return there  # nothing was to be changed, so there is no commit
        if change.base is not None and (mine["version"], mine["readVersion"]) != (change.base + 1, change.base):
            raise CommitConflict(f"{table}: another writer committed after version {change.base}, just before this one")
        return int(mine["version"])

    def _statement(self, table: str, change: Change, mark: str) -> str:
        columns = change.rows.column_names
        same = " AND ".join(f"t.{_quoted(column)} = s.{_quoted(column)}" for column in change.key)
        text = f"MERGE INTO {self._name(table)} t USING {mark} s ON {same} WHEN MATCHED AND s.{mark} THEN DELETE"
        if change.updated:
            text += " WHEN MATCHED THEN UPDATE SET " + ", ".join(f"{_quoted(column)} = s.{_quoted(column)}" for column in change.updated)
        if set(columns) == set(self._session().sql(f"SELECT * FROM {self._name(table)} LIMIT 0").columns):
            names = ", ".join(map(_quoted, columns))
            values = ", ".join(f"s.{_quoted(column)}" for column in columns)
            text += f" WHEN NOT MATCHED AND NOT s.{mark} THEN INSERT ({names}) VALUES ({values})"
        return text

    def _create(self, table: str, rows: "pa.Table") -> int:
        """The table with its first rows, in one commit; of two that create it at once, one gets a conflict."""
        from pyspark.errors import PySparkException

        with translated(self._called(table)):
            writer = self._frame(rows).coalesce(1).write.format("delta").mode("error")
            try:
                awaited(
                    self._session(),
                    lambda: writer.saveAsTable(self._name(table)) if self._root is None else writer.save(self.uri(table)),
                )
            except PySparkException as error:
                if condition(error) in _CREATED:
                    raise CommitConflict(f"{table} was created by another writer at the same time") from error
                raise
        return 0

    def _own(self, table: str, mark: str, before: int) -> Mapping[str, Any] | None:
        """The commit that has the mark, among those after a version; mostly it is the last one of all."""
        newer = self._history(table, 1)
        if newer and mark not in str(newer[0]["operationParameters"]) and newer[0]["version"] - before > 1:
            newer = self._history(table, newer[0]["version"] - before)
        return next((commit for commit in newer if mark in str(commit["operationParameters"])), None)

    def _latest(self, table: str) -> int:
        """The table's version; -1 where it is not there."""
        history = self._history(table, 1)
        return history[0]["version"] if history else -1

    def _history(self, table: str, commits: int) -> list[Mapping[str, Any]]:
        """The latest commits, the last one first."""
        from pyspark.errors import PySparkException

        with translated(self._called(table)):
            try:
                rows = self._session().sql(f"DESCRIBE HISTORY {self._name(table)} LIMIT {commits}").collect()
            except PySparkException as error:
                if condition(error) in _ABSENT or (condition(error) == _NO_TABLE and self.uri(table).startswith("/")):
                    return []
                raise
        return [row.asDict() for row in rows]

    def _name(self, table: str) -> str:
        """The table in SQL."""
        where = self.uri(table)
        if where.startswith("/"):
            return f"delta.{_quoted(where)}"
        return ".".join(map(_quoted, table.split(".")))

    def _frame(self, rows: "pa.Table") -> "DataFrame":
        if rows.num_rows:
            # As one chunk: at one without rows, Spark 4.2 stops reading, and those behind it would be lost.
            return self._session().createDataFrame(rows.combine_chunks())
        return self._session().createDataFrame([], _described(rows.schema))  # Connect takes no empty Arrow table

    @contextmanager
    def _view(self, rows: "pa.Table", name: str) -> Iterator[None]:
        self._frame(rows).createOrReplaceTempView(name)
        try:
            yield
        finally:
            with suppress(*foreign()):  # a session that has ended has no view either, and said so before
                self._session().catalog.dropTempView(name)


def _described(schema: "pa.Schema") -> str:
    """The schema as Spark writes it."""
    return ", ".join(f"{_quoted(field.name)} {_TYPES[str(field.type)]}{'' if field.nullable else ' NOT NULL'}" for field in schema)


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
