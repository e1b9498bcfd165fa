"""The services of the local target, all on 127.0.0.1: Prefect's server and a worker, MLflow's pages, the endpoint server."""

import contextlib
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from car_damage.adapters.mlflow.client import FOR_TRAININGS, KIND_TAG, TRAININGS
from car_damage.errors import SettingsError
from car_damage.server.address import is_local
from car_damage.settings import Settings
from deployments.processes import Service, free_port, service

PREFECT_START = 180.0
"""Seconds that a Prefect server may take: its first start makes the database, in about 15 s on two cores."""
MLFLOW_START = 120.0
WORKER_START = 60.0
"""Seconds that each may take."""
ENDPOINT_START = 60.0
"""Seconds that the endpoint server may take; the models that it brings back are loaded after that."""


@dataclass(frozen=True)
class Prefect:
    """A Prefect server of our own."""

    service: Service
    url: str
    """Base URL of its UI."""
    variables: dict[str, str]
    """What a process needs in its environment to use it, before it imports Prefect."""

    def await_ready(self) -> None:
        self.service.await_ready(PREFECT_START)


def api_url(port: int) -> str:
    """Where the API of a Prefect server on this port is."""
    return f"http://127.0.0.1:{port}/api"


@contextlib.contextmanager
def prefect_server(home: Path, port: int | None = None) -> Iterator[Prefect]:
    """A Prefect server on this port or a free one, with its database in the home folder, for the length of the block."""
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    variables = {
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_API_URL": api_url(port),
        # The library's own log lines belong in the run's log.
        "PREFECT_LOGGING_EXTRA_LOGGERS": "car_damage",
        # And outside of a run they go to the terminal alone, without a warning that there is no run.
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    }
    server = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # Leases in memory are lost with the server, and their slots are then taken for good.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    log = home / "logs" / "prefect-server.log"
    with service("Prefect server", command, log, f"{url}/api/health", {**variables, **server}) as started:
        yield Prefect(started, url, variables)


@contextlib.contextmanager
def endpoint_server(settings: Settings) -> Iterator[Service]:
    """The local endpoint server at `serving.host`, for the length of the block."""
    host = settings.serving.host
    if not is_local(host):
        raise SettingsError(f"serving.host is {host}: a local endpoint server needs an address such as http://127.0.0.1:5055")
    command = [sys.executable, "-m", "car_damage.cli", "serve"]
    with service("endpoint server", command, settings.home / "logs" / "endpoint-server.log", f"{host}/health", dict(os.environ)) as started:
        yield started


def is_local_store(settings: Settings) -> bool:
    """Whether the runs are in a store of this machine, so that its pages are ours to serve; a server has pages of its own."""
    return urlsplit(settings.tracking_uri).scheme not in ("http", "https")


def mlflow_pages(settings: Settings) -> str:
    """Where MLflow's pages are: those of the server that the settings name, or ours."""
    return f"http://127.0.0.1:{settings.stack.mlflow_port}" if is_local_store(settings) else settings.tracking_uri


def trainings_page(settings: Settings) -> str:
    """The address at which MLflow's pages, which are up, open with the runs of our experiment.

    An experiment has no address before it is made. So it is made here in our own store, as the first run would make it.
    """
    import httpx

    pages = mlflow_pages(settings)
    if settings.tracking_uri.startswith("sqlite"):
        with contextlib.suppress(httpx.HTTPError):  # the list of experiments is one click away from the runs
            return f"{pages}/#/experiments/{_experiment(settings, pages)}/runs?{FOR_TRAININGS}"
    return f"{pages}/#/experiments?{FOR_TRAININGS}"


def _experiment(settings: Settings, pages: str) -> str:
    """The experiment's id; asked over HTTP, because MLflow's client costs seconds and a hundred megabytes."""
    import httpx

    name = settings.tracking.experiment
    with httpx.Client(base_url=f"{pages}/api/2.0/mlflow/experiments/", timeout=30) as api:
        found = api.get("get-by-name", params={"experiment_name": name})
        if found.status_code != httpx.codes.NOT_FOUND:
            return str(found.raise_for_status().json()["experiment"]["experiment_id"])
        tags = [{"key": KIND_TAG, "value": TRAININGS}]
        wanted = {"name": name, "artifact_location": str(settings.home / "artifacts"), "tags": tags}
        return str(api.post("create", json=wanted).raise_for_status().json()["experiment_id"])


@contextlib.contextmanager
def mlflow_server(settings: Settings) -> Iterator[Service]:
    """MLflow's pages at `stack.mlflow_port`, over the store that the runs are written to, for the length of the block."""
    url = mlflow_pages(settings)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(settings.stack.mlflow_port), "--workers", "1"]
    command += ["--backend-store-uri", settings.tracking_uri, "--registry-store-uri", settings.registry_uri]
    # Runs name their own artifacts' folder; what a stranger would log through these pages has no place.
    command += ["--default-artifact-root", str(settings.home / "artifacts"), "--no-serve-artifacts"]
    variables = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with service("MLflow server", command, settings.home / "logs" / "mlflow-server.log", f"{url}/health", variables) as started:
        yield started


@contextlib.contextmanager
def worker(home: Path, pool: str, variables: Mapping[str, str]) -> Iterator[Service]:
    """A worker that takes runs from the pool, for the length of the block.

    Args:
        home: its log goes below it.
        pool: the work pool.
        variables: how it, and each run that it starts, reaches Prefect and finds its settings.
    """
    name = f"{socket.gethostname()}-{os.getpid()}"
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process", "--name", name]
    # Asked often, because the server is on this machine and a person waits.
    env = {**variables, "PREFECT_WORKER_QUERY_SECONDS": "2"}

    def online() -> bool:
        return name in workers_online(pool)

    with service("worker", command, home / "logs" / "worker.log", online, env) as started:
        yield started


def workers_online(pool: str) -> list[str]:
    """Names of the workers of a pool that have given a sign of life lately."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        path = {"work_pool_name": pool}
        found = client.request("POST", "/work_pools/{work_pool_name}/workers/filter", path_params=path, json={}).json()
    return [worker["name"] for worker in found if worker["status"] == "ONLINE"]
