"""`make up` runs the whole service on one machine until Ctrl-C. `make down` stops what a killed `make up` left running."""

import contextlib
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from rich.table import Table

from car_damage.adapters.databricks.volume import is_elsewhere
from car_damage.commands.terminal import plain, wide_enough
from car_damage.errors import SettingsError
from car_damage.machine import secret
from car_damage.platform import Target
from car_damage.server.address import is_local
from car_damage.server.api.page import link
from car_damage.server.state import State
from car_damage.settings import CONFIG_VARIABLE, Settings, config_file
from car_damage.settings_sources import load
from deployments import pid_file
from deployments.processes import Service, port_is_free
from deployments.stack import (
    ENDPOINT_START,
    MLFLOW_START,
    USER,
    WORKER,
    WORKER_START,
    api_url,
    create_store,
    endpoint_server,
    is_local_store,
    mlflow_pages,
    mlflow_server,
    password_file,
    prefect_server,
    trainings_page,
    worker,
)
from deployments.variables import assignments, given
from tasks.run_processes import end, of_server

WORKERS, WORKER_PERIOD = 3, 600.0
"""Workers that may replace one that has ended, within so many seconds. A worker holds nothing, so a kill of it must not end the rest."""
LOOK = 1.0
"""Seconds between two checks that every service is running."""


def up() -> None:
    """Start all services, print their addresses, and keep them running until this process gets a signal to end.

    Raises:
        SettingsError: a port is taken, the landing folder does not exist, or the endpoint is not on this machine.
        Terminal: the service is already running, or one of its processes does not start or has ended.
    """
    settings = load()
    variables = _export(settings)
    pid_file.refuse_a_second(settings.home)
    if settings.workers.pool != "process":
        raise SettingsError(
            f'`make up` starts runs as processes, and workers.pool is {settings.workers.pool}: set workers.pool = "process"'
        )
    _check_ports(settings)
    if (landing := Path(settings.landing.folder)).is_relative_to(settings.home):
        landing.mkdir(parents=True, exist_ok=True)
    elif not landing.is_dir() and not is_elsewhere(settings.landing.folder):
        raise SettingsError(f"landing.folder is {landing}, which is not a folder: mount it, create it, or name another")
    console = plain()
    console.print(f"Starting; the logs are in {settings.home / 'logs'}", soft_wrap=True)
    # The home folder is open before the servers use it, and in use as long as they run.
    with contextlib.nullcontext(Target(settings).home), contextlib.ExitStack() as block:
        block.callback(pid_file.delete, settings.home)
        records = [pid_file.record(pid_file.MAKE_UP)]

        def recorded(service: Service) -> Service:
            records.append(pid_file.record(service.name, service.process.pid))
            pid_file.write(settings.home, records)
            return service

        prefect = block.enter_context(prefect_server(settings.home, settings.stack.prefect_port))
        api = prefect.variables["PREFECT_API_URL"]
        block.callback(lambda: end(of_server(api)))  # because a killed worker cannot end its runs
        recorded(prefect.service)
        starting = [(recorded(block.enter_context(endpoint_server(settings))), ENDPOINT_START)]
        if is_local_store(settings):
            create_store(settings)
            starting.append((recorded(block.enter_context(mlflow_server(settings))), MLFLOW_START))
        os.environ.update(prefect.variables)  # before Prefect is imported
        prefect.await_ready()
        pool = _bootstrap(settings)
        end(of_server(api))
        reschedule()
        of_worker = block.enter_context(contextlib.ExitStack())
        starting.append((recorded(of_worker.enter_context(worker(settings.home, pool, prefect.variables))), WORKER_START))
        for service, timeout in starting:
            service.await_ready(timeout)
        services = [prefect.service, *(service for service, _ in starting)]
        started: list[float] = []
        wide_enough().print(_addresses(settings, prefect.url))
        console.print(_next(variables), soft_wrap=True, highlight=False)
        while True:
            for service in services:
                if service.name == WORKER and service.process.poll() is not None and _may_start_again(started):
                    print(f"the worker ended (exit {service.process.poll()}), and another one is starting", flush=True)
                    of_worker.close()
                    with contextlib.suppress(FileNotFoundError):
                        service.log.replace(service.log.with_suffix(".log.1"))  # it says why
                    services[-1] = recorded(of_worker.enter_context(worker(settings.home, pool, prefect.variables)))
                    break
                service.check()
            time.sleep(LOOK)


def _export(settings: Settings) -> dict[str, str]:
    """Set the variables by which runs find the same settings, though they have another current folder.

    Returns:
        those of them that a command in another terminal needs, too, because they were given to this process.
    """
    names = given()
    file = config_file()
    if file is None:  # so that runs read no file that lies, or comes to lie, in theirs
        file = settings.home / "run" / "no-settings.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    os.environ |= {CONFIG_VARIABLE: str(file.absolute())}
    os.environ |= {"CAR_DAMAGE_HOME": str(settings.home), "CAR_DAMAGE_LANDING__FOLDER": settings.landing.folder}
    if settings.tracking.ui is None and is_local_store(settings):
        os.environ["CAR_DAMAGE_TRACKING__UI"] = mlflow_pages(settings)
    return {name: os.environ[name] for name in names}


def _may_start_again(started: list[float]) -> bool:
    """Whether a worker may replace one that has ended. Note the start."""
    now = time.monotonic()
    started[:] = [*(then for then in started if now - then < WORKER_PERIOD), now]
    return len(started) <= WORKERS


def down() -> None:
    """Stop the processes that `make up` has started in this home folder and could not stop itself; print their names."""
    settings = load()
    home = settings.home
    ended = pid_file.end_all(pid_file.read(home), home)
    port = settings.stack.prefect_port
    # If a server still uses the port, it belongs to another home folder, and so do its runs.
    if port_is_free(port) and (runs := of_server(api_url(port))):
        end(runs)
        ended.append("runs")
    pid_file.delete(home)
    print(f"stopped: {', '.join(ended)}" if ended else f"no process of {home} was running")


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
            raise SettingsError(
                f"port {port} of {name} is in use: stop the process that uses it, or set {name} ({variable}) to another port"
            )


def _bootstrap(settings: Settings) -> str:
    from deployments.bootstrap import everything
    from deployments.items import bootstrap
    from deployments.work_pool import WORK_POOL

    for result in bootstrap(everything(settings)):
        if result.unresolved:
            print(f"{result.name}: {result.unresolved}", flush=True)
    return WORK_POOL


def reschedule() -> None:
    """Schedule the runs again that ended with an earlier `make up`, and remove runs of watch-landing.

    Call it before a worker starts. A run of watch-landing that was killed would block the next ones. Late ones are useless,
    because the next one sees the same folder; after an hour sixty would start at once.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags, FlowRunFilter, FlowRunFilterNextScheduledStartTime
    from prefect.client.schemas.objects import StateType
    from prefect.states import Cancelled

    from tasks.attempts import STOPPED, again
    from tasks.flow_runs import DOORBELL, in_state

    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=["car-damage"]))
    with get_client(sync_client=True) as client:
        lost = FlowRunFilter(state=in_state(StateType.PENDING, StateType.RUNNING))
        for run in client.read_flow_runs(deployment_filter=ours, flow_run_filter=lost, limit=200):
            client.set_flow_run_state(run.id, again(run, f"{STOPPED}: started again"), force=True)
        for check in client.read_flow_runs(flow_filter=DOORBELL, flow_run_filter=lost, limit=200):
            client.set_flow_run_state(check.id, Cancelled(message=STOPPED))
        due = FlowRunFilterNextScheduledStartTime(before_=datetime.now(UTC))
        late = FlowRunFilter(state=in_state(StateType.SCHEDULED), next_scheduled_start_time=due)
        for check in client.read_flow_runs(flow_filter=DOORBELL, flow_run_filter=late, limit=200):
            client.delete_flow_run(check.id)


def _addresses(settings: Settings, prefect: str) -> Table:
    # No token unless this is a terminal: only its owner may read the token's file, and anybody may read a log.
    private = sys.stdout.isatty()
    token = State(settings.home).token() if private else None
    password = password_file(settings.home)
    table = Table("", "address", box=None, padding=(0, 2))
    table.columns[1].overflow = "fold"
    table.add_row("Prefect: runs, schedules, artifacts", prefect)
    table.add_row("MLflow: trainings, each with report.html, and versions", trainings_page(settings))
    # Prefect asks for both in one field.
    table.add_row("  login of both, as user:password", f"{USER}:{secret(password)}" if private else f"{USER}:<the content of {password}>")
    table.add_row("Endpoint: drop a photo, see its class", link(str(settings.serving.host), token))
    table.add_row("New labelled photos go to", settings.landing.folder)
    table.add_row("Tables, models, logs", str(settings.home))
    return table


def _next(variables: Mapping[str, str]) -> str:
    """What to do next.

    Args:
        variables: settings that this process has from its environment, which a command in another terminal needs, too.
    """
    return "\n".join(
        [
            "Photos that land start a run within two minutes. In another terminal `make watch` starts one as soon as they have landed.",
            "To start one by hand there:",
            *([f"  export {assignments(variables)}"] if variables else []),
            '  eval "$(.venv/bin/python -m deployments env)"',
            "  .venv/bin/prefect deployment run retrain/retrain",
            "Ctrl-C stops all services. Tables and models stay; the next `make up` continues a run that was active.",
        ]
    )
