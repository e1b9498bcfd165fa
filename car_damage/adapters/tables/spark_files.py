"""Processes files on Spark's machines: distributes the files to tasks, and runs in each task."""

import signal
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from car_damage.adapters.folder import Folder
from car_damage.adapters.tables import apart
from car_damage.adapters.tables.answers import UNKNOWN_BYTES
from car_damage.errors import Unavailable
from car_damage.ports import FileProcessor

PART_BYTES = 16 << 20
"""Bytes of photos in one task."""
OPEN_BYTES = 64 << 10
"""Bytes added for opening a file, so that a task of tiny photos has only as many as it can open in about a second."""
CHUNK = 64
"""Rows in one batch of a task's result."""
SECONDS = 300.0
"""Time limit for one file. After it the process ends, and the files of its step are processed one by one."""


def parts(files: pa.Table) -> pa.Table:
    """Columns paths (list of string) and sizes (list of int64): one row per task, with about the same number of bytes."""
    ends = np.cumsum(pc.fill_null(files["size"], UNKNOWN_BYTES).to_numpy() + OPEN_BYTES)
    part = pa.array(ends // PART_BYTES)
    whole = pa.table({"part": part, "paths": files["path"], "sizes": files["size"]})
    grouped = whole.group_by("part", use_threads=False).aggregate([("paths", "list"), ("sizes", "list")])
    return grouped.select(["paths_list", "sizes_list"]).rename_columns(["paths", "sizes"])


class Reader:
    """Reads and processes the files of each task, one after another.

    Args:
        work: processes one file.
        schema: of the result, with `path` and `unreadable` in front.
        alone: process each file in a process of its own, because one of them has ended the process of the task.
    """

    def __init__(self, work: FileProcessor, schema: pa.Schema, *, alone: bool) -> None:
        self._work, self._schema, self._alone = work, schema, alone

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Spark calls this in each task: rows of paths in, rows of results out."""
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
        """Process a file with a time limit. An alarm ends this process, because nothing else stops code that hangs outside of Python."""
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            return self._work(path, data)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
