"""Delta tables by Spark: on a Databricks cluster, in a serverless job, on a master, on a Connect server, or in this process.

Uses only DataFrames and SQL, with columns and expressions as text, so that the same code runs on a classic session and on
Spark Connect. `catalog.schema.table` is a name in Unity Catalog, or the folder `<root>/catalog/schema/table`, which delta-rs
can use too. Spark's workers read and decode the photos; only rows of metadata come to the driver.

Every write is one commit. A MERGE cannot require a version of the table, so the history is read before and after it: a commit
of another writer in between is a conflict. By then the rows of our commit are written, without the columns that are
written only once, and the caller plans again from the table's latest version.
"""

import logging
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from car_damage.adapters.tables.columns import plain, with_columns
from car_damage.adapters.tables.delta import DAY, LOG_CLEANUP, MANY, REMOVE, UNCOMMITTED, Change
from car_damage.adapters.tables.log import Log
from car_damage.adapters.tables.predicate import sql
from car_damage.adapters.tables.retention import nothing_kept
from car_damage.adapters.tables.spark_calls import awaited
from car_damage.adapters.tables.spark_errors import condition, foreign, translated
from car_damage.adapters.tables.spark_work import SparkWork, ddl, literal, quoted
from car_damage.data.described import COMMENT, comment_of
from car_damage.errors import CommitConflict, Unavailable
from car_damage.ports import Where

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_ABSENT = frozenset(
    {"DELTA_MISSING_DELTA_TABLE", "DELTA_PATH_DOES_NOT_EXIST", "DELTA_TABLE_NOT_FOUND", "PATH_NOT_FOUND", "TABLE_OR_VIEW_NOT_FOUND"}
)
_NO_TABLE = "DELTA_TABLE_ONLY_OPERATION"
"""For a path: there is no table. For a name in a catalog: it is not a Delta table."""
_CREATED = frozenset(
    {
        "DELTA_PATH_EXISTS",
        "TABLE_OR_VIEW_ALREADY_EXISTS",
        "DELTA_TABLE_ALREADY_EXISTS",
        # Both writers found an empty folder, and the other one committed first.
        "DELTA_PROTOCOL_CHANGED",
        "DELTA_METADATA_CHANGED",
    }
)
_RETENTION_CHECK = "spark.databricks.delta.retentionDurationCheck.enabled"
"""Spark refuses to remove what is younger than a week, because it does not know which files another process needs. We do."""

_log = logging.getLogger(__name__)


class SparkDelta(SparkWork):
    """The port `Tables` on a Spark session.

    Args:
        session: returns the session; called when a table is first used.
        files: lists the landing folder. Spark's own listing of binary files omits empty ones, which would never get a verdict.
        root: as `DeltaTables` has it, at the same path on this machine and on Spark's machines.
        sleep: as `DeltaTables` has it.
    """

    def read(
        self, table: str, columns: Sequence[str], version: int | None = None, *, optional: Sequence[str] = (), where: Where | None = None
    ) -> tuple[pa.Table, int]:
        latest = self._latest(table)
        if latest < 0:
            return self._absent(table, columns, version)
        at = latest if version is None else version
        with translated(self._called(table)):
            whole = self._session().sql(f"SELECT * FROM {self._name(table)} VERSION AS OF {at}")
            lacks = set(optional) - set(whole.columns) if optional else set()
            rows = whole.where(sql(where, quoted, literal)).select(*(quoted(name) for name in columns if name not in lacks)).toArrow()
        return with_columns(plain(rows), columns), at

    def _commit(self, table: str, change: Change) -> int:
        there = self._latest(table)
        change.expect(table, there)
        if there < 0:
            return self._create(table, change.rows)
        # The column that marks the keys to delete has a unique name. The table's history contains it, so this commit can be found
        # there.
        mark = f"{REMOVE}_{uuid.uuid4().hex}"
        changed = change.source(mark)
        if not changed.num_rows:
            return there
        with translated(self._called(table)):
            has = set(self._session().sql(f"SELECT * FROM {self._name(table)} LIMIT 0").columns)
            if missing := [field.with_nullable(True) for field in change.rows.schema if field.name not in has]:
                self._session().sql(f"ALTER TABLE {self._name(table)} ADD COLUMNS ({ddl(pa.schema(missing), comments=True)})").collect()
                there += 1
        with translated(self._called(table)), self._view(self._frame(changed), mark):
            statement = self._statement(table, change, mark, insert=has <= set(change.rows.column_names))
            [counts] = awaited(self._session(), lambda: self._session().sql(statement).collect())
        mine = self._own(table, mark, there)
        if mine is None and counts["num_affected_rows"]:
            raise CommitConflict(f"{table}: the commit is missing from the table's history; another writer replaced it")
        if mine is None:
            return there  # there was nothing to change, so there is no commit
        if change.base is not None and (mine["version"], mine["readVersion"]) != (there + 1, there):
            raise CommitConflict(f"{table}: another writer committed after version {there}, just before this one")
        return int(mine["version"])

    def _statement(self, table: str, change: Change, mark: str, *, insert: bool) -> str:
        columns = change.rows.column_names
        same = " AND ".join(f"t.{quoted(column)} = s.{quoted(column)}" for column in change.key)
        text = f"MERGE INTO {self._name(table)} t USING {mark} s ON {same} WHEN MATCHED AND s.{mark} THEN DELETE"
        if change.updated:
            text += " WHEN MATCHED THEN UPDATE SET " + ", ".join(f"{quoted(column)} = s.{quoted(column)}" for column in change.updated)
        if insert:
            names = ", ".join(map(quoted, columns))
            values = ", ".join(f"s.{quoted(column)}" for column in columns)
            text += f" WHEN NOT MATCHED AND NOT s.{mark} THEN INSERT ({names}) VALUES ({values})"
        return text

    def _create(self, table: str, rows: pa.Table) -> int:
        """Create the table with its first rows, in one commit. Of two concurrent writers, one gets a conflict."""
        from pyspark.errors import PySparkException

        with translated(self._called(table)):
            frame = self._frame(rows).coalesce(1)
            for field in rows.schema:
                frame = frame.withMetadata(field.name, {COMMENT: comment_of(field)}) if comment_of(field) else frame
            try:
                awaited(self._session(), lambda: self._write_first(table, frame, comment_of(rows.schema)))
            except PySparkException as error:
                if condition(error) in _CREATED:
                    raise CommitConflict(f"{table} was created by another writer at the same time") from error
                raise
        return 0

    def _write_first(self, table: str, frame: "DataFrame", comment: str) -> None:
        if self._root is not None:
            frame.write.format("delta").mode("error").save(self.uri(table))
            return
        with self._view(frame, f"rows_{uuid.uuid4().hex}") as view:  # only SQL takes a table's comment, in the same commit
            described = f"COMMENT {literal(comment)} " if comment else ""
            self._session().sql(f"CREATE TABLE {self._name(table)} USING delta {described}AS SELECT * FROM {view}").collect()

    def _own(self, table: str, mark: str, before: int) -> Mapping[str, Any] | None:
        """The commit with the mark among those after a version, or None. Usually it is the latest commit."""
        if self._root is not None:
            with self._reading_log(table) as log:
                newer = log.commits(before)
        else:
            newer = self._history(table, 1)
            if newer and mark not in str(newer[0]["operationParameters"]) and newer[0]["version"] - before > 1:
                newer = self._history(table, newer[0]["version"] - before)
        return next((commit for commit in newer if mark in str(commit.get("operationParameters"))), None)

    def _latest(self, table: str) -> int:
        """The table's version; -1 if it does not exist. The folder of a table says it for less than Spark, which takes a job for it."""
        if self._root is not None:
            with self._reading_log(table) as log:
                return log.latest
        history = self._history(table, 1)
        return history[0]["version"] if history else -1

    @contextmanager
    def _reading_log(self, table: str) -> Iterator[Log]:
        """The log of a table in a folder, to read it within the block. Raises Unavailable if it cannot be read."""
        try:
            yield Log(Path(self.uri(table)))
        except OSError as error:
            raise Unavailable(f"{self._called(table)}: its log cannot be read ({error})") from error

    def _history(self, table: str, commits: int) -> list[Mapping[str, Any]]:
        """The latest commits, newest first; empty if the table does not exist."""
        from pyspark.errors import PySparkException

        with translated(self._called(table)):
            try:
                rows = self._session().sql(f"DESCRIBE HISTORY {self._name(table)} LIMIT {commits}").collect()
            except PySparkException as error:
                if condition(error) in _ABSENT or (condition(error) == _NO_TABLE and self.uri(table).startswith("/")):
                    return []
                raise
        return [row.asDict() for row in rows]

    def _merge_files(self, table: str) -> None:
        name = self._name(table)
        with translated(self._called(table)):
            [detail] = self._session().sql(f"DESCRIBE DETAIL {name}").collect()
            if detail["properties"].get(LOG_CLEANUP) != "false":
                self._session().sql(f"ALTER TABLE {name} SET TBLPROPERTIES ('{LOG_CLEANUP}' = 'false')").collect()
            if detail["numFiles"] >= MANY:
                awaited(self._session(), lambda: self._session().sql(f"OPTIMIZE {name}").collect())

    def _vacuum(self, table: str, keep_days: int, stay: Collection[int], *, dry_run: bool) -> list[Path]:
        """See `DeltaTables`. Spark keeps no versions, so it gets an inventory of the files that it may remove."""
        folder = Path(self.uri(table))
        session, name = self._session(), self._name(table)
        with translated(self._called(table)):
            frames = (session.sql(f"SELECT * FROM {name} VERSION AS OF {version}") for version in stay)
            used = {uri.rpartition("/")[2] for frame in frames for uri in frame.inputFiles()}
            files = _inventory(folder, used, keep_days)
            if not files.num_rows:
                return []
            with self._view(self._frame(files), f"inventory_{uuid.uuid4().hex}") as view:
                statement = f"VACUUM {name} USING INVENTORY (SELECT * FROM {view}) RETAIN {24 * keep_days} HOURS"
                session.conf.set(_RETENTION_CHECK, "false")
                try:
                    rows = awaited(session, lambda: session.sql(f"{statement}{' DRY RUN' if dry_run else ''}").collect())
                finally:
                    session.conf.unset(_RETENTION_CHECK)
        return [folder / row["path"].rpartition("/")[2] for row in rows]

    def _files_of(self, table: str) -> Collection[str]:
        with translated(self._called(table)):
            frame = self._session().sql(f"SELECT * FROM {self._name(table)}")
            return {uri.rpartition("/")[2] for uri in frame.inputFiles()}

    def _begin_log(self, table: str) -> None:
        """Spark has no command for a checkpoint: a commit writes one if its number can be divided by a property of the table."""
        with translated(self._called(table)):
            for change in ("SET TBLPROPERTIES ('delta.checkpointInterval' = '1')", "UNSET TBLPROPERTIES ('delta.checkpointInterval')"):
                self._session().sql(f"ALTER TABLE {self._name(table)} {change}").collect()

    def _purge_in_catalog(self, table: str) -> str:
        """By commands of the catalog. REORG is for rows that are only marked as removed, in files that stay.

        See https://docs.databricks.com/aws/en/delta/vacuum and https://docs.databricks.com/aws/en/sql/language-manual/delta-reorg-table.
        """
        if self._latest(table) < 0:
            return ""
        name = self._name(table)
        with translated(self._called(table)):
            self._run(f"REORG TABLE {name} APPLY (PURGE)")
            with nothing_kept(name, self._run):
                self._run(f"VACUUM {name}")
        return (
            "the log of the table keeps the smallest and largest hashes of files that are gone, until Databricks removes it: "
            "delta.logRetentionDuration, 30 days if it is not set"
        )

    def _run(self, statement: str) -> Sequence[Any]:
        """The rows of a statement."""
        return awaited(self._session(), lambda: self._session().sql(statement).collect())

    def _write_checkpoint(self, table: str) -> None:
        """Spark's writers write a checkpoint after each tenth commit."""

    def _name(self, table: str) -> str:
        """The table's name in SQL."""
        where = self.uri(table)
        if where.startswith("/"):
            return f"delta.{quoted(where)}"
        return ".".join(map(quoted, table.split(".")))

    @contextmanager
    def _view(self, frame: "DataFrame", name: str) -> Iterator[str]:
        frame.createOrReplaceTempView(name)
        try:
            yield name
        finally:
            with suppress(*foreign()):  # the view of an ended session is gone; the call before raised the error
                self._session().catalog.dropTempView(name)


def _inventory(folder: Path, used: Collection[str], keep_days: int) -> pa.Table:
    """The table's files without those in use, and without young ones that no commit names: another process may be about to commit them.

    Returns a table in the form that VACUUM wants: path (URI), length (bytes), isDir, modificationTime (milliseconds since 1970).
    """
    removed, before = Log(folder).removed(), time.time() - max(keep_days, UNCOMMITTED) * DAY
    found = [(file, file.stat()) for file in folder.glob("*.parquet") if file.name not in used]
    found = [(file, of) for file, of in found if file.name in removed or of.st_mtime < before]
    return pa.table(
        {
            "path": pa.array([f"file:{file}" for file, _ in found], pa.string()),
            "length": pa.array([of.st_size for _, of in found], pa.int64()),
            "isDir": pa.array([False] * len(found), pa.bool_()),
            "modificationTime": pa.array([int(of.st_mtime * 1000) for _, of in found], pa.int64()),
        }
    )
