"""`make up`: the whole service on one machine, until Ctrl-C. `make down`: what a kill of it has left."""

import contextlib
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from car_damage.adapters.databricks.volume import is_elsewhere
from car_damage.errors import SettingsError, Terminal
from car_damage.server.address import is_local
from car_damage.server.api.page import link
from car_damage.server.state import State
from car_damage.settings import CONFIG_VARIABLE, Settings, load
from deployments import started
from deployments.demo import LOCAL_SETTINGS
from deployments.processes import Service, port_is_free
from deployments.stack import (
    ENDPOINT_START,
    MLFLOW_START,
    WORKER_START,
    api_url,
    endpoint_server,
    is_local_store,
    mlflow_pages,
    mlflow_server,
    prefect_server,
    trainings_page,
    worker,
)
from deployments.variables import assignments, given
from tasks.run_processes import end, of_server

MAKE_UP = "make up"
"""The name of this process among those that are written down."""
LOOK = 1.0
"""Seconds between two looks whether everything still runs."""


def up() -> None:
    """Start everything, print where it is, and keep it running until this process is told to end.

    Raises:
        SettingsError: a port is taken, the landing folder is not there, or the endpoint is not on this machine.
        Terminal: it is up already, or one of the services does not start, or has ended.
    """
    os.environ.setdefault(CONFIG_VARIABLE, str(LOCAL_SETTINGS))
    os.environ[CONFIG_VARIABLE] = str(Path(os.environ[CONFIG_VARIABLE]).absolute())
    settings = load()
    variables = given()
    _refuse_a_second(settings.home)
    _check_ports(settings)
    if (landing := Path(settings.landing.folder)).is_relative_to(settings.home):
        landing.mkdir(parents=True, exist_ok=True)
    elif not landing.is_dir() and not is_elsewhere(settings.landing.folder):
        raise SettingsError(f"landing.folder is {landing}, which is no folder: mount it, create it, or name another")
    if settings.tracking.ui is None and is_local_store(settings):
        os.environ["CAR_DAMAGE_TRACKING__UI"] = mlflow_pages(settings)
    console = Console()
    console.print(f"Starting; the logs are in {settings.home / 'logs'}")
    with contextlib.ExitStack() as block:
        block.callback(started.forget, settings.home)
        written = [started.this(MAKE_UP)]

        def note(service: Service) -> Service:
            written.append(started.this(service.name, service.process.pid))
            started.write(settings.home, written)
            return service

        prefect = block.enter_context(prefect_server(settings.home, settings.stack.prefect_port))
        api = prefect.variables["PREFECT_API_URL"]
        block.callback(lambda: end(of_server(api)))  # a worker that was killed cannot end its runs itself
        note(prefect.service)
        starting = [(note(block.enter_context(endpoint_server(settings))), ENDPOINT_START)]
        if is_local_store(settings):
            starting.append((note(block.enter_context(mlflow_server(settings))), MLFLOW_START))
        os.environ.update(prefect.variables)  # before Prefect is imported
        prefect.await_ready()
        pool = _bootstrap(settings)
        end(of_server(api))
        start_again()
        starting.append((note(block.enter_context(worker(settings.home, pool, prefect.variables))), WORKER_START))
        for service, timeout in starting:
            service.await_ready(timeout)
        services = [prefect.service, *(service for service, _ in starting)]
        console.print(_addresses(settings, prefect.url))
        console.print(_next({"PREFECT_API_URL": api, **variables}), soft_wrap=True, highlight=False, markup=False)
        while True:
            for service in services:
                service.check()
            time.sleep(LOOK)


def down() -> None:
    """End what `make up` has started in this home folder and could not end itself. Says what it ended."""
    os.environ.setdefault(CONFIG_VARIABLE, str(LOCAL_SETTINGS))
    settings = load()
    home = settings.home
    ended = started.end_all(started.read(home))
    port = settings.stack.prefect_port
    # A server that still answers there is another home's, and so are its runs.
    if port_is_free(port) and (runs := of_server(api_url(port))):
        end(runs)
        ended.append("runs")
    started.forget(home)
    print(f"ended: {', '.join(ended)}" if ended else f"nothing of {home} was running")


def _refuse_a_second(home: Path) -> None:
    running = [one.name for one in started.read(home) if one.process() is not None]
    if MAKE_UP in running:
        raise Terminal(f"`make up` is running already with {home}, in another terminal or in the background; `make down` ends it")
    if running:
        raise Terminal(f"still running in {home}: {', '.join(running)}; `make down` ends what is left of an earlier `make up`")


def _check_ports(settings: Settings) -> None:
    host = settings.serving.host
    if not is_local(host):
        raise SettingsError(f"serving.host is {host}: `make up` starts an endpoint on this machine, such as http://127.0.0.1:5055")
    ports = {
        "stack.prefect_port": settings.stack.prefect_port,
        **({"stack.mlflow_port": settings.stack.mlflow_port} if is_local_store(settings) else {}),
        "serving.host": urlsplit(host or "").port or 80,
    }
    for name, port in ports.items():
        if not port_is_free(port):
            variable = "CAR_DAMAGE_" + name.upper().replace(".", "__")
            raise SettingsError(f"port {port} of {name} is in use: stop what uses it, or set {name} ({variable}) to another")


def _bootstrap(settings: Settings) -> str:
    from deployments.bootstrap import WORK_POOL, everything
    from deployments.items import bootstrap

    for result in bootstrap(everything(settings)):
        if result.left:
            print(f"{result.name}: {result.left}", flush=True)
    return WORK_POOL


def start_again() -> None:
    """Schedule anew the runs that ended with an earlier `make up`, and take away the doorbell's looks.

    What was left of that `make up` is ended, and no worker is there yet. A look that was cut off would keep the next ones
    from starting. A late one tells nothing that the next does not; after an hour there would be sixty, all at once.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags, FlowRunFilter, FlowRunFilterNextScheduledStartTime
    from prefect.client.schemas.objects import State, StateType
    from prefect.states import Cancelled

    from tasks.flow_runs import LOOKS, in_state

    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=["car-damage"]))
    again = State(type=StateType.SCHEDULED, name="AwaitingRetry", message="ended with `make up`: started again")
    with get_client(sync_client=True) as client:
        lost = FlowRunFilter(state=in_state(StateType.PENDING, StateType.RUNNING))
        for run in client.read_flow_runs(deployment_filter=ours, flow_run_filter=lost, limit=200):
            client.set_flow_run_state(run.id, again, force=True)
        for look in client.read_flow_runs(flow_filter=LOOKS, flow_run_filter=lost, limit=200):
            client.set_flow_run_state(look.id, Cancelled(message="ended with `make up`"))
        due = FlowRunFilterNextScheduledStartTime(before_=datetime.now(UTC))
        late = FlowRunFilter(state=in_state(StateType.SCHEDULED), next_scheduled_start_time=due)
        for look in client.read_flow_runs(flow_filter=LOOKS, flow_run_filter=late, limit=200):
            client.delete_flow_run(look.id)


def _addresses(settings: Settings, prefect: str) -> Table:
    # The token's file is its owner's alone; a log that this goes to may be everybody's.
    token = State(settings.home).token() if sys.stdout.isatty() else None
    table = Table("", "where", box=None, padding=(0, 2))
    table.columns[1].overflow = "fold"
    table.add_row("Prefect: runs, schedules, artifacts", prefect)
    table.add_row("MLflow: trainings and versions", trainings_page(settings))
    table.add_row("Endpoint: drop a photo, see its class", link(str(settings.serving.host), token))
    table.add_row("New labelled photos go to", settings.landing.folder)
    table.add_row("Tables, models, logs", str(settings.home))
    return table


def _next(variables: Mapping[str, str]) -> str:
    """What to do now.

    Args:
        variables: what another terminal needs to mean this service, and no other one.
    """
    return "\n".join(
        [
            "Photos that land start a run within two minutes. In another terminal:",
            f"  export {assignments(variables)}",
            "`make watch` there starts a run as soon as they have landed; by hand:",
            "  .venv/bin/prefect deployment run retrain/retrain",
            "Ctrl-C ends all of it; what was made stays, and a run that was going goes on with the next `make up`.",
        ]
    )
