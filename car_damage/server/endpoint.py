"""One endpoint: what it serves, what it is about to serve, and the way from one to the other.

An update starts the new version's process beside the old one, which goes on answering. When the new one has answered its own
example, requests go to it; those in flight end on the old one, which then stops. So no request is lost. An update
that fails changes nothing but the endpoint's state: the old config still serves.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from car_damage.errors import ModelRefused, Unavailable
from car_damage.server.errors import conflict, full, unavailable
from car_damage.server.model_server import ModelServer, Scored
from car_damage.server.requests import Config

CREATING, READY, FAILED, RECOVERING = "DEPLOYMENT_CREATING", "DEPLOYMENT_READY", "DEPLOYMENT_FAILED", "DEPLOYMENT_RECOVERING"
_LONGEST_PAUSE = 30.0
"""Seconds between two tries to bring a process back."""

MakeServer = Callable[[Config, int], ModelServer]


@dataclass(frozen=True)
class Patience:
    """How long things may take, in seconds."""

    ready: float
    """A new process, until its model has answered its own example."""
    answer: float
    """One request."""


@dataclass(frozen=True)
class Answered:
    """What was answered, and by which served entity."""

    scored: Scored
    served_by: str


def now() -> int:
    """Milliseconds since 1970, as the API counts time."""
    return time.time_ns() // 1_000_000


class Deployment:
    """A config, and the process that serves it."""

    def __init__(self, config: Config, version: int, created: int, make: MakeServer) -> None:
        self.config, self.version, self.created = config, version, created
        self.state, self.message = CREATING, ""
        self._make = make
        self.server = make(config, version)

    async def start(self, timeout: float) -> None:
        """Start the process. Raises ModelRefused when it does not become ready."""
        try:
            await self.server.start(timeout)
        except ModelRefused as error:
            self.state, self.message = FAILED, str(error)
            raise
        self.state, self.message = READY, ""

    async def keep_alive(self, timeout: float) -> None:
        """Start the process again whenever it ends; for ever."""
        pause = 0.0
        while True:
            if self.state == READY:
                code = await self.server.ended()
                self.message = f"the model's process ended (exit {code}) and is being started again"
                pause = 0.0
            self.state = RECOVERING
            await asyncio.sleep(pause)
            self.server = self._make(self.config, self.version)
            with contextlib.suppress(ModelRefused):
                await self.start(timeout)
            pause = min(max(1.0, pause * 2), _LONGEST_PAUSE)


class Endpoint:
    """An endpoint and its deployments."""

    def __init__(self, name: str, facts: dict[str, Any], make: MakeServer, patience: Patience, save: Callable[[], None]) -> None:
        self.name, self.facts = name, facts
        """Facts: description, tags, creation_timestamp, last_updated_timestamp, config_version."""
        self.active: Deployment | None = None
        self.pending: Deployment | None = None
        self.update_state = "NOT_UPDATING"
        self._make, self._patience, self._save = make, patience, save
        self._tasks: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None
        self._slots = asyncio.Semaphore(max(2, os.cpu_count() or 1))
        self._admitted = 0

    @property
    def ready(self) -> bool:
        """A process is there to answer."""
        return self.active is not None and self.active.state == READY

    def update(self, config: Config) -> None:
        """Begin to serve another config. Raises ApiError while an update is in progress."""
        if self.update_state == "IN_PROGRESS":
            raise conflict(f"endpoint {self.name} is being updated; wait until state.config_update is NOT_UPDATING")
        self.facts["config_version"] += 1
        self.facts["last_updated_timestamp"] = now()
        self._begin(config)

    def restore(self, active: Config | None, pending: Config | None, update_state: str, version: int) -> None:
        """Take up where the last server stopped: bring the active config back, and go on with an update."""
        self.update_state = update_state
        if active is not None:
            self.active = Deployment(active, version, now(), self._make)
            self.active.state = RECOVERING
            self._keep()
        if pending is not None and update_state == "IN_PROGRESS":
            self._begin(pending)
        elif pending is not None:
            self.pending = Deployment(pending, self.facts["config_version"], now(), self._make)
            self.pending.state, self.pending.message = FAILED, "see its build log"

    async def score(self, body: bytes, content_type: str) -> Answered:
        """Answer one request with the config that is active when its turn comes.

        Raises:
            ApiError: no process answers now.
        """
        async with self._slots:
            if self.active is None or not self.ready:
                raise unavailable(f"endpoint {self.name} is not ready")
            served = self.active
            try:
                async with asyncio.timeout(self._patience.answer):
                    scored = await served.server.score(body, content_type)
            except (Unavailable, TimeoutError) as error:
                raise unavailable(str(error) or f"endpoint {self.name} took longer than {self._patience.answer:g} seconds") from error
        return Answered(scored, served.config.entity.served_name)

    @contextlib.contextmanager
    def place(self, limit: int) -> Iterator[None]:
        """A place in the queue. Raises ApiError 429 when `limit` requests wait already."""
        if self._admitted >= limit + max(2, os.cpu_count() or 1):
            raise full(f"{limit} requests wait for endpoint {self.name} already")
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1

    def deployment(self, served_name: str) -> Deployment | None:
        """The newest deployment of that name."""
        for deployment in (self.pending, self.active):
            if deployment is not None and deployment.config.entity.served_name == served_name:
                return deployment
        return None

    async def close(self) -> None:
        """Stop everything."""
        tasks = [*self._tasks, *([self._keeper] if self._keeper else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(d.server.stop() for d in (self.active, self.pending) if d is not None))

    def _begin(self, config: Config) -> None:
        self.update_state = "IN_PROGRESS"
        self.pending = Deployment(config, self.facts["config_version"], now(), self._make)
        self._save()
        self._run(self._switch_to(self.pending))

    async def _switch_to(self, deployment: Deployment) -> None:
        try:
            await deployment.start(self._patience.ready)
        except ModelRefused:
            self.update_state = "UPDATE_FAILED"
            self._save()
            return
        old, keeper = self.active, self._keeper
        self.active, self.pending, self.update_state = deployment, None, "NOT_UPDATING"
        self.facts["last_updated_timestamp"] = now()
        self._keep()
        self._save()
        if keeper:
            keeper.cancel()
        if old is not None:
            self._run(old.server.finish(self._patience.answer))

    def _keep(self) -> None:
        if self.active is not None:
            self._keeper = asyncio.create_task(self.active.keep_alive(self._patience.ready))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
