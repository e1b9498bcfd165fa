"""Work beside the answers, and never in their way: a bounded queue, and the thread that works it off.

Whoever handles a request only puts. What does not fit is dropped and counted, and so is work that fails.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")

LAST = 10.0
"""Seconds that the work which waits may take when the server stops."""

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
        self._settling = False
        self._thread: threading.Thread | None = None

    def put(self, item: T, size: int) -> None:
        """Put an item of so many bytes. Returns at once."""
        with self._changed:
            if self._bytes + size > self._most or not self._is_running():
                self._drop(1)
                return
            self._items.append((item, size))
            self._bytes += size
            # Waking the thread for each request would take the processor from the answers.
            if len(self._items) == 1 or self._is_urgent:
                self._changed.notify_all()

    def settle(self, timeout: float) -> bool:
        """Let the thread work without a pause until nothing waits, for `timeout` seconds at most. Returns whether that is so.

        What is left then counts as dropped: whoever settles is about to end.
        """
        with self._changed:
            self._settling = True
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: not self._items, timeout)
            self._settling = False
            if not done:
                self._drop(len(self._items))
                _log.warning("%s: %d dropped: they were not done within %g s", self._name, len(self._items), timeout)
            return done

    def _is_running(self) -> bool:
        """Start the thread unless it runs. A machine may have no room for another thread, and some time later it may."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                _log.warning("%s: an item is dropped: %s", self._name, error)
                return False
            self._thread = thread
        return True

    @property
    def _is_urgent(self) -> bool:
        return self._settling or 2 * self._bytes > self._most

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._items))
                if self._every:
                    self._changed.wait_for(lambda: self._is_urgent, self._every)
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


async def settle(*works: Callable[[float], bool]) -> None:
    """Settle the work of some backlogs at once, by their `settle`, in the seconds that it may take."""
    await asyncio.gather(*(asyncio.to_thread(work, LAST) for work in works))
