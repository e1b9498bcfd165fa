"""What every engine does alike with Delta tables: names, comparing with the landing folder, merging again after a conflict.

An engine adds how it reads a table, works on files, and commits once.
"""

import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from car_damage.adapters import folder
from car_damage.data import ledger
from car_damage.errors import CommitConflict, SettingsError, Terminal, Unavailable
from car_damage.ports import Files, LandingDiff, Work

if TYPE_CHECKING:
    import pyarrow as pa

ATTEMPTS = 10
"""Times that a write without a base version is computed again after another writer came first."""
REMOVE = "__remove"
"""The boolean column that tells keys to delete from rows to write."""

DISK_FULL = "No space left on device"
"""How the operating system says it, and everybody after it."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Change:
    """What one commit is to do; see `Tables.merge`."""

    rows: "pa.Table"
    key: Sequence[str]
    remove: "pa.Table | None"
    base: int | None
    once: Sequence[str]

    @property
    def updated(self) -> list[str]:
        """The columns of a row that is there which get another value."""
        return [column for column in self.rows.column_names if column not in (*self.key, *self.once)]

    def expect(self, table: str, version: int) -> None:
        """Raise CommitConflict where the table stands at another version than the change was computed from."""
        if self.base is not None and self.base != version:
            raise CommitConflict(f"{table} stands at version {version}, no longer at {self.base}: another writer came first")

    def source(self, mark: str = REMOVE) -> "pa.Table":
        """Rows to write and keys to delete as the one source of a MERGE, told apart by the boolean column `mark`."""
        import pyarrow as pa

        changed = self.rows.append_column(mark, pa.repeat(pa.scalar(value=False), self.rows.num_rows))
        if self.remove is None or not self.remove.num_rows:
            return changed
        gone = self.remove.select(list(self.key)).cast(pa.schema([self.rows.schema.field(column) for column in self.key]))
        gone = gone.append_column(mark, pa.repeat(pa.scalar(value=True), gone.num_rows))
        return pa.concat_tables([_nullable(changed), _nullable(gone)], promote_options="default")


class DeltaTables(ABC):
    """The port `Tables`, but for what an engine does in its own way.

    Args:
        root: folder of all tables, each at `<root>/catalog/schema/table`; None: the engine has a catalog with such names.
        files: what `compare_landing` lists.
        sleep: waits between two attempts, in seconds.
    """

    def __init__(self, root: Path | None, files: Files, sleep: Callable[[float], None]) -> None:
        self._root, self._files, self._sleep = root, files, sleep

    def compare_landing(self, landing: str, bronze: str) -> LandingDiff:
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

    def merge(
        self,
        table: str,
        rows: "pa.Table",
        key: Sequence[str],
        *,
        remove: "pa.Table | None" = None,
        base: int | None = None,
        once: Sequence[str] = (),
    ) -> int:
        if table.startswith("/"):
            raise SettingsError(f"{table}: a table that is written needs a name, catalog.schema.table")
        rows = plain(rows)
        if _repeats(rows, key) or (remove is not None and _repeats(remove, key)):
            raise ValueError(f"{table}: two rows of one merge have the same {', '.join(key)}")
        change = Change(rows, key, remove, base, once)
        for attempt in range(ATTEMPTS):
            try:
                return self._commit(table, change)
            except CommitConflict as error:
                if base is not None or attempt == ATTEMPTS - 1:
                    raise
                _log.info("computing the commit again, after attempt %d of %d: %s", attempt + 1, ATTEMPTS, error)
            self._sleep(min(2.0, 0.05 * 2**attempt) * random.uniform(0.5, 1.5))  # noqa: S311 - spreads writers apart
        raise AssertionError("the last attempt returns or raises")

    def uri(self, table: str) -> str:
        """The table's folder, or its name in the catalog. A table that is only read may be named by the absolute path of its folder."""
        if table.startswith("/"):
            return table
        levels = _levels(table)
        return table if self._root is None else str(self._root.joinpath(*levels))

    def _absent(self, table: str, columns: Sequence[str], version: int | None) -> "tuple[pa.Table, int]":
        """What is read of a table that is not there. Raises Terminal for one who asks for a version of it."""
        import pyarrow as pa

        if version is not None and version >= 0:
            raise Terminal(f"the table {table} is not at {self.uri(table)}, so there is no version {version} of it")
        return pa.table({column: pa.nulls(0) for column in columns}), -1

    def _called(self, table: str) -> str:
        """The table in a message."""
        return f"the table {table} at {self.uri(table)}"

    @abstractmethod
    def read(self, table: str, columns: Sequence[str], version: int | None = None) -> "tuple[pa.Table, int]":
        """See the port."""

    @abstractmethod
    def each(self, files: "pa.Table", work: Work, schema: "pa.Schema", tick: Callable[[int], None]) -> "pa.Table":
        """See the port."""

    @abstractmethod
    def _commit(self, table: str, change: Change) -> int:
        """Make the table, or merge once; raises CommitConflict where another writer came first."""

    def _listing(self, landing: str) -> "pa.Table":
        """A folder of this machine is listed without an object for each file, which takes half the time."""
        if isinstance(self._files, folder.Folder):
            return ledger.listing(folder.walk(landing))
        return ledger.listing_of(self._files.list(landing))


def disk_full(what: str, told: str) -> Unavailable | None:
    """The error for a foreign one that tells of a full disk; None for any other. Nothing was committed, so it may pass."""
    if DISK_FULL not in told:
        return None
    return Unavailable(f"{what}: {DISK_FULL}, and nothing was committed; make room, and run again ({told[:500]})")


def result_schema(schema: "pa.Schema") -> "pa.Schema":
    """What `each` returns, for work that returns rows of `schema`."""
    import pyarrow as pa

    front = [pa.field("path", pa.string()), pa.field("unreadable", pa.string())]
    return pa.schema([*front, *(field.with_nullable(True) for field in schema)])


def plain(rows: "pa.Table") -> "pa.Table":
    """The same rows in types that every reader of Delta tables shares: no views, no large strings, instants in UTC."""
    import pyarrow as pa

    if unsigned := [field.name for field in rows.schema if pa.types.is_unsigned_integer(field.type)]:
        raise ValueError(f"Delta tables have no unsigned integers: {', '.join(unsigned)}")
    return rows.cast(pa.schema([pa.field(field.name, _plain(field.type), field.nullable) for field in rows.schema]))


def _plain(kind: "pa.DataType") -> "pa.DataType":
    import pyarrow as pa

    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_timestamp(kind) and kind.tz:
        return pa.timestamp(kind.unit, "UTC")
    return kind


def _nullable(table: "pa.Table") -> "pa.Table":
    import pyarrow as pa

    return table.cast(pa.schema([field.with_nullable(True) for field in table.schema]))


def _repeats(rows: "pa.Table", key: Sequence[str]) -> bool:
    return bool(rows.num_rows > 1 and rows.group_by(list(key)).aggregate([]).num_rows < rows.num_rows)


def _levels(table: str) -> list[str]:
    levels = table.split(".")
    if len(levels) != 3 or not all(level and level == level.strip() and not set(level) & set("/\\\0") for level in levels):
        raise SettingsError(f"{table!r} is no table name: expected catalog.schema.table")
    return levels
