"""Runs of forget and runs that write to tables wait for each other, and never in circles."""

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.logging import disable_run_logger

from car_damage.errors import Terminal
from tasks import turns


class Server:
    """Prefect's server, with runs that end one at each look at them."""

    def __init__(self, **runs: tuple[StateType, int]) -> None:
        """Name of a flow, or a name that begins with it and `_` -> state, and minutes after noon."""
        noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
        self.runs = {
            name: FlowRun(id=UUID(int=place), flow_id=UUID(int=99), name=name, state=State(type=of, timestamp=noon + timedelta(minutes=at)))
            for place, (name, (of, at)) in enumerate(runs.items())
        }
        self.looks = 0
        self.ending: list[str] = []

    def read_flow_run(self, run: UUID) -> FlowRun:
        return next(one for one in self.runs.values() if one.id == run)

    def read_flow_runs(self, flow_filter: FlowFilter, flow_run_filter: FlowRunFilter, limit: int, offset: int) -> list[FlowRun]:
        self.looks += 1
        if self.ending and self.looks > 1:
            del self.runs[self.ending.pop(0)]
        assert flow_filter.name
        assert flow_run_filter.state
        assert flow_run_filter.state.type
        states, names = flow_run_filter.state.type.any_ or [], flow_filter.name.any_ or []
        found = [run for name, run in self.runs.items() if name.partition("_")[0] in names and run.state and run.state.type in states]
        return found[offset : offset + limit]


RUNNING, CANCELLING = StateType.RUNNING, StateType.CANCELLING


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(turns, "POLL", 0.0)
    return monkeypatch


class Remote:
    """A runner whose remote work ends at its second look."""

    def __init__(self, *runs: str) -> None:
        self.looks, self._runs = 0, list(runs)

    def underway(self) -> list[str]:
        self.looks += 1
        return self._runs if self.looks == 1 else []


def run_as(name: str, server: Server, here: pytest.MonkeyPatch, remote: Any = None) -> None:
    here.setattr(turns, "get_client", lambda sync_client: nullcontext(server))
    here.setenv("PREFECT__RUNTIME__FLOW_RUN__ID", str(server.runs[name].id))
    with disable_run_logger():
        turns.await_others(remote or Remote()) if name == "forget" else turns.await_forgetting()


@pytest.mark.parametrize("other", ["retrain", "promote", "score", "monitor", "forget_another"])
def test_forgetting_waits_for_each_run_that_began_before_it_and_no_later_one(here: pytest.MonkeyPatch, other: str) -> None:
    server = Server(forget=(RUNNING, 5), **{other: (RUNNING, 4)})
    server.ending = [other]
    run_as("forget", server, here)
    assert server.looks == 2
    run_as("forget", Server(forget=(RUNNING, 5), **{other: (RUNNING, 6)}), here)


def test_a_run_that_is_cancelled_is_waited_for_too_because_it_may_still_write(here: pytest.MonkeyPatch) -> None:
    server = Server(forget=(RUNNING, 5), monitor=(CANCELLING, 9))
    server.ending = ["monitor"]
    run_as("forget", server, here)
    assert server.looks == 2


def test_forgetting_waits_for_remote_work_of_a_run_that_was_killed(here: pytest.MonkeyPatch) -> None:
    remote = Remote("https://workspace/run/7")
    run_as("forget", Server(forget=(RUNNING, 5)), here, remote)
    assert remote.looks == 2
    here.setattr(turns, "PATIENCE", -1.0)
    with pytest.raises(Terminal, match="the run https://workspace/run/7 has not ended: cancel it"):
        run_as("forget", Server(forget=(RUNNING, 5)), here, Remote("https://workspace/run/7"))


@pytest.mark.parametrize("writer", ["retrain", "score", "monitor"])
def test_a_run_that_begins_while_a_photo_is_forgotten_waits_for_the_end(here: pytest.MonkeyPatch, writer: str) -> None:
    server = Server(forget=(RUNNING, 5), **{writer: (RUNNING, 6)})
    server.ending = ["forget"]
    run_as(writer, server, here)
    assert server.looks == 2
    run_as(writer, Server(forget=(RUNNING, 5), **{writer: (RUNNING, 4)}), here)


def test_a_run_that_does_not_end_is_named_with_what_to_do(here: pytest.MonkeyPatch) -> None:
    here.setattr(turns, "PATIENCE", -1.0)
    with pytest.raises(Terminal, match="the run forget has not ended: cancel it"):
        run_as("score", Server(forget=(RUNNING, 5), score=(RUNNING, 6)), here)
