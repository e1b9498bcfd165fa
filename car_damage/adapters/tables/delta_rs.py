"""Delta tables on a local disk, by delta-rs: no JVM, no server.

`catalog.schema.table` is at `<root>/catalog/schema/table`. Tables are written without optional table features
and with plain types (string, int64, timestamp in microseconds UTC, ...), so that Spark can read and write them too. This
module reads tables that Spark has written to, including deletion vectors. Reads return plain types, never delta-rs's string
views.

Every write is one commit. It succeeds only if the table is still at the version that the write was computed from: with
delta-rs's own rebase of commits, two writers could insert the same key.
"""

import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from car_damage.adapters import reading
from car_damage.adapters.tables.columns import plain, result_schema, with_columns
from car_damage.adapters.tables.delta import LOG_CLEANUP, MANY, REMOVE, UNCOMMITTED, Change, DeltaTables, disk_full
from car_damage.adapters.tables.predicate import sql
from car_damage.data.described import comment_of
from car_damage.errors import CommitConflict, SettingsError, Terminal, Unavailable
from car_damage.ports import FileProcessor, Files, Where
from car_damage.settings import Images

if TYPE_CHECKING:
    from deltalake import DeltaTable


class DeltaRs(DeltaTables):
    """The port `Tables` below a root folder, which is created with the first table.

    Raises:
        SettingsError: the root is in a Databricks volume, which lacks the renames and locks that a table needs.
    """

    def __init__(self, root: Path, files: Files, images: Images, sleep: Callable[[float], None] = time.sleep) -> None:
        if Path(os.path.normpath(root)).is_relative_to("/Volumes"):
            raise SettingsError(f"home: tables cannot be in the volume {root}; set a local folder, or set tables.engine to spark")
        super().__init__(root, files, sleep)
        self._images = images

    def each(self, files: pa.Table, work: FileProcessor, schema: pa.Schema, tick: Callable[[int], None]) -> pa.Table:
        columns: dict[str, list[Any]] = {name: [] for name in ("path", "unreadable", *schema.names)}
        items = zip(files["path"].to_pylist(), files["size"].to_pylist(), strict=True)
        results = reading.each(self._files, items, work, self._images.workers, reading.NO_LIMIT, lambda path, _: work(path, b""))
        for done, (path, row, unreadable) in enumerate(results, 1):
            columns["path"].append(path)
            columns["unreadable"].append(unreadable)
            for name in schema.names:
                columns[name].append(None if row is None else row[name])
            tick(done)
        return pa.table(columns, schema=result_schema(schema))

    def read(
        self, table: str, columns: Sequence[str], version: int | None = None, *, optional: Sequence[str] = (), where: Where | None = None
    ) -> tuple[pa.Table, int]:
        there = self._open(table, version)
        if there is None:
            return self._absent(table, columns, version)
        with _translated(self._called(table)):
            lacks = set(optional) - {field.name for field in there.schema().fields}
            found = there.scan(columns=[name for name in columns if name not in lacks], predicate=where and sql(where, _quoted, _literal))
            rows = pa.RecordBatchReader.from_stream(found).read_all()
        return with_columns(plain(rows), columns), there.version()

    def _open(self, table: str, version: int | None = None) -> "DeltaTable | None":
        delta_table = _deltalake().DeltaTable
        path = Path(self.uri(table))
        if not path.is_dir():
            return None
        with _translated(self._called(table)):
            try:
                return delta_table(str(path), version=version)
            except _deltalake().exceptions.TableNotFoundError:
                return None

    def _commit(self, table: str, change: Change) -> int:
        there = self._open(table)
        version = -1 if there is None else there.version()
        change.expect(table, version)
        if there is None:
            return self._create(table, change.rows)
        changed = change.source()
        if not changed.num_rows:
            return version
        self._add_columns(table, there, change.rows.schema)
        with _translated(self._called(table)):
            merge = there.merge(
                changed,
                " AND ".join(f"t.`{column}` = s.`{column}`" for column in change.key),
                source_alias="s",
                target_alias="t",
                commit_properties=_deltalake().CommitProperties(max_commit_retries=0),
            )
            if change.remove is not None and change.remove.num_rows:
                merge = merge.when_matched_delete(predicate=f"s.`{REMOVE}`")
            if change.updated:
                merge = merge.when_matched_update(_values(change.updated), predicate=f"NOT s.`{REMOVE}`")
            if {field.name for field in there.schema().fields} <= set(change.rows.column_names):
                merge = merge.when_not_matched_insert(_values(change.rows.column_names), predicate=f"NOT s.`{REMOVE}`")
            merge.execute()
        return int(there.version())

    def _add_columns(self, table: str, there: "DeltaTable", schema: pa.Schema) -> None:
        has = {field.name for field in there.schema().fields}
        if missing := [field for field in schema if field.name not in has]:
            deltalake = _deltalake()
            fields = [deltalake.Field.from_arrow(field.with_nullable(True)) for field in missing]
            with _translated(self._called(table)):
                there.alter.add_columns(fields, commit_properties=deltalake.CommitProperties(max_commit_retries=0))

    def _create(self, table: str, rows: pa.Table) -> int:
        """Create the table with its first rows, in one commit. Of two concurrent writers, one gets a conflict."""
        path = Path(self.uri(table))
        deltalake = _deltalake()
        with _translated(self._called(table)):
            try:
                path.mkdir(parents=True, exist_ok=True)
                deltalake.write_deltalake(
                    str(path),
                    rows,
                    mode="error",
                    name=table,
                    description=comment_of(rows.schema) or None,
                    configuration={LOG_CLEANUP: "false"},
                    commit_properties=deltalake.CommitProperties(max_commit_retries=0),
                )
            except deltalake.exceptions.DeltaError as error:
                if deltalake.DeltaTable.is_deltatable(str(path)):
                    raise CommitConflict(f"{table} was created by another writer at the same time") from error
                raise
        return 0

    def _merge_files(self, table: str) -> None:
        there = self._open(table)
        assert there is not None  # noqa: S101 - for the type checker
        at_once = _deltalake().CommitProperties(max_commit_retries=0)
        with _translated(self._called(table)):
            if there.metadata().configuration.get(LOG_CLEANUP) != "false":
                there.alter.set_table_properties({LOG_CLEANUP: "false"}, commit_properties=at_once)
            if len(there.file_uris()) >= MANY:
                there.optimize.compact(commit_properties=at_once)

    def _vacuum(self, table: str, keep_days: int, stay: Collection[int], *, dry_run: bool) -> list[Path]:
        """See `DeltaTables`. First files that a commit removed, then also those that no commit names, or that the log has forgotten."""
        found: dict[Path, None] = {}
        there = self._open(table)
        assert there is not None  # noqa: S101 - for the type checker
        for full, days in ((False, keep_days), (True, max(keep_days, UNCOMMITTED))):
            with _translated(self._called(table)):
                names = there.vacuum(24 * days, dry_run=dry_run, enforce_retention_duration=False, full=full, keep_versions=sorted(stay))
            found |= dict.fromkeys(Path(self.uri(table), name) for name in names)
        return list(found)

    def _write_checkpoint(self, table: str) -> None:
        there = self._open(table)
        if there is not None:
            with _translated(self._called(table)):
                there.create_checkpoint()


def _values(columns: Sequence[str]) -> dict[str, str]:
    return {f"`{column}`": f"s.`{column}`" for column in columns}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _deltalake() -> Any:
    try:
        import deltalake
        import deltalake.exceptions
    except ImportError as error:
        raise Terminal("tables.engine = delta-rs needs the package deltalake: pip install 'car-damage[local]'") from error
    return deltalake


@contextmanager
def _translated(name: str) -> Iterator[None]:
    """Translate delta-rs's errors about one table."""
    errors = _deltalake().exceptions
    try:
        yield
    except errors.CommitFailedError as error:
        if (full := disk_full(name, str(error))) is not None:
            raise full from error
        raise CommitConflict(f"{name}: another writer committed first ({error})") from error
    except errors.DeltaProtocolError as error:
        raise Terminal(f"{name} uses a feature that delta-rs lacks; set tables.engine to spark, or upgrade deltalake: {error}") from error
    except errors.DeltaError as error:
        if (full := disk_full(name, str(error))) is not None:
            raise full from error
        raise Terminal(f"{name} cannot be used; check its schema and its _delta_log: {error}") from error
    except OSError as error:
        raise Unavailable(f"{name} cannot be reached: {error}") from error
