"""The part of the port `Tables` that all engines share: names, comparing with the landing folder, retrying a merge.

An engine adds reading a table, processing files, and one commit.
"""

import logging
import math
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from car_damage.adapters import folder
from car_damage.adapters.tables.answers import answered
from car_damage.adapters.tables.columns import ANSWERS, plain
from car_damage.adapters.tables.log import Log
from car_damage.data.photos import ledger
from car_damage.errors import CommitConflict, SettingsError, Terminal, Unavailable
from car_damage.machine import absolute
from car_damage.model.served.process import Environment, stream
from car_damage.ports import FileProcessor, Files, LandingDiff, Space, Where

ATTEMPTS = 10
"""Attempts of a write without a base version; another writer may commit first each time."""
REMOVE = "__remove"
"""The boolean column that distinguishes keys to delete from rows to write."""

MANY = 10
"""Files of a table that are merged into fewer, and commits after which a new checkpoint is written. Fewer cost reading little."""
DAY = 86_400.0
UNCOMMITTED = 1
"""Days for which a file stays that no commit names, because another process may be about to commit it. A write takes less."""
_BEGUN = "{} files that a writer has begun and not finished stay for a day, because it may be writing: forget the photo again after that"
LOG_CLEANUP = "delta.enableExpiredLogCleanup"
"""The property of a table by which writers remove old files of its log. They know nothing of versions that must stay."""

DISK_FULL = "No space left on device"
"""The operating system's message, which foreign errors contain."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Change:
    """The content of one commit; see `Tables.merge`."""

    rows: "pa.Table"
    key: Sequence[str]
    remove: "pa.Table | None"
    base: int | None
    once: Sequence[str]

    @property
    def updated(self) -> list[str]:
        """The columns that are updated in a row that exists."""
        return [column for column in self.rows.column_names if column not in (*self.key, *self.once)]

    def expect(self, table: str, version: int) -> None:
        """Raise CommitConflict if the table is not at the version that the change was computed from."""
        if self.base is not None and self.base != version:
            raise CommitConflict(f"{table} is at version {version}, no longer at {self.base}: another writer committed first")

    def source(self, mark: str = REMOVE) -> pa.Table:
        """The source of a MERGE: rows to write and keys to delete, distinguished by the boolean column `mark`."""
        changed = self.rows.append_column(mark, pa.repeat(pa.scalar(value=False), self.rows.num_rows))
        if self.remove is None or not self.remove.num_rows:
            return changed
        gone = self.remove.select(list(self.key)).cast(pa.schema([self.rows.schema.field(column) for column in self.key]))
        gone = gone.append_column(mark, pa.repeat(pa.scalar(value=True), gone.num_rows))
        return pa.concat_tables([_nullable(changed), _nullable(gone)], promote_options="default")


class DeltaTables(ABC):
    """The port `Tables`, without the methods of the engine.

    Args:
        root: folder of all tables, each at `<root>/catalog/schema/table`; None: the engine has a catalog with these names.
        files: lists the landing folder for `compare_landing`.
        sleep: waits between two attempts, in seconds.
    """

    def __init__(self, root: Path | None, files: Files, sleep: Callable[[float], None]) -> None:
        self._root, self._files, self._sleep = root, files, sleep

    def compare_landing(
        self, landing: str, bronze: str, judged_under: str, corrections: str | None = None, *, retire_others: bool = False
    ) -> LandingDiff:
        columns = [*ledger.COMPARED, "status"]
        # The listing waits for the disk, and the table is read outside of Python: together they take little longer than one alone.
        with ThreadPoolExecutor(1) as beside:
            reading = beside.submit(self.read, bronze, columns, optional=ledger.ADDED)
            listed = self._listing(landing)
            ours = None if corrections is None else self._corrections(corrections)
            table, version = reading.result()
        known = ledger.conform(table, ledger.BRONZE, columns)
        known = known.filter(pc.is_in(known["status"], value_set=ledger.PRESENT))
        return ledger.compare(absolute(landing), listed, known, version, judged_under, ours, retire_others=retire_others)

    def merge(
        self,
        table: str,
        rows: pa.Table,
        key: Sequence[str],
        *,
        remove: pa.Table | None = None,
        base: int | None = None,
        once: Sequence[str] = (),
    ) -> int:
        if table.startswith("/"):
            raise SettingsError(f"{table} is a path, and only tables with a name can be written: use catalog.schema.table")
        rows = plain(rows)
        if _repeats(rows, key) or (remove is not None and _repeats(remove, key)):
            raise ValueError(f"{table}: two rows of one merge have the same {', '.join(key)}")
        change = Change(rows, key, remove, base, once)
        for attempt in range(ATTEMPTS - 1 if base is None else 0):
            try:
                return self._commit(table, change)
            except CommitConflict as error:
                _log.info("retrying the commit after attempt %d of %d: %s", attempt + 1, ATTEMPTS, error)
            self._sleep(min(2.0, 0.05 * 2**attempt) * random.uniform(0.5, 1.5))  # noqa: S311 - spreads writers apart
        return self._commit(table, change)

    def tidy(self, table: str, keep_days: int, needed: Collection[int], *, dry_run: bool = False) -> Space | None:
        """See the port. A catalog tidies its tables itself: Unity Catalog by predictive optimisation.

        What the merge of small files replaces goes with the next call, because another process may be reading the version before it.
        """
        if self._root is None:
            return None
        path = Path(self.uri(table))
        if (log := Log(path)).latest < 0:
            return Space()
        stay = {log.latest, *filter(log.holds, needed)}
        unused = _sizes(self._vacuum(table, keep_days, stay, dry_run=True))
        unread = _sizes(log.superfluous(stay, time.time() - keep_days * DAY))
        space = Space(len(unused) + len(unread), sum(unused.values()) + sum(unread.values()))
        if dry_run:
            return space
        try:
            self._merge_files(table)
        except CommitConflict as error:
            _log.info("the files of %s are merged another time: %s", table, error)
        if unused:
            self._vacuum(table, keep_days, stay, dry_run=False)
        if Log(path).latest - log.checkpoint >= MANY:
            self._write_checkpoint(table)
        for file in unread:
            file.unlink(missing_ok=True)
        return space

    def purge(self, table: str, is_sought: Callable[[str], bool]) -> str:
        """See the port."""
        if self._root is None:
            return self._purge_in_catalog(table)
        path = Path(self.uri(table))
        if (latest := Log(path).latest) < 0:
            return ""
        self._vacuum(table, 0, {latest}, dry_run=False)
        used = self._files_of(table)
        tell = {file: _has(file, is_sought) for file in path.glob("*.parquet") if file.name not in used}
        # The removal itself tells of the removed rows, as smallest and largest values of a file. So the log begins after it.
        self._begin_log(table)
        log = Log(path)
        unknown = [*log.drafts(), *(file for file, has in tell.items() if has is None)]
        young = [file for file in unknown if _age(file) < UNCOMMITTED * DAY]
        gone = {*log.superfluous({log.latest}, math.inf), *unknown, *(file for file, has in tell.items() if has)}
        for file in gone.difference(young):
            file.unlink(missing_ok=True)
        return _BEGUN.format(len(young)) if young else ""

    def _purge_in_catalog(self, table: str) -> str:
        """The same for a table of a catalog, which only an engine with a catalog has."""
        raise NotImplementedError(table)

    def uri(self, table: str) -> str:
        """See the port. The absolute path of a folder is returned unchanged."""
        if table.startswith("/"):
            return table
        levels = _levels(table)
        return table if self._root is None else str(self._root.joinpath(*levels))

    def _absent(self, table: str, columns: Sequence[str], version: int | None) -> tuple[pa.Table, int]:
        """The result of reading a table that does not exist. Raises Terminal if a version of it is requested."""
        if version is not None and version >= 0:
            raise Terminal(f"the table {table} does not exist at {self.uri(table)}, so it has no version {version}")
        return pa.table({column: pa.nulls(0) for column in columns}), -1

    def _called(self, table: str) -> str:
        """The table's name and address, for messages."""
        return f"the table {table} at {self.uri(table)}"

    @abstractmethod
    def read(
        self, table: str, columns: Sequence[str], version: int | None = None, *, optional: Sequence[str] = (), where: Where | None = None
    ) -> tuple[pa.Table, int]:
        """See the port."""

    @abstractmethod
    def each(self, files: pa.Table, work: FileProcessor, schema: pa.Schema, tick: Callable[[int], None]) -> pa.Table:
        """See the port."""

    def answers(self, files: pa.Table, model: Path, timeout: float, environment: Environment, chunk: int) -> Iterator[pa.Table]:
        """See the port. The model's process runs on this machine."""
        items = zip(files["path"].to_pylist(), files["size"].to_pylist(), strict=True)
        with closing(answered(self._files, items, lambda photos: stream(model, photos, timeout, environment))) as rows:
            while some := list(islice(rows, chunk)):
                yield pa.Table.from_pylist(some, schema=ANSWERS)

    @abstractmethod
    def _commit(self, table: str, change: Change) -> int:
        """Create the table, or merge once. Raises CommitConflict if another writer committed first."""

    @abstractmethod
    def _merge_files(self, table: str) -> None:
        """Merge the table's files if there are many, and leave its log to `tidy`. Raises CommitConflict."""

    @abstractmethod
    def _vacuum(self, table: str, keep_days: int, stay: Collection[int], *, dry_run: bool) -> list[Path]:
        """Remove files that belong neither to these versions nor to younger ones. Returns them; some may have gone before."""

    @abstractmethod
    def _files_of(self, table: str) -> Collection[str]:
        """The names of the files of the latest version."""

    @abstractmethod
    def _begin_log(self, table: str) -> None:
        """Commit something that tells of no row, with a checkpoint, from which all that follows is read."""

    @abstractmethod
    def _write_checkpoint(self, table: str) -> None:
        """Write a checkpoint, unless the engine's own writers do."""

    def _corrections(self, folder: str) -> ledger.Listing:
        """The corrections folder, which is made with the first word."""
        try:
            return ledger.Listing(absolute(folder), self._listing(folder))
        except SettingsError:
            return ledger.Listing(absolute(folder), ledger.listing([]))

    def _listing(self, landing: str) -> pa.Table:
        """The listing of the landing folder. For a folder of this machine no object per file is created: this halves the time."""
        if isinstance(self._files, folder.Folder):
            return ledger.listing(folder.walk(landing))
        return ledger.listing_of(self._files.list(landing))


def _sizes(files: Iterable[Path]) -> dict[Path, int]:
    """The files that are there, with their bytes."""
    return {file: file.stat().st_size for file in files if file.exists()}


def _age(file: Path) -> float:
    """Seconds since it was written; 0 if it is gone."""
    with suppress(FileNotFoundError):
        return time.time() - file.stat().st_mtime
    return 0.0


def _has(file: Path, is_sought: Callable[[str], bool]) -> bool | None:
    """Whether a data file has a row of the photo. None for half a file, which nobody can read: its writer was killed, or still writes."""
    try:
        if "sha256" not in pq.read_schema(file).names:
            return False
        return any(map(is_sought, pc.unique(pq.read_table(file, columns=["sha256"])["sha256"]).drop_null().to_pylist()))
    except (pa.ArrowException, OSError):
        return None


def disk_full(what: str, message: str) -> Unavailable | None:
    """Our error if the message of an engine's error reports a full disk, else None. Nothing was committed: a retry may succeed."""
    if DISK_FULL not in message:
        return None
    return Unavailable(f"{what}: {DISK_FULL}, and nothing was committed; free disk space, and run again ({message.splitlines()[0][:500]})")


def _nullable(table: pa.Table) -> pa.Table:
    return table.cast(pa.schema([field.with_nullable(True) for field in table.schema]))


def _repeats(rows: pa.Table, key: Sequence[str]) -> bool:
    return bool(rows.num_rows > 1 and rows.group_by(list(key)).aggregate([]).num_rows < rows.num_rows)


def _levels(table: str) -> list[str]:
    levels = table.split(".")
    if len(levels) != 3 or not all(level and level == level.strip() and not set(level) & set("/\\\0") for level in levels):
        raise SettingsError(f"{table!r} is not a table name: expected catalog.schema.table")
    return levels
