"""Processes of flow runs on this machine.

A worker starts each run in a session of its own, so a run outlives its worker, and no signal to a group reaches it.
What finds it is its environment.
"""

import contextlib
from collections.abc import Sequence

import psutil

FLOW_RUN = "PREFECT__FLOW_RUN_ID"
"""The variable by which a worker tells a process which run it is."""
TIMEOUT = 15.0
"""Seconds that a killed process may take to be gone."""


def of_run(flow_run: str) -> list[psutil.Process]:
    """Processes of this flow run that are neither this one, nor what it comes from, nor what it has started."""
    this = psutil.Process()
    own = {this.pid, *(process.pid for process in (*this.parents(), *this.children(recursive=True)))}
    return [process for process in _with(FLOW_RUN, flow_run) if process.pid not in own]


def of_server(api: str) -> list[psutil.Process]:
    """Processes of all flow runs that a worker has started for the Prefect server with this API URL."""
    return [process for process in _with("PREFECT_API_URL", api) if _variable(process, FLOW_RUN)]


def end(processes: Sequence[psutil.Process]) -> None:
    """Kill what still lives. A process object knows its own start, so a pid that was given to another is left alone."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=TIMEOUT)


def _with(variable: str, value: str) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if _variable(process, variable) == value]


def _variable(process: psutil.Process, name: str) -> str | None:
    """A variable of the environment that a process was started with; None also for processes of other people."""
    try:
        value: str | None = process.environ().get(name)
    except psutil.Error:
        return None
    return value
