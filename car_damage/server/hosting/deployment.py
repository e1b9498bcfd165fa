"""A config that an endpoint serves or will serve, and the model's process that serves it.

Only one task at a time starts and stops the process: first `start`, then `keep`, which never ends. So there is never a second
process. Requests only ask for the process: all requests that find it stopped wait for the same start.

    from                 to            because
    STARTING             AWAKE         the model answered its own example
    STARTING             FAILED        it did not
    AWAKE                RECOVERING    the process ended by itself, or hangs; it is started again until it is AWAKE
    AWAKE                ASLEEP        no request came for a while, and the config scales to zero
    ASLEEP               WAKING        a request came
    WAKING, STUCK        AWAKE         the model answered its own example again
    WAKING               STUCK         it did not; the next request starts it again
"""

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from car_damage.errors import ModelRefused
from car_damage.server.hosting.measures import Measures
from car_damage.server.hosting.model_server import ModelServer
from car_damage.server.hosting.queue import Queue
from car_damage.server.requests import Config

_TIMEOUTS = 3
"""Requests in a row that took too long, after which a process is held to be stuck although it answers probes."""
_LONGEST_PAUSE = 30.0
"""Seconds between two starts of a process."""

_log = logging.getLogger(__name__)

MakeServer = Callable[[Config, int], ModelServer]
DeploymentState = Literal["DEPLOYMENT_CREATING", "DEPLOYMENT_READY", "DEPLOYMENT_RECOVERING", "DEPLOYMENT_FAILED"]


class Phase(Enum):
    """Phase of a deployment, with its state in the API and the usual message for it."""

    STARTING = "DEPLOYMENT_CREATING", ""
    AWAKE = "DEPLOYMENT_READY", ""
    ASLEEP = "DEPLOYMENT_READY", "Scaled to zero"
    WAKING = "DEPLOYMENT_READY", "Scaling from zero"
    STUCK = "DEPLOYMENT_RECOVERING", "Scaled to zero, and could not be started"
    RECOVERING = "DEPLOYMENT_RECOVERING", "the model's process is being started again"
    FAILED = "DEPLOYMENT_FAILED", "see its build log"

    def __init__(self, state: DeploymentState, message: str) -> None:
        self.state, self.message = state, message


_WOKEN_BY_REQUESTS = frozenset({Phase.ASLEEP, Phase.WAKING, Phase.STUCK})


@dataclass(frozen=True)
class TimeLimits:
    """Time limits, in seconds."""

    ready: float
    """Time from the start of a process until its model has answered its own example."""
    answer: float
    """Time for one request, including the wait for its turn and for a process that is asleep."""
    again: float
    """The same for a process that a request wakes: the model's files are there, and a caller waits."""
    idle: float
    """Time without requests after which a process stops, if its config has scale_to_zero_enabled."""


class Deployment:
    """A config, and the process that serves it."""

    def __init__(
        self, config: Config, version: int, created: int, make: MakeServer, measures: Measures, *, phase: Phase = Phase.STARTING
    ) -> None:
        self.config, self.version, self.created = config, version, created
        self.phase, self._why = phase, ""
        self._make, self._measures = make, measures
        self.server = make(config, version)
        self._pause, self._not_before = 0.0, 0.0
        self._wanted = asyncio.Event()
        self._tried = asyncio.Event()
        self._retired = False
        self._timeouts, self._stuck = 0, asyncio.Event()

    def note(self, *, timed_out: bool) -> None:
        """Note whether the model took too long for a request. After some in a row that did, the process is started again."""
        self._timeouts = self._timeouts + 1 if timed_out else 0
        if self._timeouts >= _TIMEOUTS:
            self._stuck.set()

    @property
    def state(self) -> DeploymentState:
        """The state in the API."""
        return self.phase.state

    @property
    def message(self) -> str:
        """Explains the state; may be empty."""
        return self._why or self.phase.message

    @property
    def is_ready(self) -> bool:
        """A request would be answered, or would wait for a start that is expected to succeed."""
        return self.phase in {Phase.AWAKE, Phase.ASLEEP, Phase.WAKING}

    @property
    def is_asleep(self) -> bool:
        """There is no process until a request comes."""
        return self.phase in {Phase.ASLEEP, Phase.STUCK}

    @property
    def retry_after(self) -> int:
        """Seconds after which a client should try again."""
        return max(1, math.ceil(self._pause))

    async def start(self, timeout: float) -> None:
        """Start the process.

        Raises:
            ModelRefused: it did not become ready, whatever the reason.
        """
        try:
            with self._measures.start(self.config.entity.served_name):
                await self.server.start(timeout)
        except ModelRefused as error:
            self._enter(Phase.FAILED, str(error))
            raise
        except Exception as error:
            # Nobody awaits the tasks that start processes, so an error that is not logged here is never seen.
            _log.exception("starting %s", self.config.entity.served_name)
            self._enter(Phase.FAILED, f"{type(error).__name__}: {error}")
            raise ModelRefused(self.message) from error
        self._enter(Phase.AWAKE)

    async def keep(self, limits: TimeLimits, queue: Queue) -> None:
        """Keep the process for ever: restart it when it ends, stop it when no requests come, and start it when one comes."""
        while True:
            if self.phase is Phase.AWAKE:
                queue.touch()
                await self._until_ended_or_idle(limits.idle, queue)
            elif self.phase in _WOKEN_BY_REQUESTS:
                await self._wanted.wait()
                await self._restart(limits.again, Phase.STUCK)
            else:
                await self._restart(limits.ready, Phase.RECOVERING)

    async def process(self) -> ModelServer | None:
        """The process, or None when there is none; `message` then says why.

        A process that is asleep is started first. All requests that come meanwhile wait for the same start and share its failure.
        A later request waits for the next start, which begins `retry_after` seconds after the failure.
        """
        if self.phase in _WOKEN_BY_REQUESTS and not self._retired:
            if not self._wanted.is_set():
                self._tried.clear()
                self._wanted.set()
            await self._tried.wait()
        return self.server if self.phase is Phase.AWAKE and not self._retired else None

    def retire(self) -> None:
        """Give this process to no more requests, and wake the requests that wait for it."""
        self._retired = True
        self._tried.set()

    async def _until_ended_or_idle(self, idle: float, queue: Queue) -> None:
        ended, hangs = asyncio.create_task(self.server.ended()), asyncio.create_task(self.server.hang())
        self._timeouts = 0
        self._stuck.clear()
        stuck = asyncio.create_task(self._stuck.wait())
        waits: set[asyncio.Task[Any]] = {ended, hangs, stuck}
        if self.config.entity.scale_to_zero_enabled:
            waits.add(asyncio.create_task(queue.quiet_for(idle)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if ended.done():
            why = self.server.killed_because or f"exit {ended.result()}"
            self._enter(Phase.RECOVERING, f"the model's process ended ({why}) and is being started again")
        elif hangs.done() or stuck.done():
            self._enter(Phase.RECOVERING, "the model's process did not answer any more, and is being started again")
        elif not queue.busy:
            self._enter(Phase.ASLEEP)
        else:
            return
        await self.server.stop()

    async def _restart(self, timeout: float, on_failure: Phase) -> None:
        await asyncio.sleep(self._not_before - asyncio.get_running_loop().time())
        if self.phase is Phase.ASLEEP:
            self._enter(Phase.WAKING)
        self.server = self._make(self.config, self.version)
        try:
            await self.start(timeout)
            self._pause = 0.0
        except ModelRefused as error:
            self._pause = min(max(1.0, self._pause * 2), _LONGEST_PAUSE)
            self._not_before = asyncio.get_running_loop().time() + self._pause
            self._enter(on_failure, f"{on_failure.message}: {error}")
        self._wanted.clear()
        self._tried.set()

    def _enter(self, phase: Phase, why: str = "") -> None:
        self.phase, self._why = phase, why
