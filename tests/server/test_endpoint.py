"""What an endpoint does when something fails that no model is to blame for: nothing of it may go unseen."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from car_damage.errors import Terminal
from car_damage.server.deployment import READY
from car_damage.server.endpoint import Endpoint, Patience
from car_damage.server.requests import Config
from tests.server.conftest import DEADLINE

CONFIG = Config.model_validate(
    {"served_entities": [{"entity_name": "m", "entity_version": "1", "workload_size": "Small", "scale_to_zero_enabled": True}]}
)
FACTS = {"config_version": 0, "last_updated_timestamp": 0}


class Process:
    """A model's process that starts, or fails in its own way, and ends when it is told to."""

    def __init__(self, failure: Exception | None) -> None:
        self._failure = failure
        self.end = asyncio.Event()
        self.stopped = False

    async def start(self, timeout: float) -> None:
        del timeout
        if self._failure:
            raise self._failure

    async def ended(self) -> int:
        await self.end.wait()
        return 9

    async def finish(self, timeout: float) -> None:
        del timeout
        await self.stop()

    async def stop(self) -> None:
        self.stopped = True


class Disk:
    """Takes what is saved, or is full."""

    full = False

    def save(self) -> None:
        if self.full:
            raise Terminal("the disk is full")


def endpoint(failures: list[Exception | None], disk: Disk) -> tuple[Endpoint, list[Process]]:
    """An endpoint whose processes fail one after the other as listed, and those that were made."""
    made: list[Process] = []

    def make(config: Config, version: int) -> Any:
        del config, version
        made.append(Process(failures[len(made)]))
        return made[-1]

    return Endpoint("ep", dict(FACTS), make, Patience(60, 60), disk.save), made


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.01)


def test_an_update_that_fails_for_an_unforeseen_reason_says_it_and_can_be_tried_again() -> None:
    async def life() -> None:
        of, _ = endpoint([RuntimeError("out of luck"), None], Disk())
        of.update(CONFIG)
        await until(lambda: of.update_state == "UPDATE_FAILED")
        assert of.pending is not None
        assert of.pending.message == "RuntimeError: out of luck"
        of.update(CONFIG)
        await until(lambda: of.ready)
        await of.close()

    asyncio.run(life())


def test_a_process_that_cannot_be_started_again_is_tried_again_whatever_the_reason() -> None:
    async def life() -> None:
        of, made = endpoint([None, RuntimeError("out of luck"), None], Disk())
        of.update(CONFIG)
        await until(lambda: of.ready)
        made[0].end.set()
        await until(lambda: len(made) == 3 and of.ready)
        await of.close()

    asyncio.run(life())


def test_an_update_that_cannot_be_written_down_changes_nothing() -> None:
    async def life() -> None:
        disk = Disk()
        of, _ = endpoint([None, None, None], disk)
        of.update(CONFIG)
        await until(lambda: of.ready)
        active, facts = of.active, of.facts
        disk.full = True
        with pytest.raises(Terminal, match="the disk is full"):
            of.update(CONFIG)
        assert (of.active, of.pending, of.update_state, of.facts) == (active, None, "NOT_UPDATING", facts)
        await of.close()

    asyncio.run(life())


def test_an_update_whose_end_cannot_be_written_down_ends_all_the_same_and_the_old_process_too() -> None:
    async def life() -> None:
        disk = Disk()
        of, made = endpoint([None, None], disk)
        of.update(CONFIG)
        await until(lambda: of.ready)
        of.update(CONFIG)
        disk.full = True
        await until(lambda: of.update_state == "NOT_UPDATING")
        assert of.active is not None
        assert (of.active.version, of.active.state) == (2, READY)
        await until(lambda: made[0].stopped)
        assert not made[1].stopped
        await of.close()

    asyncio.run(life())
