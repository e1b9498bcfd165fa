"""How an endpoint handles failures that no model causes, and how the next server restores it."""

import asyncio
import json
from pathlib import Path

import pytest
from databricks.sdk.service.serving import ServingEndpointDetailed

from car_damage.adapters.databricks import endpoint_state
from car_damage.errors import Terminal
from car_damage.server.api import describe
from car_damage.server.errors import ApiError
from car_damage.server.hosting.deployment import Phase
from car_damage.server.hosting.endpoints import Endpoints
from car_damage.server.state import State
from car_damage.settings import Settings
from tests.server.fakes import Disk, ProcessFactory, config, endpoint, until


def test_an_update_that_fails_for_an_unforeseen_reason_says_it_and_can_be_tried_again() -> None:
    async def life() -> None:
        of = endpoint(ProcessFactory(RuntimeError("out of luck")))
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
        made = ProcessFactory(None, RuntimeError("out of luck"))
        of = endpoint(made)
        of.update(config())
        await until(lambda: of.ready)
        made.processes[0].end.set()
        await until(lambda: len(made.processes) == 3 and of.ready)
        await of.close()

    asyncio.run(life())


def test_the_process_of_a_version_that_was_replaced_is_not_started_again() -> None:
    async def life() -> None:
        made = ProcessFactory()
        of = endpoint(made)
        for version in (1, 2):
            of.update(config(version))
            await until(lambda: of.update_state == "NOT_UPDATING")
        await until(lambda: made.processes[0].stopped)
        later = asyncio.get_running_loop().time() + 0.1
        await until(lambda: asyncio.get_running_loop().time() > later)
        assert [(process.version, process.running) for process in made.processes] == [(1, False), (2, True)]
        await of.close()

    asyncio.run(life())


def test_a_request_whose_turn_comes_after_its_endpoint_was_deleted_is_told_that_nothing_answers() -> None:
    async def life() -> None:
        of = endpoint(ProcessFactory())
        of.update(config())
        await until(lambda: of.ready)
        await of.close()
        with pytest.raises(ApiError, match="endpoint ep is not ready") as refused:
            await of.score(b"", "")
        assert refused.value.kind.status == 503

    asyncio.run(life())


def test_an_update_that_cannot_be_written_down_changes_nothing() -> None:
    async def life() -> None:
        disk = Disk()
        of = endpoint(ProcessFactory(), disk)
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
        disk, made = Disk(), ProcessFactory()
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


def test_an_update_that_a_server_s_end_interrupted_goes_on_in_the_next_one_while_the_old_version_answers() -> None:
    async def life() -> None:
        made = ProcessFactory()
        of = endpoint(made)
        of.restore(config(1), config(2), "IN_PROGRESS", 1)
        made.processes[-1].may_start.clear()
        await until(lambda: of.ready)
        assert (of.update_state, (await of.score(b"", "")).served_by) == ("IN_PROGRESS", "m-1")
        next(process for process in made.processes if process.version == 2).may_start.set()
        await until(lambda: of.update_state == "NOT_UPDATING")
        assert (await of.score(b"", "")).served_by == "m-2"
        await until(lambda: [process.version for process in made.running] == [2])
        await of.close()

    asyncio.run(life())


def test_a_first_update_that_had_failed_is_still_said_to_have_failed_by_the_next_server(tmp_path: Path) -> None:
    async def life() -> None:
        state = State(tmp_path)
        state.folder.mkdir()
        facts = {"description": "", "tags": [], "creation_timestamp": 1, "last_updated_timestamp": 2, "config_version": 1}
        failed = {"update_state": "UPDATE_FAILED", "active": None, "active_version": 0, "pending": config(7).model_dump(mode="json")}
        state.write([{"name": "ep", "facts": facts, **failed}])
        before = json.loads((state.folder / "endpoints.json").read_text())
        endpoints = Endpoints(Settings(home=tmp_path), state)
        endpoints.restore()
        brought_back = endpoint_state.read(ServingEndpointDetailed.from_dict(describe.details(endpoints["ep"])), "m")
        assert (brought_back.failed, brought_back.ready, brought_back.served) == (True, False, None)
        assert brought_back.message == "see its build log"
        await endpoints.close()
        assert json.loads((state.folder / "endpoints.json").read_text()) == before

    asyncio.run(life())
