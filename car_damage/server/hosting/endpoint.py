"""One endpoint: what it serves, what it will serve, and the switch between the two.

An update starts the new version's process beside the old one, which continues to answer. When the new model has answered its
own example, requests go to it; the old process finishes its requests in flight and stops. So no request is lost. An update
that fails changes only the endpoint's state: the old config still serves. The old process may be asleep during an update; a
request wakes it as usual.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal

from car_damage.errors import ModelRefused, Terminal, Unavailable
from car_damage.server.errors import ApiError, ErrorKind
from car_damage.server.hosting.deployment import Deployment, MakeServer, Phase, TimeLimits
from car_damage.server.hosting.measures import Measures
from car_damage.server.hosting.model_server import AT_ONCE, ModelResponse
from car_damage.server.hosting.queue import Queue
from car_damage.server.requests import Config

_TIMEOUT = 504
"""The status of a model's process that took too long for a request."""

UpdateState = Literal["NOT_UPDATING", "IN_PROGRESS", "UPDATE_FAILED"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EndpointResponse:
    """Response of a model, and the name of the served entity that it came from."""

    model: ModelResponse
    served_by: str


def now() -> int:
    """Milliseconds since 1970, as the API counts time."""
    return time.time_ns() // 1_000_000


class Endpoint:
    """An endpoint and its deployments."""

    def __init__(self, name: str, facts: dict[str, Any], make: MakeServer, limits: TimeLimits, save: Callable[[], None]) -> None:
        self.name, self.facts = name, facts
        """Facts: description, tags, creation_timestamp, last_updated_timestamp, config_version."""
        self.active: Deployment | None = None
        self.pending: Deployment | None = None
        self.update_state: UpdateState = "NOT_UPDATING"
        self._make, self._limits, self._save = make, limits, save
        self._tasks: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None
        self.queue, self.measures = Queue(AT_ONCE), Measures()

    @property
    def ready(self) -> bool:
        """A process answers requests, or starts when a request comes."""
        return self.active is not None and self.active.is_ready

    @property
    def served_entity(self) -> str:
        """The name of the served entity; empty before the first one is ready."""
        return self.active.config.entity.served_name if self.active is not None else ""

    @property
    def pid(self) -> int | None:
        """The id of the process that answers, if there is one."""
        return self.active.server.pid if self.active is not None else None

    def update(self, config: Config) -> None:
        """Begin to serve another config.

        Raises:
            ApiError: an update is in progress.
            Terminal: the update cannot be saved; nothing has changed.
        """
        if self.update_state == "IN_PROGRESS":
            raise ApiError(ErrorKind.UPDATING, f"endpoint {self.name} is being updated; wait until state.config_update is NOT_UPDATING")
        before = self.facts, self.pending, self.update_state
        version, at = self.facts["config_version"] + 1, now()
        self.facts = self.facts | {"config_version": version, "last_updated_timestamp": at}
        pending = Deployment(config, version, at, self._make, self.measures)
        self.pending, self.update_state = pending, "IN_PROGRESS"
        try:
            self._save()
        except Terminal:
            self.facts, self.pending, self.update_state = before
            raise
        self._run(self._switch_to(pending))

    def restore(self, active: Config | None, pending: Config | None, update_state: UpdateState, version: int) -> None:
        """Continue where the last server stopped: start the active config again, and continue an interrupted update."""
        self.update_state = update_state
        if active is not None:
            self.active = Deployment(active, version, now(), self._make, self.measures, phase=Phase.RECOVERING)
            self._keep()
        if pending is not None:
            interrupted = update_state == "IN_PROGRESS"
            phase = Phase.STARTING if interrupted else Phase.FAILED
            self.pending = Deployment(pending, self.facts["config_version"], now(), self._make, self.measures, phase=phase)
            if interrupted:
                self._run(self._switch_to(self.pending))

    async def score(self, body: bytes, content_type: str) -> EndpointResponse:
        """Pass a request to the config that is active when its turn comes. A process that is asleep is started first.

        Raises:
            ApiError: no process answers in time.
        """
        try:
            async with asyncio.timeout(self._limits.answer), self.queue.turn():
                response = await self._score(body, content_type)
        except Unavailable as error:
            raise ApiError(ErrorKind.NOT_READY, str(error)) from error
        except TimeoutError as error:
            message = f"endpoint {self.name} took longer than {self._limits.answer:g} seconds{_because(self.active)}"
            raise ApiError(ErrorKind.NOT_READY, message) from error
        if self.active is not None:
            self.active.note(timed_out=response.model.status == _TIMEOUT)
        return response

    @property
    def needed(self) -> list[int]:
        """The config versions whose model files are still needed to start a process."""
        is_updating = self.update_state == "IN_PROGRESS"
        return [deployment.version for deployment in self._deployments if deployment is self.active or is_updating]

    def deployment(self, served_name: str) -> Deployment | None:
        """The newest deployment that serves an entity of this name."""
        return next((one for one in reversed(self._deployments) if one.config.entity.served_name == served_name), None)

    async def close(self) -> None:
        """Stop all tasks and processes."""
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for deployment in self._deployments:
            deployment.retire()
        await asyncio.gather(*(deployment.server.stop() for deployment in self._deployments))

    @property
    def _deployments(self) -> list[Deployment]:
        return [deployment for deployment in (self.active, self.pending) if deployment is not None]

    async def _score(self, body: bytes, content_type: str) -> EndpointResponse:
        while (served := self.active) is not None:
            if server := await served.process():
                return EndpointResponse(await server.score(body, content_type), served.config.entity.served_name)
            if served is self.active:
                raise ApiError(ErrorKind.NOT_READY, f"endpoint {self.name} is not ready{_because(served)}", served.retry_after)
        raise ApiError(ErrorKind.NOT_READY, f"endpoint {self.name} is not ready")

    async def _switch_to(self, deployment: Deployment) -> None:
        try:
            await deployment.start(self._limits.ready)
        except ModelRefused:
            self.update_state = "UPDATE_FAILED"
            self._try_to_save()
            return
        old, keeper = self.active, self._keeper
        self.active, self.pending, self.update_state = deployment, None, "NOT_UPDATING"
        self.facts["last_updated_timestamp"] = now()
        self._keep()
        self._try_to_save()
        if keeper:
            keeper.cancel()
        if old is not None:
            old.retire()
            self._run(old.server.finish(self._limits.answer))

    def _keep(self) -> None:
        if self.active is not None:
            self._keeper = self._run(self.active.keep(self._limits, self.queue))

    def _try_to_save(self) -> None:
        """Save the end of an update. If that fails, the disk still has the update in progress, and the next server repeats it."""
        try:
            self._save()
        except Terminal as error:
            _log.error("endpoint %s: %s", self.name, error)

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.error("endpoint %s: a task ended", self.name, exc_info=error)


def _because(deployment: Deployment | None) -> str:
    return f": {deployment.message}" if deployment is not None and deployment.message else ""
