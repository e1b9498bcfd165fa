"""Rows of tables that name a photo: by the column sha256, by the column path, or in a list of paths.

The settings say which tables there are, and each table which of these columns it has. So a table that is added to the settings is covered.
"""

import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data.answers import claims
from car_damage.pipeline import Trace
from car_damage.ports import Tables
from car_damage.traces.sought import SoughtPhoto

HASH, PATH = "sha256", "path"
"""The columns that name a photo."""
LISTS = ("shown_by", "undecided")
"""Columns with lists of paths, which only the table of claims has."""


def paths_of(tables: Tables, names: tuple[str, ...], sought: SoughtPhoto) -> set[str]:
    """The paths that any of the tables has beside the photo's hash."""
    found: set[str] = set()
    for name in names:
        rows = _named(tables, name)
        found |= set(rows.filter(sought.among(rows[HASH]))[PATH].drop_null().to_pylist())
    return found


def _named(tables: Tables, name: str) -> pa.Table:
    rows, _ = tables.read(name, [HASH, PATH], optional=[HASH, PATH])
    return rows.cast(pa.schema([(HASH, pa.string()), (PATH, pa.string())]))


class Rows:
    """The rows of a table with the photo's hash, and those without a hash that have one of its paths."""

    def __init__(self, tables: Tables, name: str) -> None:
        self._tables, self._name = tables, name

    def find(self, sought: SoughtPhoto) -> list[Trace]:
        rows = _named(self._tables, self._name)
        count = pc.sum(sought.among(rows[HASH])).as_py() or 0
        count += len(rows.filter(pc.and_(pc.is_null(rows[HASH]), pc.is_in(rows[PATH], value_set=self._paths(rows, sought)))))
        return [Trace(f"table {self._name}", "rows", count)] if count else []

    def remove(self, sought: SoughtPhoto) -> None:
        rows = _named(self._tables, self._name)
        hashes = pc.unique(rows.filter(sought.among(rows[HASH]))[HASH])
        for column, values in ((HASH, hashes), (PATH, self._paths(rows, sought))):
            if len(values):
                gone = pa.table({column: values}, schema=pa.schema([(column, pa.string())]))
                self._tables.merge(self._name, gone.slice(0, 0), (column,), remove=gone)

    @staticmethod
    def _paths(rows: pa.Table, sought: SoughtPhoto) -> pa.Array:
        """The photo's paths that have no row of another photo: a file may have taken the place of another."""
        there = rows.filter(sought.lies_at(rows[PATH]))
        others = there.filter(pc.and_(pc.is_valid(there[HASH]), pc.invert(sought.among(there[HASH]))))
        unknown = pc.unique(there.filter(pc.is_null(there[HASH]))[PATH])
        return unknown.filter(pc.invert(pc.is_in(unknown, value_set=pc.unique(others[PATH]))))


class Claims:
    """The photo's paths in what claims say. The next `score` says it anew, without the photo."""

    def __init__(self, tables: Tables, name: str) -> None:
        self._tables, self._name = tables, name

    def find(self, sought: SoughtPhoto) -> list[Trace]:
        count = self._without(sought).num_rows
        return [Trace(f"table {self._name}", "claims that name it", count)] if count else []

    def remove(self, sought: SoughtPhoto) -> None:
        changed = self._without(sought)
        if changed.num_rows:
            empty = pc.less_equal(changed["photos"], 0)
            self._tables.merge(self._name, changed.filter(pc.invert(empty)), claims.KEY, remove=changed.filter(empty))

    def _without(self, sought: SoughtPhoto) -> pa.Table:
        """The claims that name the photo, without it. One whose label no other photo shows has none: a person must look."""
        columns = [*claims.KEY, *claims.CONTENT]
        schema = pa.schema([claims.CLAIMS.field(name) for name in columns])
        changed = []
        for row in self._tables.read(self._name, columns)[0].to_pylist():
            left = {name: [path for path in row[name] or [] if path not in sought.paths] for name in LISTS}
            if gone := sum(len(row[name] or []) - len(left[name]) for name in LISTS):
                label = row["label"] if left["shown_by"] else None
                review = bool(left["undecided"]) or label is None
                changed.append(row | left | {"label": label, "review": review, "photos": row["photos"] - gone})
        return pa.Table.from_pylist(changed, schema)
