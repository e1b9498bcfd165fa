"""Delta tables on a local disk, by delta-rs: no JVM, no server.

`catalog.schema.table` lies at `<root>/catalog/schema/table`. Tables are written without optional table features
and with plain types (string, int64, timestamp in microseconds UTC, ...), so Spark reads them and goes on with them; what Spark
has written since, deletion vectors included, is read here. Reads give those plain types too, never delta-rs's
string views.

Every write is one commit that either stands on the version it was computed from or does not happen: delta-rs's
own way of rebasing a commit would let two writers insert the same key.
"""

import logging
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from car_damage import ledger
from car_damage.engines import folder
from car_damage.errors import CommitConflict, SettingsError, Terminal, Unavailable
from car_damage.ports import Files, Landed
from car_damage.settings import Images

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

ATTEMPTS = 10
"""Times that a write without a base version is computed again after another writer came first."""

_REMOVE = "__remove"

_log = logging.getLogger(__name__)


class DeltaRs:
    """The port `Tables` below a root folder.

    Args:
        root: folder of all tables; made when the first table is.
        files: what `unseen` lists and `each` reads.
        images: how many files are read at once.
        sleep: waits between two attempts, in seconds.

    Raises:
        SettingsError: the root is a Databricks volume, which has neither the renames nor the locks that a table needs.
    """

    def __init__(self, root: Path, files: Files, images: Images, sleep: Callable[[float], None] = time.sleep) -> None:
        if Path(os.path.normpath(root)).is_relative_to("/Volumes"):
            raise SettingsError(f"home: tables cannot lie in the volume {root}; name a local folder, or let Spark write the tables")
        self._root, self._files, self._images, self._sleep = root, files, images, sleep

    def unseen(self, landing: str, bronze: str) -> Landed:
        import pyarrow.compute as pc

        columns = ["path", "size", "modified", "status"]
        # The listing waits for the disk, the table is read outside of Python: side by side they cost little more than one.
        with ThreadPoolExecutor(1) as beside:
            reading = beside.submit(self.read, bronze, columns)
            listed = self._listing(landing)
            table, version = reading.result()
        known = ledger.conform(table, ledger.BRONZE, columns)
        known = known.filter(pc.is_in(known["status"], value_set=ledger.PRESENT))
        return ledger.compare(ledger.absolute(landing), listed, known, version)

    def each(
        self, files: "pa.Table", work: Callable[[str, bytes], Mapping[str, Any]], schema: "pa.Schema", tick: Callable[[int], None]
    ) -> "pa.Table":
        import pyarrow as pa

        columns: dict[str, list[Any]] = {name: [] for name in ("path", "unreadable", *schema.names)}
        items = zip(files["path"].to_pylist(), files["size"].to_pylist(), strict=True)
        results = folder.each(self._files, items, work, self._images.workers, folder.NO_LIMIT, lambda path, _: work(path, b""))
        for done, (path, row, unreadable) in enumerate(results, 1):
            columns["path"].append(path)
            columns["unreadable"].append(unreadable)
            for name in schema.names:
                columns[name].append(None if row is None else row[name])
            tick(done)
        front = [pa.field("path", pa.string()), pa.field("unreadable", pa.string())]
        return pa.table(columns, schema=pa.schema([*front, *(field.with_nullable(True) for field in schema)]))

    def read(self, table: str, columns: Sequence[str], version: int | None = None) -> "tuple[pa.Table, int]":
        import pyarrow as pa

        there = self._open(table, version)
        if there is None:
            if version is not None and version >= 0:
                raise Terminal(f"the table {table} is not at {self.uri(table)}, so there is no version {version} of it")
            return pa.table({column: pa.nulls(0) for column in columns}), -1
        with _translated(table, self.uri(table)):
            rows = pa.RecordBatchReader.from_stream(there.scan(columns=list(columns))).read_all()
        return _plain(rows), there.version()

    def merge(self, table: str, rows: "pa.Table", key: Sequence[str], *, remove: "pa.Table | None" = None, base: int | None = None) -> int:
        if table.startswith("/"):
            raise SettingsError(f"{table}: a table that is written needs a name, catalog.schema.table")
        rows = _plain(rows)
        if _repeats(rows, key) or (remove is not None and _repeats(remove, key)):
            raise ValueError(f"{table}: two rows of one merge have the same {', '.join(key)}")
        for attempt in range(ATTEMPTS):
            try:
                return self._merge(table, rows, key, remove, base)
            except CommitConflict as error:
                if base is not None or attempt == ATTEMPTS - 1:
                    raise
                _log.info("computing the commit again, after attempt %d of %d: %s", attempt + 1, ATTEMPTS, error)
            self._sleep(min(2.0, 0.05 * 2**attempt) * random.uniform(0.5, 1.5))  # noqa: S311 - spreads writers apart
        raise AssertionError("the last attempt returns or raises")

    def uri(self, table: str) -> str:
        return str(self._path(table))

    def _path(self, table: str) -> Path:
        if table.startswith("/"):
            return Path(table)
        parts = table.split(".")
        if len(parts) != 3 or not all(part and part == part.strip() and not set(part) & set("/\\\0") for part in parts):
            raise SettingsError(f"{table!r} is no table name: expected catalog.schema.table")
        return self._root.joinpath(*parts)

    def _listing(self, landing: str) -> "pa.Table":
        """A folder of this machine is listed without an object for each file, which takes half the time."""
        if isinstance(self._files, folder.Folder):
            return ledger.listing(folder.walk(landing))
        return ledger.listing((file.path, file.size, ledger.milliseconds(file.modified)) for file in self._files.list(landing))

    def _open(self, table: str, version: int | None = None) -> "DeltaTable | None":
        delta_table = _deltalake().DeltaTable
        path = self._path(table)
        if not path.is_dir():
            return None
        with _translated(table, str(path)):
            try:
                return delta_table(str(path), version=version)
            except _deltalake().exceptions.TableNotFoundError:
                return None

    def _merge(self, table: str, rows: "pa.Table", key: Sequence[str], remove: "pa.Table | None", base: int | None) -> int:
        there = self._open(table)
        version = -1 if there is None else there.version()
        if base is not None and base != version:
            raise CommitConflict(f"{table} stands at version {version}, no longer at {base}: another writer came first")
        if there is None:
            return self._create(table, rows)
        source = _source(rows, key, remove)
        if not source.num_rows:
            return version
        with _translated(table, self.uri(table)):
            merge = there.merge(
                source,
                " AND ".join(f"t.`{column}` = s.`{column}`" for column in key),
                source_alias="s",
                target_alias="t",
                commit_properties=_deltalake().CommitProperties(max_commit_retries=0),
            )
            if remove is not None and remove.num_rows:
                merge = merge.when_matched_delete(predicate=f"s.`{_REMOVE}`")
            columns = {f"`{column}`": f"s.`{column}`" for column in rows.column_names}
            changes = {column: value for column, value in columns.items() if column.strip("`") not in key}
            if changes:
                merge = merge.when_matched_update(changes, predicate=f"NOT s.`{_REMOVE}`")
            if set(rows.column_names) == {field.name for field in there.schema().fields}:
                merge = merge.when_not_matched_insert(columns, predicate=f"NOT s.`{_REMOVE}`")
            merge.execute()
        return int(there.version())

    def _create(self, table: str, rows: "pa.Table") -> int:
        """The table with its first rows, in one commit; of two that create it at once, one gets a conflict."""
        path = self._path(table)
        deltalake = _deltalake()
        with _translated(table, str(path)):
            try:
                path.mkdir(parents=True, exist_ok=True)
                deltalake.write_deltalake(
                    str(path), rows, mode="error", name=table, commit_properties=deltalake.CommitProperties(max_commit_retries=0)
                )
            except deltalake.exceptions.DeltaError as error:
                if deltalake.DeltaTable.is_deltatable(str(path)):
                    raise CommitConflict(f"{table} was created by another writer at the same time") from error
                raise
        return 0


def _source(rows: "pa.Table", key: Sequence[str], remove: "pa.Table | None") -> "pa.Table":
    """Rows to write and keys to delete as the one source of a MERGE, told apart by a boolean column."""
    import pyarrow as pa

    source = rows.append_column(_REMOVE, pa.repeat(pa.scalar(value=False), rows.num_rows))
    if remove is None or not remove.num_rows:
        return source
    gone = remove.select(list(key)).cast(pa.schema([rows.schema.field(column) for column in key]))
    gone = gone.append_column(_REMOVE, pa.repeat(pa.scalar(value=True), gone.num_rows))
    return pa.concat_tables([_nullable(source), _nullable(gone)], promote_options="default")


def _nullable(table: "pa.Table") -> "pa.Table":
    import pyarrow as pa

    return table.cast(pa.schema([field.with_nullable(True) for field in table.schema]))


def _plain(rows: "pa.Table") -> "pa.Table":
    """The same rows in types that every reader of Delta tables shares: no views, no large strings."""
    import pyarrow as pa

    fields = [field.with_type(pa.string()) if _is_text(field.type) else field for field in rows.schema]
    if unsigned := [field.name for field in fields if pa.types.is_unsigned_integer(field.type)]:
        raise ValueError(f"Delta tables have no unsigned integers: {', '.join(unsigned)}")
    return rows.cast(pa.schema([pa.field(field.name, field.type, field.nullable) for field in fields]))


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _repeats(rows: "pa.Table", key: Sequence[str]) -> bool:
    return bool(rows.num_rows > 1 and rows.group_by(list(key)).aggregate([]).num_rows < rows.num_rows)


def _deltalake() -> Any:
    try:
        import deltalake
        import deltalake.exceptions
    except ImportError as error:
        raise Terminal("tables.engine = delta-rs needs the package deltalake: pip install 'car-damage[local]'") from error
    return deltalake


@contextmanager
def _translated(table: str, where: str) -> Iterator[None]:
    """Turns delta-rs's errors about one table into ours."""
    errors = _deltalake().exceptions
    name = f"the table {table} at {where}"
    try:
        yield
    except errors.CommitFailedError as error:
        raise CommitConflict(f"{name}: another writer committed first ({error})") from error
    except errors.DeltaProtocolError as error:
        raise Terminal(f"{name} uses a feature that delta-rs lacks; let Spark read it, or upgrade deltalake: {error}") from error
    except errors.DeltaError as error:
        raise Terminal(f"{name} cannot be used; look at its schema and its _delta_log: {error}") from error
    except OSError as error:
        raise Unavailable(f"{name} cannot be reached: {error}") from error
