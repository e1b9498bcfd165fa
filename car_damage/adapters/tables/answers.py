"""Asks a model about files: reads them a few ahead of it, and pairs its answers with their paths.

Runs where the engine of the tables runs it: on the driver, or in each task on Spark's machines.
"""

import json
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any

from car_damage.errors import Unavailable
from car_damage.model.served.process import ModelAnswer
from car_damage.photo.reasons import EMPTY
from car_damage.ports import Files

READERS = 8
"""Threads that read files."""
AHEAD, AHEAD_BYTES = 64, 16 << 20
"""Files that are read before the model takes them, at most; and their bytes, after which only one more is read."""
UNKNOWN_BYTES = 1 << 20
"""Bytes that a file of unknown size counts."""

Row = Mapping[str, Any]
Ask = Callable[[Iterator[bytes]], Generator[ModelAnswer]]
"""Answers photos in their order. It takes them in another thread, one by one."""


def answered(files: Files, items: Iterable[tuple[str, int | None]], ask: Ask) -> Generator[Row]:
    """The rows of `Tables.answers`, in about the order of the files, with the columns that have a value.

    Args:
        files: reads the files.
        items: path and size in bytes; None: unknown.
        ask: asks the model, and raises its errors.
    """
    reader = _Reader(files)
    with closing(ask(reader.read(items))) as answers:
        for answer in answers:
            yield _row(reader.given.popleft(), answer)
            yield from reader.unasked()
    yield from reader.unasked()


class _Reader:
    """Reads files in their order, and keeps which ones went to the model, and the rows of those that did not."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self.given: deque[str] = deque()
        self._unasked: deque[Row] = deque()

    def read(self, items: Iterable[tuple[str, int | None]]) -> Iterator[bytes]:
        """The bytes of each file that has any and can be read."""
        with ThreadPoolExecutor(READERS, thread_name_prefix="score") as pool:
            ahead: deque[tuple[str, int, Future[bytes]]] = deque()
            size = 0
            try:
                for path, known in items:
                    ahead.append((path, UNKNOWN_BYTES if known is None else known, pool.submit(self._files.read, path)))
                    size += ahead[-1][1]
                    while len(ahead) >= AHEAD or size >= AHEAD_BYTES:
                        size -= ahead[0][1]
                        yield from self._one(*ahead.popleft())
                while ahead:
                    yield from self._one(*ahead.popleft())
            finally:
                pool.shutdown(cancel_futures=True)

    def unasked(self) -> Iterator[Row]:
        """The rows of files that did not go to the model, each once."""
        while self._unasked:
            yield self._unasked.popleft()

    def _one(self, path: str, _: int, reading: "Future[bytes]") -> Iterator[bytes]:
        try:
            data = reading.result()
        except Unavailable as error:
            self._unasked.append({"path": path, "unreadable": str(error)})
            return
        if data:
            self.given.append(path)
            yield data
        else:
            self._unasked.append({"path": path, "refused": EMPTY})


def _row(path: str, answer: ModelAnswer) -> Row:
    if answer.refused:
        return {"path": path, "refused": answer.refused}
    fields = {"label": answer.label, "probability": answer.probability, "probabilities": json.dumps(answer.probabilities)}
    fields["classes"] = None if answer.classes is None else json.dumps(answer.classes)
    return {"path": path, **fields, "review": answer.review, "sha256": answer.sha256}
