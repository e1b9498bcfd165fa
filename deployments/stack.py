"""The services of the local target: a Prefect server and the endpoint server, both on 127.0.0.1."""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from car_damage.errors import SettingsError
from car_damage.server.command import is_local
from car_damage.settings import Settings
from deployments.processes import Service, free_port, service

PREFECT_START = 180.0
"""Seconds that a Prefect server may take: its first start makes the database, in about 15 s on two cores."""
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


@contextlib.contextmanager
def prefect_server(home: Path) -> Iterator[Prefect]:
    """A Prefect server on a free port, with its database in the home folder, for the length of the block."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    variables = {
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_API_URL": f"{url}/api",
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
