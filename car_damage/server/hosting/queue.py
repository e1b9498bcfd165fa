"""The requests that are at an endpoint: how many may be, whose turn it is, and since when there is none."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

from car_damage.server.errors import full


class Queue:
    """A bounded queue in front of an endpoint.

    Args:
        at_once: requests that have their turn at the same time.
    """

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self.in_progress = 0
        """Requests whose turn it is."""
        self._present = 0
        self._turns = asyncio.Semaphore(at_once)
        self._empty = asyncio.Event()
        self._empty.set()
        self._quiet_since = 0.0

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn, or whose body is still on its way."""
        return self._present - self.in_progress

    @property
    def busy(self) -> bool:
        """Somebody is here."""
        return self._present > 0

    @contextlib.contextmanager
    def place(self, limit: int) -> Iterator[None]:
        """A place in the queue. Raises ApiError 429 when `limit` requests wait already."""
        if self._present >= limit + self.at_once:
            raise full(f"as many requests as may ({limit}) wait for this endpoint already")
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
        """Wait for one's turn, and have it."""
        async with self._turns:
            self.in_progress += 1
            try:
                yield
            finally:
                self.in_progress -= 1

    def touch(self) -> None:
        """Count the time without requests from this moment."""
        self._quiet_since = asyncio.get_running_loop().time()

    async def quiet_for(self, seconds: float) -> None:
        """Wait until nobody has been here for so long."""
        while True:
            await self._empty.wait()
            left = self._quiet_since + seconds - asyncio.get_running_loop().time()
            if left <= 0:
                return
            await asyncio.sleep(left)
