"""Work beside the answers, and never in their way: a bounded queue, and the thread that works it off.

Whoever handles a request only puts. What does not fit is dropped and counted, and so is work that fails.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Backlog(Generic[T]):
    """Items that wait for a thread, which starts with the first one.

    Args:
        name: of the work, for the log.
        work: takes the oldest items. An error drops them.
        drop: told how many items were dropped.
        most: bytes that may wait.
        at_once: items that `work` takes at most.
        every: seconds for which items are collected before `work` takes them, unless half of the bytes are used.
    """

    def __init__(
        self, name: str, work: Callable[[Sequence[T]], None], drop: Callable[[int], None], *, most: int, at_once: int, every: float = 0
    ) -> None:
        self._name, self._work, self._drop, self._most, self._at_once, self._every = name, work, drop, most, at_once, every
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._soon = threading.Event()
        self._thread: threading.Thread | None = None

    def put(self, item: T, size: int) -> None:
        """Put an item of so many bytes. Returns at once."""
        with self._changed:
            if self._bytes + size > self._most:
                self._drop(1)
                return
            self._items.append((item, size))
            self._bytes += size
            if 2 * self._bytes > self._most:
                self._soon.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            if len(self._items) == 1:  # else the thread knows: waking it for each request would take the processor from the answers
                self._changed.notify_all()

    def settle(self, timeout: float) -> bool:
        """Let the thread begin at once, and wait until nothing waits, for `timeout` seconds at most. Returns whether that is so."""
        with self._changed:
            self._soon.set()
            return self._changed.wait_for(lambda: not self._bytes, timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._items))
            if self._every:
                self._soon.wait(self._every)
                self._soon.clear()
            with self._changed:
                taken = list(islice(self._items, self._at_once))
            self._try([item for item, _ in taken])
            with self._changed:
                for _, size in taken:
                    self._items.popleft()
                    self._bytes -= size
                self._changed.notify_all()

    def _try(self, items: Sequence[T]) -> None:
        try:
            self._work(items)
        except Exception as error:  # noqa: BLE001 - one failure must not end the thread, which works for all others
            self._drop(len(items))
            _log.warning("%s: %d dropped: %s", self._name, len(items), error)
