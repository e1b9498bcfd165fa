"""The whole service as its users run it: deployments, worker processes, and runs that the server assigns to them."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import psutil
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName, FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.settings import get_current_settings
from prefect.states import Scheduled

from car_damage.platform import Target
from car_damage.settings_sources import load
from deployments.bootstrap import everything
from deployments.items import bootstrap
from deployments.stack import workers_online
from deployments.work_pool import WORK_POOL

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
PATIENCE = 240.0
"""Seconds; a condition that is still false after them never becomes true."""
POLL = 1.0
"""Seconds between two polls. Each costs the server and a new client a twentieth of a second of one core."""
RUN = 1500.0
"""Seconds that a run may take, including training and judging, on a machine that is busy with other work."""


def until(condition: Callable[[], T], what: str, timeout: float = PATIENCE) -> T:
    """Wait until a condition returns a true value, and return that value."""
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {timeout:.0f} s: {what}"
        time.sleep(POLL)
    return result


@dataclass
class Worker:
    """A worker process."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def kill(self) -> None:
        """Send SIGKILL, as the out-of-memory killer does."""
        self.process.kill()
        self.process.wait()

    def online(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return self.name in workers_online(WORK_POOL)


@dataclass
class Service:
    """Deployments on a real server, a home folder with its endpoint server, and workers that tests start and stop."""

    home: Path
    landing: Path

    @property
    def platform(self) -> Target:
        return Target(load())

    @contextlib.contextmanager
    def worker(self, name: str) -> Iterator[Worker]:
        """A worker that lives as long as the block, unless the test kills it earlier."""
        log = self.home / "logs" / f"worker-{name}.log"
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", WORK_POOL, "--type", "process", "--name", name]
        environment = (
            os.environ | get_current_settings().to_environment_variables(exclude_unset=True) | {"PREFECT_WORKER_QUERY_SECONDS": "2"}
        )
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
        worker = Worker(name, process, log)
        try:
            until(worker.online, f"worker {name} is online")
            yield worker
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                worker.kill()

    def start(self, deployment: str, environment: dict[str, str] | None = None, late: timedelta = timedelta(0), **parameters: Any) -> UUID:
        """Create a run of a deployment (`retrain/retrain`), as `prefect deployment run` does; returns its id."""
        from prefect.types._datetime import now

        with get_client(sync_client=True) as client:
            found = client.read_deployment_by_name(deployment)
            variables = {"env": environment} if environment else None
            run = client.create_flow_run_from_deployment(
                found.id, parameters=parameters, state=Scheduled(scheduled_time=now("UTC") - late), job_variables=variables
            )
        return run.id

    def read(self, run: UUID) -> FlowRun:
        with get_client(sync_client=True) as client:
            return client.read_flow_run(run)

    def ended(self, run: UUID, timeout: float = RUN) -> FlowRun:
        """Wait until the run has ended."""

        def final() -> FlowRun | None:
            found = self.read(run)
            return found if found.state is not None and found.state.is_final() else None

        return until(final, f"run {run} ends", timeout)

    def completed(self, run: UUID, timeout: float = RUN) -> tuple[str, str]:
        """Wait until the run has completed; returns the name and message of its state."""
        state = self.ended(run, timeout).state
        assert state is not None
        assert state.is_completed(), f"{state.name}: {state.message}"
        return state.name or "", state.message or ""

    def runs(self, flow: str, but: set[UUID] = frozenset()) -> list[FlowRun]:  # type: ignore[assignment]
        """The runs of a deployment without those in `but`, oldest first."""
        with get_client(sync_client=True) as client:
            found = client.read_flow_runs(
                deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[flow])), flow_run_filter=FlowRunFilter(), limit=200
            )
        return sorted((run for run in found if run.id not in but), key=lambda run: str(run.expected_start_time))

    def tasks(self, run: UUID) -> dict[str, list[str]]:
        """Task -> the state names of its runs in one flow run, oldest first."""
        from prefect.client.schemas.filters import FlowRunFilterId

        with get_client(sync_client=True) as client:
            found = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])), limit=200)
        told: dict[str, list[str]] = {}
        for one in sorted(found, key=lambda task: str(task.start_time)):
            told.setdefault(one.task_key.partition("-")[0], []).append(one.state_name or "")
        return told

    def process_of(self, run: UUID) -> psutil.Process:
        """The process that executes a run."""
        return until(lambda: self._processes(run), f"run {run} has a process")[0]

    def training(self, run: UUID, starts: int = 1) -> None:
        """Wait until the run has trained one epoch in each of `starts` starts."""
        until(lambda: sum(line.startswith("epoch 1 of") for line in self.log(run)) >= starts, f"run {run} trains")

    def states(self, run: UUID) -> list[str]:
        """The names of all states of a run, oldest first."""
        with get_client(sync_client=True) as client:
            return [state.name or "" for state in sorted(client.read_flow_run_states(run), key=lambda state: state.timestamp)]

    def log(self, run: UUID) -> list[str]:
        """The log lines of the run that have reached the server."""
        with get_client(sync_client=True) as client:
            found = client.request(
                "POST", "/logs/filter", json={"logs": {"flow_run_id": {"any_": [str(run)]}}, "limit": 200, "sort": "TIMESTAMP_DESC"}
            )
        return [line["message"] for line in found.json()]

    def slots(self, limit: str) -> int:
        """The number of occupied slots of a limit."""
        with get_client(sync_client=True) as client:
            return client.read_global_concurrency_limit_by_name(limit).active_slots

    def slots_of(self, deployment: str) -> int:
        with get_client(sync_client=True) as client:
            return self.slots(f"deployment:{client.read_deployment_by_name(deployment).id}")

    @staticmethod
    def _processes(run: UUID) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("PREFECT__FLOW_RUN_ID") == str(run):
                    found.append(process)
        return sorted(found, key=lambda process: process.create_time())


def deployed(home: Path, landing: Path) -> Service:
    """Everything deployed, with all schedules off, so that each test knows what starts a run."""
    (home / "logs").mkdir(exist_ok=True)
    bootstrap(everything(load()))
    with get_client(sync_client=True) as client:
        for found in client.read_deployments():
            for schedule in found.schedules:
                client.update_deployment_schedule(found.id, schedule.id, active=False)
    delete_runs()  # of a schedule that fired before it was off: a second check at the same time would be cancelled
    return Service(home, landing)


def delete_runs() -> None:
    """Delete all flow runs of the server."""
    with get_client(sync_client=True) as client:
        while runs := client.read_flow_runs(limit=200):
            for run in runs:
                client.delete_flow_run(run.id)


def left_of(home: Path, but: set[int]) -> list[list[str]]:
    """Command lines of processes that name the home folder, without those in `but`."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if (
                process.pid not in but
                and process.pid != os.getpid()
                and any(str(home) in text for text in [*process.environ().values(), *process.cmdline()])
            ):
                found.append(process.cmdline())
    return found


def kill(process: psutil.Process) -> None:
    """Send SIGKILL, and wait until the process has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGKILL)
        process.wait(30)
