"""What an endpoint does when something fails that no model is to blame for: nothing of it may go unseen."""

import asyncio

import pytest

from car_damage.errors import Terminal
from car_damage.server.deployment import Phase
from tests.server.fakes import Disk, Made, config, endpoint, until


def test_an_update_that_fails_for_an_unforeseen_reason_says_it_and_can_be_tried_again() -> None:
    async def life() -> None:
        of = endpoint(Made(RuntimeError("out of luck")))
        of.update(config())
        await until(lambda: of.update_state == "UPDATE_FAILED")
        assert of.pending is not None
        assert of.pending.message == "RuntimeError: out of luck"
        of.update(config())
        await until(lambda: of.ready)
        await of.close()

    asyncio.run(life())


def test_a_process_that_cannot_be_started_again_is_tried_again_whatever_the_reason() -> None:
    async def life() -> None:
        made = Made(None, RuntimeError("out of luck"))
        of = endpoint(made)
        of.update(config())
        await until(lambda: of.ready)
        made.processes[0].end.set()
        await until(lambda: len(made.processes) == 3 and of.ready)
        await of.close()

    asyncio.run(life())


def test_an_update_that_cannot_be_written_down_changes_nothing() -> None:
    async def life() -> None:
        disk = Disk()
        of = endpoint(Made(), disk)
        of.update(config())
        await until(lambda: of.ready)
        active, facts = of.active, of.facts
        disk.full = True
        with pytest.raises(Terminal, match="the disk is full"):
            of.update(config())
        assert (of.active, of.pending, of.update_state, of.facts) == (active, None, "NOT_UPDATING", facts)
        await of.close()

    asyncio.run(life())


def test_an_update_whose_end_cannot_be_written_down_ends_all_the_same_and_the_old_process_too() -> None:
    async def life() -> None:
        disk, made = Disk(), Made()
        of = endpoint(made, disk)
        of.update(config())
        await until(lambda: of.ready)
        of.update(config())
        disk.full = True
        await until(lambda: of.update_state == "NOT_UPDATING")
        assert of.active is not None
        assert (of.active.version, of.active.phase) == (2, Phase.AWAKE)
        await until(lambda: made.processes[0].stopped)
        assert not made.processes[1].stopped
        await of.close()

    asyncio.run(life())
