"""Forgetting a photo removes files of tables that no commit names, so nothing else may write to a table meanwhile.

A run of forget waits for the runs that began before it, and a run that writes to tables waits for the runs of forget that began before
it. So each waits for earlier ones only, and no two for each other. Prefect's own limits would not do: a run that waits for a slot for
hours has no order, and one that was killed keeps its slot. A run that only updates the endpoint takes turns by the endpoint's limit: a
rollback must not wait for a training that a run of forget waits for.
"""

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from uuid import UUID

from prefect import runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.logging import get_run_logger

from car_damage.errors import Terminal
from tasks.flow_runs import FORGET, WORK, in_state
from tasks.old_pictures import RUNS, pages
from tasks.runner import Runner

PATIENCE, POLL = 12 * 3600.0, 10.0
"""Seconds to wait for other runs to end, and between two looks."""
_IN_PROGRESS = FlowRunFilter(state=in_state(StateType.RUNNING, StateType.CANCELLING))


def await_others(runner: Runner) -> None:
    """Wait until every run has ended that may have read the photo before its mark was noted, and the runs of forget that began before.

    No later run writes to a table meanwhile: see `await_forgetting`. The remote work of a run that was killed goes on without it.

    Raises:
        Terminal: one of them takes too long.
        CarDamageError: it cannot be seen whether remote work goes on.
    """
    _await_earlier(WORK)
    _until_none(runner.underway)


def await_forgetting() -> None:
    """Wait until no run of forget is in progress that began before this one. At the start of each flow that writes to tables.

    Raises:
        Terminal: one of them takes too long.
    """
    _await_earlier(FORGET)


def _await_earlier(flows: FlowFilter) -> None:
    with get_client(sync_client=True) as client:
        mine = _began(client.read_flow_run(UUID(str(runtime.flow_run.id))))
        _until_none(lambda: [run.name for run in _earlier(client, flows, mine)])


def _until_none(underway: Callable[[], list[str]]) -> None:
    deadline, told = time.monotonic() + PATIENCE, set[str]()
    while others := underway():
        for name in others:
            if name not in told:
                get_run_logger().info("waiting for the run %s", name)
        told.update(others)
        if time.monotonic() > deadline:
            raise Terminal(f"the run {others[0]} has not ended: cancel it, or wait, and run this again")
        time.sleep(POLL)


def _earlier(client: SyncPrefectClient, flows: FlowFilter, mine: tuple[datetime, UUID]) -> Iterator[FlowRun]:
    """The runs in progress that began before. One that is cancelled may still write, and waits for nothing any more."""
    for page in pages(lambda limit, offset: _runs(client, flows, limit, offset), RUNS):
        yield from (run for run in page if run.state is not None and (run.state.is_cancelling() or _began(run) < mine))


def _runs(client: SyncPrefectClient, flows: FlowFilter, limit: int, offset: int) -> list[FlowRun]:
    return client.read_flow_runs(flow_filter=flows, flow_run_filter=_IN_PROGRESS, limit=limit, offset=offset)


def _began(run: FlowRun) -> tuple[datetime, UUID]:
    """When its process began, also after a retry, which the run's start time does not tell."""
    assert run.state is not None  # noqa: S101 - for the type checker
    return run.state.timestamp, run.id
