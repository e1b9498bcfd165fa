"""Counts the rows of tables that can be opened here."""

from collections.abc import Sequence

import pyarrow as pa

from car_damage.data.photos.ledger import below
from car_damage.ports import RowCounts, Tables


class TablesCensus:
    """The port `Census` on the port `Tables`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def count(self, table: str, by: Sequence[str], folder: str | None = None) -> RowCounts:
        rows, version = self._tables.read(table, [*by, *(["path"] if folder else [])])
        if version < 0:
            return RowCounts(exists=False)
        columns = {name: rows[name] for name in by} | ({"here": below(folder, rows["path"])} if folder else {})
        groups = pa.table(columns).group_by(list(columns)).aggregate([([], "count_all")]).to_pylist()
        return RowCounts(True, version, {tuple(group[name] for name in columns): group["count_all"] for group in groups})
