"""A config that an endpoint serves or is about to, and the model's process that serves it."""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from car_damage.errors import ModelRefused
from car_damage.server.model_server import ModelServer
from car_damage.server.requests import Config

CREATING, READY, FAILED, RECOVERING = "DEPLOYMENT_CREATING", "DEPLOYMENT_READY", "DEPLOYMENT_FAILED", "DEPLOYMENT_RECOVERING"
_LONGEST_PAUSE = 30.0
"""Seconds between two tries to bring a process back."""

_log = logging.getLogger(__name__)

MakeServer = Callable[[Config, int], ModelServer]


class Deployment:
    """A config, and the process that serves it."""

    def __init__(self, config: Config, version: int, created: int, make: MakeServer) -> None:
        self.config, self.version, self.created = config, version, created
        self.state, self.message = CREATING, ""
        self._make = make
        self.server = make(config, version)

    async def start(self, timeout: float) -> None:
        """Start the process. Raises ModelRefused, and nothing else, when it does not become ready."""
        try:
            await self.server.start(timeout)
        except ModelRefused as error:
            self.state, self.message = FAILED, str(error)
            raise
        except Exception as error:
            # Nobody awaits the tasks that start processes: what is not said here is never seen.
            _log.exception("starting %s", self.config.entity.served_name)
            self.state, self.message = FAILED, f"{type(error).__name__}: {error}"
            raise ModelRefused(self.message) from error
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
