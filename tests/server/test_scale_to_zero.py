"""An endpoint without requests stops its process and starts it again for the next request."""

import asyncio

import pytest
from databricks.sdk.service.serving import ServingEndpointDetailed

from car_damage.adapters.databricks import endpoint_state
from car_damage.errors import ModelRefused
from car_damage.server.api import describe
from car_damage.server.errors import ApiError
from car_damage.server.hosting.deployment import Phase
from car_damage.server.hosting.endpoint import Endpoint
from car_damage.server.hosting.queue import Queue
from car_damage.server.state import State
from tests.server import conftest
from tests.server.conftest import Server
from tests.server.fakes import ProcessFactory, config, endpoint, until

IDLE = 0.05
"""Seconds without a request after which these endpoints scale to zero."""


async def asleep(made: ProcessFactory, *, answer: float = 60) -> Endpoint:
    """An endpoint that has scaled to zero with version 1. Its process is the first in `made`."""
    of = endpoint(made, answer=answer, idle=IDLE)
    of.update(config())
    await until(lambda: of.active is not None and of.active.phase is Phase.ASLEEP and made.processes[0].stopped)
    return of


async def ask(of: Endpoint) -> str:
    with of.queue.place(8):
        return (await of.score(b"", "")).served_by


def test_an_endpoint_that_nobody_asks_has_no_process_and_is_ready_and_served_all_the_same() -> None:
    async def life() -> None:
        made = ProcessFactory()
        of = await asleep(made)
        assert made.running == []
        described = describe.details(of)
        (entity,) = described["config"]["served_entities"]
        assert described["state"] == {"ready": "READY", "config_update": "NOT_UPDATING"}
        assert entity["state"] == {"deployment": "DEPLOYMENT_READY", "deployment_state_message": "Scaled to zero"}
        state = endpoint_state.read(ServingEndpointDetailed.from_dict(described), "m")
        assert (state.ready, state.served, state.failed, state.updating) == (True, 1, False, False)
        await of.close()
        assert len(made.processes) == 1

    asyncio.run(life())


def test_requests_that_find_it_asleep_wait_for_one_start_and_are_all_answered() -> None:
    async def life() -> None:
        made = ProcessFactory()
        of = await asleep(made)
        may_start = made.hold_the_next()
        asking = [asyncio.create_task(ask(of)) for _ in range(8)]
        await until(lambda: len(made.processes) == 2 and of.queue.in_progress + of.queue.waiting == 8)
        assert of.active is not None
        assert (of.active.state, of.active.message) == ("DEPLOYMENT_READY", "Scaling from zero")
        may_start.set()
        assert await asyncio.gather(*asking) == ["m-1"] * 8
        assert len(made.processes) == 2
        await of.close()

    asyncio.run(life())


def test_it_stays_awake_while_a_request_is_there_however_slow_its_sender_is() -> None:
    async def life() -> None:
        made = ProcessFactory()
        of = endpoint(made, idle=IDLE)
        of.update(config())
        await until(lambda: of.ready)
        with of.queue.place(8):
            later = asyncio.get_running_loop().time() + 4 * IDLE
            await until(lambda: asyncio.get_running_loop().time() > later)
            assert [process.stopped for process in made.processes] == [False]
        left = asyncio.get_running_loop().time()
        await until(lambda: made.processes[0].stopped)
        assert made.processes[0].stopped_at >= left + IDLE
        await of.close()

    asyncio.run(life())


def test_a_config_that_may_not_scale_to_zero_stays_awake() -> None:
    async def life() -> None:
        made = ProcessFactory()
        of = endpoint(made, idle=IDLE)
        of.update(config(scale_to_zero=False))
        await until(lambda: of.ready)
        later = asyncio.get_running_loop().time() + 4 * IDLE
        await until(lambda: asyncio.get_running_loop().time() > later)
        assert [process.running for process in made.processes] == [True]
        await of.close()

    asyncio.run(life())


def test_a_request_that_comes_while_the_process_is_being_stopped_waits_until_it_is_gone() -> None:
    async def life() -> None:
        made = ProcessFactory()
        of = endpoint(made, idle=IDLE)
        of.update(config())
        (first,) = made.processes
        first.may_stop.clear()
        await until(lambda: of.active is not None and of.active.phase is Phase.ASLEEP)
        asking = asyncio.create_task(ask(of))
        await until(lambda: of.queue.in_progress == 1)
        assert made.running == [first]
        first.may_stop.set()
        assert await asking == "m-1"
        assert made.running == [made.processes[1]]
        await of.close()

    asyncio.run(life())


def test_a_start_that_fails_is_told_to_all_who_wait_and_the_next_request_tries_again_after_a_pause() -> None:
    async def life() -> None:
        made = ProcessFactory(None, ModelRefused("its files are gone"))
        of = await asleep(made)
        assert of.active is not None
        refused = await asyncio.gather(ask(of), ask(of), return_exceptions=True)
        for error in refused:
            assert isinstance(error, ApiError)
            assert (error.kind.status, error.headers["Retry-After"]) == (503, "1")
            assert "could not be started: its files are gone" in error.message
        assert (of.ready, of.active.state) == (False, "DEPLOYMENT_RECOVERING")
        assert of.active.message.endswith("could not be started: its files are gone")
        at = asyncio.get_running_loop().time()
        assert len(made.processes) == 2
        assert await ask(of) == "m-1"
        assert asyncio.get_running_loop().time() >= at + 0.9
        assert of.ready
        await of.close()

    asyncio.run(life())


def test_the_pause_between_starts_that_fail_grows() -> None:
    async def life() -> None:
        of = await asleep(ProcessFactory(None, ModelRefused("no"), ModelRefused("no")))
        pauses = []
        for _ in range(2):
            with pytest.raises(ApiError, match="could not be started: no") as refused:
                await ask(of)
            pauses.append(refused.value.headers["Retry-After"])
        assert pauses == ["1", "2"]
        await of.close()

    asyncio.run(life())


def test_a_request_whose_time_is_over_before_the_process_is_ready_is_told_so_and_the_start_goes_on() -> None:
    async def life() -> None:
        made = ProcessFactory()
        of = await asleep(made, answer=0.3)
        may_start = made.hold_the_next()
        with pytest.raises(ApiError, match=r"took longer than 0\.3 seconds: Scaling from zero") as refused:
            await ask(of)
        assert (refused.value.kind.status, refused.value.headers["Retry-After"]) == (503, "1")
        may_start.set()
        assert await ask(of) == "m-1"
        assert len(made.processes) == 2
        await of.close()

    asyncio.run(life())


def test_an_update_of_an_endpoint_that_is_asleep_wakes_nobody_but_the_new_version() -> None:
    async def life() -> None:
        made = ProcessFactory()
        of = await asleep(made)
        of.update(config(2))
        assert of.ready
        await until(lambda: of.update_state == "NOT_UPDATING")
        assert [(process.version, process.running) for process in made.processes] == [(1, False), (2, True)]
        switched = made.processes[1].ready_at
        await until(lambda: made.processes[1].stopped)
        # The idle time starts when the new version is ready, because no request has been sent.
        assert made.processes[1].stopped_at >= switched + IDLE
        assert await ask(of) == "m-2"
        await of.close()

    asyncio.run(life())


def test_a_request_that_waits_for_the_old_version_is_answered_by_the_new_one_when_that_is_there_first() -> None:
    async def life() -> None:
        made = ProcessFactory()
        of = await asleep(made)
        made.hold_the_next()
        asking = asyncio.create_task(ask(of))
        await until(lambda: len(made.processes) == 2)
        of.update(config(2))
        assert await asking == "m-2"
        await until(lambda: [process.version for process in made.running] == [2])
        await of.close()

    asyncio.run(life())


def test_an_endpoint_that_is_closed_while_it_wakes_leaves_no_process_and_nobody_waiting() -> None:
    async def life() -> None:
        made = ProcessFactory()
        of = await asleep(made)
        made.hold_the_next()
        asking = asyncio.create_task(ask(of))
        await until(lambda: len(made.running) == 1)
        await of.close()
        assert made.running == []
        with pytest.raises(ApiError, match="not ready"):
            await asking

    asyncio.run(life())


def test_a_server_that_is_started_again_brings_it_back_awake_and_lets_it_sleep_again() -> None:
    async def life() -> None:
        made = ProcessFactory()
        of = endpoint(made, idle=IDLE)
        of.restore(config(), None, "NOT_UPDATING", 1)
        await until(lambda: made.processes[-1].stopped)
        assert made.processes[-1].stopped_at >= made.processes[-1].ready_at + IDLE
        assert of.active is not None
        assert of.active.message == "Scaled to zero"
        await of.close()

    asyncio.run(life())


def test_a_process_that_ends_by_itself_is_started_again_and_one_that_sleeps_is_not() -> None:
    async def life() -> None:
        made = ProcessFactory()
        of = endpoint(made, idle=IDLE)
        of.update(config())
        with of.queue.place(8):
            await until(lambda: of.ready)
            made.processes[0].end.set()
            await until(lambda: len(made.processes) == 2 and of.ready)
        await until(lambda: made.processes[1].stopped)
        later = asyncio.get_running_loop().time() + 4 * IDLE
        await until(lambda: asyncio.get_running_loop().time() > later)
        assert len(made.processes) == 2
        await of.close()

    asyncio.run(life())


def test_a_process_that_hangs_is_stopped_and_started_again_and_no_one_calls_it_ready_meanwhile() -> None:
    async def life() -> None:
        made = ProcessFactory()
        of = endpoint(made)
        of.update(config())
        await until(lambda: of.ready)
        started = made.hold_the_next()
        made.processes[0].stuck.set()
        await until(lambda: len(made.processes) == 2)
        assert of.active is not None
        assert (made.processes[0].stopped, of.ready, of.active.state) == (True, False, "DEPLOYMENT_RECOVERING")
        assert of.active.message == "the model's process did not answer any more, and is being started again"
        started.set()
        await until(lambda: of.ready)
        await of.close()

    asyncio.run(life())


def test_a_model_that_takes_too_long_for_several_requests_in_a_row_is_started_again() -> None:
    async def life() -> None:
        made = ProcessFactory()
        of = endpoint(made)
        of.update(config())
        await until(lambda: of.ready)
        for status in (504, 504, 200, 504, 504):
            made.processes[0].status = status
            assert (await of.score(b"", "text/csv")).model.status == status
        assert len(made.processes) == 1
        assert (await of.score(b"", "text/csv")).model.status == 504
        await until(lambda: len(made.processes) == 2 and of.ready)
        assert made.processes[0].stopped
        await of.close()

    asyncio.run(life())


def test_a_real_process_goes_and_comes_back_for_the_next_photo_from_the_copy_on_this_disk(sleepy: Server, photo: bytes) -> None:
    assert sleepy.settled().served == 1
    conftest.until(lambda: sleepy.model_processes() == [], "the end of the process that nobody asks")
    state = sleepy.serving.state()
    assert (state.ready, state.served, state.message) == (True, 1, "Scaled to zero")
    assert sleepy.serving.query([photo])[0].served_by == "car_damage_classifier-1"
    (process,) = sleepy.model_processes()
    assert process.memory_info().rss > 0
    log = State(sleepy.settings.home).log(sleepy.settings.serving.endpoint, 1).read_text()
    assert log.count("fetching") == 1
    assert log.count("its example") >= 2


def test_a_queue_is_not_quiet_while_somebody_is_in_it() -> None:
    async def life() -> None:
        queue = Queue(2)
        with queue.place(8):
            quiet = asyncio.create_task(queue.quiet_for(IDLE))
            later = asyncio.get_running_loop().time() + 4 * IDLE
            await until(lambda: asyncio.get_running_loop().time() > later)
            assert not quiet.done()
        await quiet

    asyncio.run(life())


def test_a_request_that_comes_at_the_last_moment_keeps_the_process() -> None:
    class Hasty(Queue):
        """Returns from `quiet_for` while a request is in the queue, as when one arrives at the last moment."""

        async def quiet_for(self, seconds: float) -> None:
            await asyncio.sleep(seconds)

    async def life() -> None:
        made = ProcessFactory()
        of = endpoint(made, idle=IDLE)
        of.queue = Hasty(2)
        with of.queue.place(8):
            of.update(config())
            await until(lambda: of.ready)
            later = asyncio.get_running_loop().time() + 4 * IDLE
            await until(lambda: asyncio.get_running_loop().time() > later)
            assert [process.running for process in made.processes] == [True]
        await of.close()

    asyncio.run(life())
