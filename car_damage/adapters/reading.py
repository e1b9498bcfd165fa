"""Reads files and processes their bytes in threads, with bounded memory."""

import queue
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from car_damage.errors import Unavailable
from car_damage.machine import cores
from car_damage.ports import Files

T = TypeVar("T")

NO_LIMIT = 1 << 63
"""Bytes. No file is larger."""
AHEAD = 4
"""Files for each thread that wait for it, are with it, or wait for the caller."""


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
        items: path and size in bytes; only a few are taken ahead of the threads, so it may be a listing in progress.
        work: processes path and bytes, in a thread.
        workers: threads; 0: one per core. At most this many files are in memory at once.
        max_bytes: larger files are not read.
        oversize: returns the result of a larger file from its path and size.

    Yields:
        Path, result and None; or path, None and the reason why the file could not be read, which is not a verdict.

    Raises:
        The errors of `items`, `work` and `oversize`, after the threads have ended.
    """

    def one(path: str, size: int) -> tuple[str, T | None, str | None]:
        if size > max_bytes:
            return path, oversize(path, size), None
        try:
            data = files.read(path)
        except Unavailable as error:
            return path, None, str(error)
        return path, work(path, data), None

    threads = workers or cores()
    done: queue.SimpleQueue[Future[tuple[str, T | None, str | None]]] = queue.SimpleQueue()
    begun = 0
    with ThreadPoolExecutor(threads, thread_name_prefix="photos") as pool:
        try:
            for path, size in items:
                pool.submit(one, path, size).add_done_callback(done.put)
                begun += 1
                if begun == AHEAD * threads:
                    yield done.get().result()
                    begun -= 1
            for _ in range(begun):
                yield done.get().result()
        finally:
            pool.shutdown(cancel_futures=True)
