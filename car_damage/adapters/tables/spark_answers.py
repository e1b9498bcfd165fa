"""Asks a model about files on Spark's machines. Each Python worker of Spark has a process of the model, and keeps it for its next task.

The model travels as a part of the function that Spark calls: Spark sends a function once to each executor, on a classic session, over
Spark Connect and on serverless compute. Files that a session distributes (addArtifact) are not always visible there
(github.com/mlflow/mlflow/pull/22300), and a registry would need credentials. The model's process gets none.
"""

import hashlib
import os
import shutil
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path

import pyarrow as pa

from car_damage.adapters.folder import Folder
from car_damage.adapters.tables.answers import Row, answered
from car_damage.adapters.tables.spark_files import CHUNK
from car_damage.errors import Terminal
from car_damage.machine import Scratch
from car_damage.model.served.process import Conversation, ModelAnswer, conversation

HEAVIEST = 32 << 20
"""Bytes of a file that a model on Spark's machines is asked about, at most. Then the Python worker of a task and its model stay below
1 GB, which is all that they may have on Databricks' serverless compute. Measured: 185 and 590 MB for a PNG of 98 megapixels."""
LARGEST = 64 << 20
"""Bytes of a packed model that travels, at most. A message to a Spark Connect server may have 128 MiB."""


def packed(model: Path) -> bytes:
    """The files of a model's folder as one archive.

    Raises:
        Terminal: they are too large to travel.
    """
    with Scratch("packed") as scratch:
        data = Path(shutil.make_archive(str(scratch / "model"), "zip", model)).read_bytes()
    if len(data) > LARGEST:
        raise Terminal(f"the model has {len(data) >> 20} MiB, and at most {LARGEST >> 20} MiB travel to Spark's machines")
    return data


class Asker:
    """Asks the model about the files of each task.

    Args:
        model: its archive.
        timeout: see `car_damage.model.served.process.stream`.
        schema: of the rows.
    """

    def __init__(self, model: bytes, timeout: float, schema: pa.Schema) -> None:
        self._model, self._timeout, self._schema = model, timeout, schema
        self._name = hashlib.sha256(model).hexdigest()

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Spark calls this in each task: rows of paths and sizes in, rows of answers out."""
        heavy: list[Row] = []
        with closing(answered(Folder(), _light(batches, heavy), self._ask)) as rows:
            while some := list(islice(rows, CHUNK)):
                yield pa.RecordBatch.from_pylist(some, schema=self._schema)
        if heavy:
            yield pa.RecordBatch.from_pylist(heavy, schema=self._schema)

    def _ask(self, photos: Iterator[bytes]) -> Generator[ModelAnswer]:
        if _process.name != self._name:
            _process.end()
            _process.start(self._name, self._model, self._timeout)
        assert _process.asked is not None  # noqa: S101 - for the type checker
        try:
            yield from _process.asked.answers(photos, self._timeout)
        except BaseException:
            _process.end()  # also when the task ends before all answers were taken
            raise


def _light(batches: Iterable[pa.RecordBatch], heavy: list[Row]) -> Iterator[tuple[str, int | None]]:
    """Path and size of each file that a task may open. The rows of the others go into `heavy`: the driver asks the model about those."""
    for batch in batches:
        paths, sizes = (batch.column(name).flatten().to_pylist() for name in ("paths", "sizes"))
        for path, known in zip(paths, sizes, strict=True):
            size = _size(path) if known is None else known
            if size is not None and size > HEAVIEST:
                heavy.append({"path": path, "unreadable": f"{path} has more than {HEAVIEST >> 20} MiB"})
            else:
                yield path, size


def _size(path: str) -> int | None:
    """Bytes of a file whose size the driver did not know, such as that of a path in a table; None: it cannot be told."""
    try:
        return Path(path).stat().st_size
    except OSError:
        return None


class _Process:
    """The model's process of this Python worker. It ends with the worker, which Spark ends after a minute without tasks."""

    def __init__(self) -> None:
        self.name = ""
        self.asked: Conversation | None = None
        self._stack = ExitStack()

    def start(self, name: str, model: bytes, timeout: float) -> None:
        # As many threads as Spark has processors for one task; Spark sets this variable, too.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        folder = self._stack.enter_context(Scratch("score"))
        archive = folder / "model.zip"
        archive.write_bytes(model)
        shutil.unpack_archive(archive, folder / "model")
        archive.unlink()
        self.asked = self._stack.enter_context(conversation(folder / "model", timeout))
        self.name = name

    def end(self) -> None:
        self.name, self.asked = "", None
        self._stack.close()


_process = _Process()
