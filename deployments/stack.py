"""The services of the local target, all on 127.0.0.1: a Prefect server, a worker, an MLflow server and the endpoint server."""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from car_damage.adapters.mlflow.client import EXPERIMENT_KIND, FOR_TRAININGS, TRAININGS
from car_damage.errors import SettingsError, Terminal
from car_damage.machine import LOOPBACK, secret
from car_damage.server.address import is_local
from car_damage.settings import Settings
from deployments.processes import Service, free_port, service
from tasks.local_server import prefect_log

PREFECT_START = 180.0
"""Seconds that a Prefect server may take to start. The first start creates the database: about 15 s on two cores."""
MLFLOW_START = 120.0
GLIBC = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "131072"}
"""Variables by which a Prefect server gives back memory that it has freed: it makes many copies of pictures of up to 2 MB.

By default glibc has a heap for each thread, and each connection to SQLite has a thread. The first large copy that is freed raises the size,
in bytes, from which on a copy lies outside the heaps: then the next ones lie in them, and heaps seldom shrink. A size that is set stays.
"""
EVENTS = {"PREFECT_SERVER_EVENTS_MAXIMUM_SIZE_BYTES": "50000"}
"""An event about an artifact repeats all of it, contact sheets included, and nobody can remove a photo from it. So a Prefect server drops
events that are larger, in bytes, with a warning in its log. Events without pictures are far smaller.
"""
USER = "admin"
"""The only user of the pages of Prefect and MLflow."""
WORKER = "worker"
WORKER_START = 60.0
"""Seconds that each may take to start."""
ENDPOINT_START = 60.0
"""Seconds that the endpoint server may take to start; it loads its models after that."""


@dataclass(frozen=True)
class Prefect:
    """A Prefect server that this process has started."""

    service: Service
    url: str
    """Base URL of its UI."""
    variables: dict[str, str]
    """Environment variables for processes that use it; a process must have them before it imports Prefect."""

    def await_ready(self) -> None:
        self.service.await_ready(PREFECT_START)


def api_url(port: int) -> str:
    """URL of the API of a Prefect server on this port."""
    return f"http://127.0.0.1:{port}/api"


def password_file(home: Path) -> Path:
    """The file with the password for which the pages of Prefect and MLflow ask once in each browser."""
    return home / "run" / "password"


@contextlib.contextmanager
def prefect_server(home: Path, port: int | None = None) -> Iterator[Prefect]:
    """Run a Prefect server during the block, on this port or a free one, with its database and the password in the home folder.

    Whoever reaches the API can start any command as this user. A page in a browser reaches it, too: so it needs a password, and
    the server tells browsers that only its own pages may read its answers.
    """
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    login = f"{USER}:{secret(password_file(home), create=True)}"
    variables = {
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_API_URL": api_url(port),
        "PREFECT_API_AUTH_STRING": login,
        # The library's log lines belong in the run's log.
        "PREFECT_LOGGING_EXTRA_LOGGERS": "car_damage",
        # Outside a run they go to the terminal only; by default Prefect warns that there is no run.
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    }
    server = {
        "PREFECT_SERVER_API_AUTH_STRING": login,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(f"http://{name}:{port}" for name in LOOPBACK),
        # Leases in memory are lost when the server stops, and their slots then stay taken.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        **EVENTS,
        **GLIBC,
    }
    command = [sys.executable, "-m", "deployments.prefect_server", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with service("Prefect server", command, prefect_log(home), f"{url}/api/health", {**variables, **server}) as started:
        yield Prefect(started, url, variables)


def endpoint_server(settings: Settings) -> AbstractContextManager[Service]:
    """Run the local endpoint server at `serving.host` during the block."""
    host = settings.serving.host
    if not is_local(host):
        raise SettingsError(f"serving.host is {host}: a local endpoint server needs an address such as http://127.0.0.1:5055")
    command = [sys.executable, "-m", "car_damage.cli", "serve"]
    return service("endpoint server", command, settings.home / "logs" / "endpoint-server.log", f"{host}/health")


def is_local_store(settings: Settings) -> bool:
    """Whether MLflow's store is on this machine, so that this stack must serve its UI; a tracking server has its own."""
    return urlsplit(settings.tracking_uri).scheme not in ("http", "https")


def mlflow_pages(settings: Settings) -> str:
    """URL of MLflow's UI: the tracking server that the settings name, or the server of this stack."""
    return f"http://127.0.0.1:{settings.stack.mlflow_port}" if is_local_store(settings) else settings.tracking_uri


def trainings_page(settings: Settings) -> str:
    """The address at which MLflow's pages open with the runs of our experiment. The pages must be running.

    An experiment has no address before it exists. So this creates it in our own store, as the first run would do.
    """
    import httpx

    pages = mlflow_pages(settings)
    if settings.tracking_uri.startswith("sqlite"):
        with contextlib.suppress(
            httpx.HTTPError, FileNotFoundError, ValueError, KeyError
        ):  # the list of experiments is one click away from the runs
            return f"{pages}/#/experiments/{_experiment(settings, pages)}/runs?{FOR_TRAININGS}"
    return f"{pages}/#/experiments?{FOR_TRAININGS}"


def _experiment(settings: Settings, pages: str) -> str:
    """The experiment's id. Over HTTP, because MLflow's client costs seconds and a hundred megabytes."""
    import httpx

    name = settings.tracking.experiment
    user = (USER, secret(password_file(settings.home))) if is_local_store(settings) else None
    with httpx.Client(base_url=f"{pages}/api/2.0/mlflow/experiments/", timeout=5, auth=user) as api:
        found = api.get("get-by-name", params={"experiment_name": name})
        if found.status_code != httpx.codes.NOT_FOUND:
            return str(found.raise_for_status().json()["experiment"]["experiment_id"])
        tags = [{"key": EXPERIMENT_KIND, "value": TRAININGS}]
        wanted = {"name": name, "artifact_location": str(settings.home / "artifacts"), "tags": tags}
        return str(api.post("create", json=wanted).raise_for_status().json()["experiment_id"])


def create_store(settings: Settings) -> None:
    """Create MLflow's database whole or not at all. MLflow's own server would leave a part of it on a full disk, or where it is killed.

    In a process of its own, because MLflow takes seconds and memory that this process would keep.

    Raises:
        Terminal: it cannot be created; with the reason.
    """
    if settings.tracking.uri is not None or (settings.home / "mlflow.db").exists():
        return
    command = [sys.executable, "-m", "car_damage.cli", "history", "--limit", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=MLFLOW_START, check=False)
    if done.returncode:
        raise Terminal(done.stderr.strip().removeprefix("error: "))


def mlflow_server(settings: Settings) -> AbstractContextManager[Service]:
    """Run an MLflow server during the block, at `stack.mlflow_port`, with the store that runs are written to."""
    url = mlflow_pages(settings)
    port = settings.stack.mlflow_port
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--allowed-hosts", ",".join(f"{name}:{port}" for name in LOOPBACK), "--cors-allowed-origins", url]
    command += ["--app-name", "basic-auth"]
    command += ["--backend-store-uri", settings.tracking_uri, "--registry-store-uri", settings.registry_uri]
    # Clients write artifacts to their run's folder directly, so the server accepts no uploads.
    command += ["--default-artifact-root", str(settings.home / "artifacts"), "--no-serve-artifacts"]
    variables = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **_with_password(settings.home)}
    return service("MLflow server", command, settings.home / "logs" / "mlflow-server.log", f"{url}/health", variables)


def _with_password(home: Path) -> dict[str, str]:
    """Environment variables of an MLflow server that lets in one user, with our password. The table of users is made anew."""
    folder = home / "run"
    password = secret(password_file(home), create=True)
    (users := folder / "mlflow-users.db").unlink(missing_ok=True)
    config = folder / "mlflow-auth.ini"
    config.write_text(
        f"[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = sqlite:///{users}\nauth_cache_ttl_seconds = 60\n".replace("%", "%%")
    )
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_AUTH_ADMIN_USERNAME": USER,
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(),
    }


def worker(home: Path, pool: str, variables: Mapping[str, str]) -> AbstractContextManager[Service]:
    """Run a worker of the work pool during the block.

    Args:
        home: the folder for its log.
        pool: the work pool.
        variables: environment variables with which the worker and its runs find the Prefect server and the settings.
    """
    name = f"{socket.gethostname()}-{os.getpid()}"
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process", "--name", name]
    # A short poll, because the server is on this machine and a person waits.
    env = {**variables, "PREFECT_WORKER_QUERY_SECONDS": "2"}

    return service(WORKER, command, home / "logs" / "worker.log", lambda: name in workers_online(pool), env)


def workers_online(pool: str) -> list[str]:
    """Names of the workers of a pool that are online."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        path = {"work_pool_name": pool}
        found = client.request("POST", "/work_pools/{work_pool_name}/workers/filter", path_params=path, json={}).json()
    return [worker["name"] for worker in found if worker["status"] == "ONLINE"]
