"""A config that an endpoint serves or is about to, and the model's process that serves it.

One task at a time starts and stops the process: `start`, then `keep`, which goes on for ever. So there is never a second
process. Requests only say that they want it: who finds it asleep waits for the start that the first of them asked for.

    from                 to            because
    STARTING             AWAKE         the model has answered its own example
    STARTING             FAILED        it has not
    AWAKE                RECOVERING    the process ended by itself; it is started again until it is AWAKE
    AWAKE                ASLEEP        nobody has asked for a while, and the config lets it scale to zero
    ASLEEP               WAKING        somebody asks
    WAKING, STUCK        AWAKE         the model has answered its own example again
    WAKING               STUCK         it has not; the next request makes the next try
"""

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from car_damage.errors import ModelRefused
from car_damage.server.hosting.measures import Measures
from car_damage.server.hosting.model_server import ModelServer
from car_damage.server.hosting.queue import Queue
from car_damage.server.requests import Config

_LONGEST_PAUSE = 30.0
"""Seconds between two tries to bring a process back."""

_log = logging.getLogger(__name__)

MakeServer = Callable[[Config, int], ModelServer]


class Phase(Enum):
    """Where a deployment stands: the API's word for it, and what it says of it unless there is more to tell."""

    STARTING = "DEPLOYMENT_CREATING", ""
    AWAKE = "DEPLOYMENT_READY", ""
    ASLEEP = "DEPLOYMENT_READY", "Scaled to zero"
    WAKING = "DEPLOYMENT_READY", "Scaling from zero"
    STUCK = "DEPLOYMENT_RECOVERING", "Scaled to zero, and could not be started"
    RECOVERING = "DEPLOYMENT_RECOVERING", "the model's process is being started again"
    FAILED = "DEPLOYMENT_FAILED", "see its build log"


_WOKEN_BY_REQUESTS = frozenset({Phase.ASLEEP, Phase.WAKING, Phase.STUCK})


@dataclass(frozen=True)
class Patience:
    """How long things may take, in seconds."""

    ready: float
    """A new process, until its model has answered its own example."""
    answer: float
    """One request, with the time that it waits for its turn and for a process that is asleep."""
    idle: float
    """Nobody asking, until the process of a config with scale_to_zero_enabled is stopped."""


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

    @property
    def state(self) -> str:
        """The API's word."""
        return self.phase.value[0]

    @property
    def message(self) -> str:
        """What there is to say about the state."""
        return self._why or self.phase.value[1]

    @property
    def is_ready(self) -> bool:
        """A request would be answered, or wait for a start that is expected to succeed."""
        return self.phase in {Phase.AWAKE, Phase.ASLEEP, Phase.WAKING}

    @property
    def is_asleep(self) -> bool:
        """There is no process, and there will be none before somebody asks."""
        return self.phase in {Phase.ASLEEP, Phase.STUCK}

    @property
    def retry_after(self) -> int:
        """Seconds after which asking again makes sense."""
        return max(1, math.ceil(self._pause))

    async def start(self, timeout: float) -> None:
        """Start the process. Raises ModelRefused, and nothing else, when it does not become ready."""
        try:
            with self._measures.start(self.config.entity.served_name):
                await self.server.start(timeout)
        except ModelRefused as error:
            self._enter(Phase.FAILED, str(error))
            raise
        except Exception as error:
            # Nobody awaits the tasks that start processes: what is not said here is never seen.
            _log.exception("starting %s", self.config.entity.served_name)
            self._enter(Phase.FAILED, f"{type(error).__name__}: {error}")
            raise ModelRefused(self.message) from error
        self._enter(Phase.AWAKE)

    async def keep(self, patience: Patience, queue: Queue) -> None:
        """Start the process again when it ended, let it sleep while nobody asks and wake it when somebody does; for ever."""
        while True:
            if self.phase is Phase.AWAKE:
                queue.touch()
                await self._until_ended_or_idle(patience.idle, queue)
            elif self.phase in _WOKEN_BY_REQUESTS:
                await self._wanted.wait()
                await self._try_again(patience.ready, Phase.STUCK)
            else:
                await self._try_again(patience.ready, Phase.RECOVERING)

    async def process(self) -> ModelServer | None:
        """The process, or None when there is none and `message` says why.

        One that is asleep is started first. All who ask meanwhile wait for the same start; one that fails is told to all of
        them, and whoever asks later waits for the next one, which keeps its distance of `retry_after`.
        """
        if self.phase in _WOKEN_BY_REQUESTS and not self._retired:
            if not self._wanted.is_set():
                self._tried.clear()
                self._wanted.set()
            await self._tried.wait()
        return self.server if self.phase is Phase.AWAKE and not self._retired else None

    def retire(self) -> None:
        """Nobody gets this process any more, and nobody waits for it."""
        self._retired = True
        self._tried.set()

    async def _until_ended_or_idle(self, idle: float, queue: Queue) -> None:
        ended = asyncio.create_task(self.server.ended())
        waits: set[asyncio.Task[int] | asyncio.Task[None]] = {ended}
        if self.config.entity.scale_to_zero_enabled:
            waits.add(asyncio.create_task(queue.quiet_for(idle)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if ended.done():
            self._enter(Phase.RECOVERING, f"the model's process ended (exit {ended.result()}) and is being started again")
        elif not queue.busy:
            self._enter(Phase.ASLEEP)
            await self.server.stop()

    async def _try_again(self, timeout: float, otherwise: Phase) -> None:
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
            self._enter(otherwise, f"{otherwise.value[1]}: {error}")
        self._wanted.clear()
        self._tried.set()

    def _enter(self, phase: Phase, why: str = "") -> None:
        self.phase, self._why = phase, why
