"""Reads files and processes their bytes in threads, with bounded memory."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Generic, TypeVar

from car_damage.errors import Unavailable
from car_damage.machine import cores
from car_damage.ports import Files

T = TypeVar("T")

NO_LIMIT = 1 << 63
"""Bytes. No file is larger."""


def each(  # noqa: PLR0917 - the files, the work, and three bounds
    files: Files,
    items: Iterable[tuple[str, int]],
    work: Callable[[str, bytes], T],
    workers: int,
    max_bytes: int,
    oversize: Callable[[str, int], T],
) -> Iterator[tuple[str, T | None, str | None]]:
    """Read files and process their bytes in threads. The results come in the order of completion.

    Args:
        files: reads the files.
        items: path and size in bytes; taken when a thread becomes free, so it may be a listing in progress.
        work: processes path and bytes, in a thread.
        workers: threads; 0: one per core. At most this many files are in memory at once.
        max_bytes: larger files are not read.
        oversize: returns the result of a larger file from its path and size.

    Yields:
        Path, result and None; or path, None and the reason why the file could not be read, which is not a verdict.

    Raises:
        The errors of `items`, `work` and `oversize`, after the threads have ended.
    """
    pool = _Pool(files, iter(items), work, max_bytes, oversize, workers or cores())
    try:
        yield from pool.results()
    finally:
        pool.stop()


class _Pool(Generic[T]):
    """Threads that share an iterator of files and a bounded queue of results."""

    def __init__(  # noqa: PLR0917 - as `each`
        self,
        files: Files,
        items: Iterator[tuple[str, int]],
        work: Callable[[str, bytes], T],
        max_bytes: int,
        oversize: Callable[[str, int], T],
        workers: int,
    ) -> None:
        self._files, self._items, self._work, self._max_bytes, self._oversize = files, items, work, max_bytes, oversize
        self._taking = threading.Lock()
        self._done: queue.Queue[tuple[str, T | None, str | None] | BaseException | None] = queue.Queue(maxsize=4 * workers)
        self._stopped = False
        self._threads = [threading.Thread(target=self._run, name=f"photos-{number}", daemon=True) for number in range(workers)]

    def results(self) -> Iterator[tuple[str, T | None, str | None]]:
        for thread in self._threads:
            thread.start()
        running = len(self._threads)
        while running:
            result = self._done.get()
            if isinstance(result, BaseException):
                raise result
            if result is None:
                running -= 1
            else:
                yield result

    def stop(self) -> None:
        """End the threads, even if results are left in the queue."""
        self._stopped = True
        for thread in self._threads:
            while thread.ident is not None and thread.is_alive():
                with suppress(queue.Empty):
                    self._done.get(timeout=0.05)

    def _run(self) -> None:
        try:
            while not self._stopped:
                with self._taking:
                    item = next(self._items, None)
                if item is None:
                    break
                self._done.put(self._one(*item))
            self._done.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that takes the results
            self._done.put(error)

    def _one(self, path: str, size: int) -> tuple[str, T | None, str | None]:
        if size > self._max_bytes:
            return path, self._oversize(path, size), None
        try:
            data = self._files.read(path)
        except Unavailable as error:
            return path, None, str(error)
        return path, self._work(path, data), None
