"""The service of the soak, as its users have it: `make up`, `make watch`, and runs of the deployments, which the worker starts."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from benchmarks.soak_checks import Account
from car_damage.settings import Settings
from deployments import pid_file
from deployments.processes import Service, service
from tasks import local_server
from tasks.run_processes import FLOW_RUN, of_server, variable

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, State, StateType

T = TypeVar("T")
START, STOP = 400.0, 60.0
"""Seconds that `make up` may take to start and to stop."""
RUN = 900.0
"""Seconds until a run that was asked for, by a person or by the doorbell, must have ended."""
QUIET = 120.0
"""Seconds until no process of a flow run may be left. A check of the landing folder begins in each minute."""
POLL = 1.0
_UP, _WATCH = pid_file.MAKE_UP, "make watch"


@contextmanager
def running(settings: Settings) -> Iterator[dict[str, int]]:
    """Run the service during the block, and let this process use its Prefect server.

    Yields:
        the id of each process that lives as long as the service, by its name.
    """
    with _command(settings, _UP, "Ctrl-C stops") as up:
        os.environ.update(local_server.variables(settings.home))  # before Prefect is imported
        with _command(settings, _WATCH, "Ctrl-C stops") as watch:
            yield {one.name: one.pid for one in pid_file.read(settings.home)} | {_WATCH: watch.process.pid}
        up.process.terminate()
        up.process.wait(STOP)  # the endpoint server writes the last requests to its log


@contextmanager
def _command(settings: Settings, name: str, ready: str) -> Iterator[Service]:
    """Run a command of the Makefile during the block, from the moment on when it has printed a text."""
    log = settings.home / "logs" / f"{name.replace(' ', '-')}.log"
    command = [sys.executable, "-m", "deployments", name.removeprefix("make ")]
    with service(name, command, log, lambda: ready in log.read_text()) as started:
        started.await_ready(START)
        yield started


def left() -> list[str]:
    """The flow runs of which a process is left, although they had the time to end. Waits until there is none."""
    deadline = time.monotonic() + QUIET
    while (found := of_server(os.environ["PREFECT_API_URL"])) and time.monotonic() < deadline:
        time.sleep(POLL)
    return [f"process {process.pid} of run {variable(process, FLOW_RUN)}" for process in found]


class Runs:
    """The runs of the deployments, on the Prefect server."""

    def __init__(self, client: "SyncPrefectClient") -> None:
        self._client = client

    def complete(self, flow: str, **parameters: Any) -> None:
        """Start a run as a person does, and wait until it has completed."""
        deployment = self._client.read_deployment_by_name(f"{flow}/{flow}")
        run = self._client.create_flow_run_from_deployment(deployment.id, parameters=parameters)
        state = _until(lambda: self._final(run.id), f"the run of {flow} has ended")
        if not state.is_completed():
            raise SystemExit(f"{flow} ended {state.name}: {state.message}")

    def await_doorbell(self, since: datetime) -> None:
        """Wait until a run of retrain that began after this time has ended, and no other one is waiting or in progress."""
        from prefect.client.schemas.objects import TERMINAL_STATES

        def done() -> bool:
            began = [run for run in self._retrain(TERMINAL_STATES) if run.start_time is not None and run.start_time > since]
            return bool(began) and not self._unfinished()

        _until(done, "the doorbell has started a run of retrain, and it has ended")

    def account(self) -> Account:
        """Whether each run that has ended did so without an error, and left no process. A check that begins while another one runs is
        cancelled, as it should be.
        """
        from prefect.client.schemas.filters import FlowRunFilter
        from prefect.client.schemas.objects import TERMINAL_STATES, StateType

        from tasks.flow_runs import in_state

        ended = {"state": in_state(*TERMINAL_STATES).model_dump(mode="json")}
        given = self._client.request("POST", "/flow_runs/count", json={"flow_runs": ended}).json()
        broken = self._client.read_flow_runs(flow_run_filter=FlowRunFilter(state=in_state(StateType.FAILED, StateType.CRASHED)))
        return Account("runs", given, [f"{run.name}: {run.state and run.state.message}" for run in broken] + left())

    def _final(self, run: UUID) -> "State[Any] | None":
        state = self._client.read_flow_run(run).state
        return state if state is not None and state.is_final() else None

    def _unfinished(self) -> "list[FlowRun]":
        """The runs of retrain that wait or are in progress, without those of coming nights."""
        from prefect.client.schemas.objects import TERMINAL_STATES, StateType

        found = self._retrain(set(StateType) - TERMINAL_STATES)
        return [run for run in found if not (run.auto_scheduled and run.state and run.state.is_scheduled())]

    def _retrain(self, states: "Iterable[StateType]") -> "list[FlowRun]":
        from prefect.client.schemas.filters import FlowRunFilter

        from tasks.flow_runs import RETRAIN, in_state

        return self._client.read_flow_runs(flow_filter=RETRAIN, flow_run_filter=FlowRunFilter(state=in_state(*states)))


def _until(condition: Callable[[], T | None], what: str) -> T:
    """Wait until a condition gives something, and return that."""
    deadline = time.monotonic() + RUN
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {RUN:.0f} s: {what}")
        time.sleep(POLL)
    return found
