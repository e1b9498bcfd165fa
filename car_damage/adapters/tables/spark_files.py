"""Work on files by Spark's machines: which files a task has, and what runs there."""

import signal
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from car_damage.adapters.folder import Folder
from car_damage.adapters.tables import apart
from car_damage.errors import Unavailable
from car_damage.ports import Work

if TYPE_CHECKING:
    import pyarrow as pa

PART_BYTES = 16 << 20
"""Bytes of photos in one task."""
OPEN_BYTES = 64 << 10
"""What opening a file counts as, so that a task of tiny photos has no more of them than it can open in a second or so."""
CHUNK = 64
"""Rows that a task gives back at once."""
SECONDS = 300.0
"""One file may take so long; then its process ends, and the file is looked at apart from the others."""


def parts(files: "pa.Table") -> "pa.Table":
    """Column paths (list of string): one row a task, of about the same bytes."""
    import numpy as np
    import pyarrow as pa

    ends = np.cumsum(files["size"].to_numpy() + OPEN_BYTES)
    part = pa.array(ends // PART_BYTES)
    grouped = pa.table({"part": part, "paths": files["path"]}).group_by("part").aggregate([("paths", "list")])
    return grouped.select(["paths_list"]).rename_columns(["paths"])


class Reader:
    """Opens the files of each row one after another, and gives back what the work made of them.

    Args:
        work: on one file.
        schema: of its rows, with `path` and `unreadable` in front.
        alone: each file in a process of its own, because one of them ended the process of all.
    """

    def __init__(self, work: Work, schema: "pa.Schema", *, alone: bool) -> None:
        self._work, self._schema, self._alone = work, schema, alone

    def __call__(self, batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
        """What Spark calls in each task: rows of paths in, rows of results out."""
        import pyarrow as pa

        rows: list[Mapping[str, Any]] = []
        for batch in batches:
            for path in batch.column("paths").flatten().to_pylist():
                rows.append(self._row(path))
                if len(rows) == CHUNK:
                    yield pa.RecordBatch.from_pylist(rows, schema=self._schema)
                    rows = []
        if rows:
            yield pa.RecordBatch.from_pylist(rows, schema=self._schema)

    def _row(self, path: str) -> Mapping[str, Any]:
        try:
            data = Folder().read(path)
        except Unavailable as error:
            return {"path": path, "unreadable": str(error)}
        return {"path": path, "unreadable": None, **(apart.row(self._work, path, data) if self._alone else self._timed(path, data))}

    def _timed(self, path: str, data: bytes) -> Mapping[str, Any]:
        """By an alarm that ends this process: code that hangs outside of Python is not reached by anything milder."""
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            return self._work(path, data)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
