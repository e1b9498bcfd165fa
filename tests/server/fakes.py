"""Fakes of a model's process and of the disk, to test an endpoint in situations that are rare with real ones."""

import asyncio
import os
from collections.abc import Callable
from typing import Any

from car_damage.errors import Terminal
from car_damage.server.hosting.deployment import TimeLimits
from car_damage.server.hosting.endpoint import Endpoint
from car_damage.server.hosting.model_server import ModelResponse
from car_damage.server.requests import Config
from tests.server.conftest import DEADLINE


def config(version: int = 1, *, scale_to_zero: bool = True) -> Config:
    entity = {"entity_name": "m", "entity_version": str(version), "workload_size": "Small", "scale_to_zero_enabled": scale_to_zero}
    return Config.model_validate({"served_entities": [entity]})


class Process:
    """A model's process that starts or raises the given failure, answers with its version, ends when `end` is set, and hangs when
    `stuck` is set.
    """

    began = built = 0
    killed_because = ""

    def __init__(self, version: int, failure: Exception | None) -> None:
        self.version, self._failure = version, failure
        self.may_start, self.may_stop, self.end, self.stuck = asyncio.Event(), asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.may_start.set()
        self.may_stop.set()
        self.running = self.stopped = False
        self.ready_at = self.stopped_at = 0.0
        self.status = 200

    @property
    def pid(self) -> int | None:
        return os.getpid() if self.running else None

    async def start(self, timeout: float) -> None:
        del timeout
        self.running = True
        try:
            await self.may_start.wait()
        finally:
            self.running = self.may_start.is_set() and self._failure is None
        if self._failure:
            raise self._failure
        self.ready_at = asyncio.get_running_loop().time()

    async def ended(self) -> int:
        await self.end.wait()
        self.running = False
        return 9

    async def hang(self) -> None:
        await self.stuck.wait()

    async def score(self, body: bytes, content_type: str) -> ModelResponse:
        del body, content_type
        assert self.running
        return ModelResponse(self.status, "application/json", str(self.version).encode())

    async def finish(self, timeout: float) -> None:
        del timeout
        await self.stop()

    async def stop(self) -> None:
        await self.may_stop.wait()
        self.running, self.stopped = False, True
        self.end.set()
        self.stopped_at = asyncio.get_running_loop().time()


class Disk:
    """Accepts every write unless it is full."""

    full = False

    def save(self) -> None:
        if self.full:
            raise Terminal("the disk is full")


class ProcessFactory:
    """Creates the processes and keeps them in order. The first ones fail with the given failures; None and all later ones start."""

    def __init__(self, *failures: Exception | None) -> None:
        self._failures = failures
        self._next: asyncio.Event | None = None
        self.processes: list[Process] = []

    def __call__(self, config: Config, version: int) -> Any:
        at = len(self.processes)
        process = Process(int(config.entity.entity_version), self._failures[at] if at < len(self._failures) else None)
        del version
        if self._next is not None:
            process.may_start, self._next = self._next, None
        self.processes.append(process)
        return process

    def hold_the_next(self) -> asyncio.Event:
        """Return an event. The next process is not ready before it is set."""
        self._next = asyncio.Event()
        return self._next

    @property
    def running(self) -> list[Process]:
        return [process for process in self.processes if process.running]


def endpoint(made: ProcessFactory, disk: Disk | None = None, *, answer: float = 60, idle: float = 60) -> Endpoint:
    """An endpoint whose processes come from `made`."""
    facts = {"description": "", "tags": [], "creation_timestamp": 0, "last_updated_timestamp": 0, "config_version": 0}
    return Endpoint("ep", facts, made, TimeLimits(ready=60, answer=answer, again=60, idle=idle), (disk or Disk()).save)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.005)
