"""Finds processes on this machine by their environment, and kills those of flow runs.

A worker starts each run in a separate session, so a run outlives its worker, and no signal to a process group reaches it.
Its environment variables identify it.
"""

import contextlib
import os
from collections.abc import Sequence

import psutil

FLOW_RUN = "PREFECT__FLOW_RUN_ID"
"""The environment variable with the run's id, which the worker sets."""
TIMEOUT = 15.0
"""Seconds that a killed process may take to end."""


def of_run(flow_run: str) -> list[psutil.Process]:
    """Processes of this flow run, except this process, its ancestors and its descendants."""
    current = psutil.Process()
    own = {current.pid, *(process.pid for process in (*current.parents(), *current.children(recursive=True)))}
    return [process for process in with_variable(FLOW_RUN, flow_run) if process.pid not in own]


def of_server(api: str) -> list[psutil.Process]:
    """Processes of all flow runs that a worker has started for the Prefect server with this API URL."""
    return [process for process in with_variable("PREFECT_API_URL", api) if variable(process, FLOW_RUN)]


def with_variable(name: str, value: str) -> list[psutil.Process]:
    """Processes of this user whose initial environment has this value of a variable."""
    return [process for process in psutil.process_iter() if variable(process, name) == value and _is_ours(process)]


def _is_ours(process: psutil.Process) -> bool:
    """Whether this user started it: root can read the environment of everybody's, and whoever started one chose it."""
    try:
        return bool(process.uids().real == os.getuid())
    except psutil.Error:
        return False


def variable(process: psutil.Process, name: str) -> str | None:
    """A variable of the process' initial environment; None if it is not set or the process belongs to another user."""
    try:
        value: str | None = process.environ().get(name)
    except psutil.Error:
        return None
    return value


def end(processes: Sequence[psutil.Process]) -> None:
    """Kill the processes that are still running. psutil compares start times, so it never kills another process with a reused PID."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=TIMEOUT)
