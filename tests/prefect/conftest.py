"""One real Prefect server for all tests of this process, and a local target in which every part is real."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, PREFECT_HOME, PREFECT_LOCAL_STORAGE_PATH, temporary_settings

from car_damage.platform import Target
from car_damage.settings import PREFIX, Alerts
from car_damage.settings_sources import load
from deployments import automations
from deployments.bootstrap import limits
from deployments.items import bootstrap
from deployments.processes import free_port
from deployments.stack import ENDPOINT_START, endpoint_server, prefect_server
from tests.prefect.mailbox import Mailbox, open_mailbox
from tests.prefect.service import delete_runs


class PrefectServer:
    """A real server that restarts on the same port, with the same database."""

    def __init__(self, home: Path) -> None:
        self.home, self.port = home, free_port()
        self._block = contextlib.ExitStack()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        running = self._block.enter_context(prefect_server(self.home, self.port))
        os.environ["PREFECT_API_AUTH_STRING"] = running.variables["PREFECT_API_AUTH_STRING"]  # for the processes that tests start
        running.await_ready()

    def stop(self) -> None:
        self._block.close()

    def restart(self) -> None:
        self.stop()
        self.start()


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """The running server. This process is its client."""
    home = tmp_path_factory.mktemp("prefect")
    running = PrefectServer(home)
    # A run that waits for another run asks for its slot again after this many seconds; the default is 30.
    # And Prefect keeps out of its log what SQLite refused and a client repeated.
    own = {"PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "5", "PREFECT_SERVER_LOG_RETRYABLE_ERRORS": "true"}
    os.environ |= own
    try:
        running.start()
        settings: dict[Any, Any] = {
            PREFECT_API_URL: f"{running.url}/api",
            PREFECT_API_AUTH_STRING: os.environ["PREFECT_API_AUTH_STRING"],
            PREFECT_HOME: home / "prefect",
            PREFECT_LOCAL_STORAGE_PATH: home / "prefect" / "storage",
        }
        with temporary_settings(updates=settings):
            bootstrap(limits())
            yield running
    finally:
        running.stop()
        for name in (*own, "PREFECT_API_AUTH_STRING"):
            del os.environ[name]


@pytest.fixture(scope="session")
def server(prefect: PrefectServer) -> str:
    """The API's URL."""
    return f"{prefect.url}/api"


@pytest.fixture(scope="module", autouse=True)
def _left_empty(server: str) -> Iterator[None]:
    """Each module leaves the server without deployments, automations and flow runs: the order of the modules differs from run to run."""
    del server
    yield
    with get_client(sync_client=True) as client:
        for deployment in client.read_deployments():
            client.delete_deployment(deployment.id)
        for automation in client.read_automations():
            client.delete_automation(automation.id)
    delete_runs()


@pytest.fixture(scope="module")
def mailbox(server: str) -> Iterator[Mailbox]:
    """Receives notifications. In the end no automation sends any more."""
    del server
    with open_mailbox() as box:
        yield box
        bootstrap(automations.items(Alerts()))


@dataclass
class LocalTarget:
    """A home folder, a landing folder, an endpoint server, and the environment variables that name them."""

    home: Path
    landing: Path
    variables: dict[str, str]

    @property
    def platform(self) -> Target:
        """Built from the current settings, as the flow builds its own."""
        return Target(load())

    def set(self, **variables: str) -> None:
        """Change settings: `TRAINING__EPOCHS="3"`."""
        os.environ.update({f"{PREFIX}{name}": value for name, value in variables.items()})


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, server: str) -> Iterator[LocalTarget]:
    """The local target with its endpoint server, for the tests of one module, which tell one story in order."""
    del server
    before = dict(os.environ)
    home = tmp_path_factory.mktemp("target")
    landing = home / "landing"
    landing.mkdir()
    variables = {
        "CAR_DAMAGE_HOME": str(home),
        "CAR_DAMAGE_LANDING__FOLDER": str(landing),
        "CAR_DAMAGE_SERVING__HOST": f"http://127.0.0.1:{free_port()}",
        "CAR_DAMAGE_SERVING__POLL": "0.2",
        "CAR_DAMAGE_ANSWERS__KEEP_FOR_REVIEW": str(home / "kept"),
        "CAR_DAMAGE_MONITORING__LOG_SECONDS": "1",
    }
    os.environ.update(variables)
    try:
        with endpoint_server(load()) as endpoint:
            endpoint.await_ready(ENDPOINT_START)
            yield LocalTarget(home, landing, variables)
    finally:
        os.environ.clear()
        os.environ.update(before)
