"""The queue of an endpoint: limits how many requests wait, gives them turns, and measures how long it has been empty."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

from car_damage.server.errors import ApiError, ErrorKind


class Queue:
    """A bounded queue in front of an endpoint.

    Args:
        at_once: requests that may be in progress at the same time.
    """

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self.in_progress = 0
        """Requests that the model works on."""
        self._present = 0
        self._turns = asyncio.Semaphore(at_once)
        self._empty = asyncio.Event()
        self._empty.set()
        self._quiet_since = 0.0

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn, or whose body has not arrived completely."""
        return self._present - self.in_progress

    @property
    def busy(self) -> bool:
        """Whether there is any request."""
        return self._present > 0

    @contextlib.contextmanager
    def place(self, limit: int) -> Iterator[None]:
        """Hold a place in the queue.

        Raises:
            ApiError: QUEUE_FULL, because `limit` requests wait already.
        """
        if self._present >= limit + self.at_once:
            raise ApiError(ErrorKind.QUEUE_FULL, f"the queue of this endpoint is full: {limit} requests wait already")
        self._present += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._present -= 1
            if not self._present:
                self.touch()
                self._empty.set()

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn and hold it."""
        async with self._turns:
            self.in_progress += 1
            try:
                yield
            finally:
                self.in_progress -= 1

    def touch(self) -> None:
        """Restart the count of seconds without requests."""
        self._quiet_since = asyncio.get_running_loop().time()

    async def quiet_for(self, seconds: float) -> None:
        """Wait until there was no request for this many seconds."""
        while True:
            await self._empty.wait()
            left = self._quiet_since + seconds - asyncio.get_running_loop().time()
            if left <= 0:
                return
            await asyncio.sleep(left)
