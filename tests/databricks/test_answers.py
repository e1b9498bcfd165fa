"""What a person is told when a workspace, a proxy or nobody answers. Every call has a limit, also those of MLflow's own clients."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from car_damage.adapters.databricks import limits, workspace
from car_damage.errors import RegistryError, RequestRefused, Terminal, Unavailable
from car_damage.job.jobs import Jobs
from car_damage.patience import Patience
from car_damage.platform import Target
from car_damage.settings import Settings
from deployments.administrator import NeedsAdministrator, permitted
from deployments.databricks.existence import absent
from deployments.doctor import FAIL, doctor
from deployments.processes import free_port
from tasks.workspace import start
from tests.databricks.twin import CLIENT, SECRET, Twin
from tests.fakes import Time

PAGE = b"<html><head><title>Access denied</title></head><body>by the firewall</body></html>"
JOB = "car-damage-ingest"


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """databricks-sdk and MLflow repeat a call for one second."""
    monkeypatch.setenv("MLFLOW_DATABRICKS_ENDPOINT_HTTP_RETRY_TIMEOUT", "1")
    monkeypatch.setattr(limits, "CONNECT", 0.1)


def uses(name: str, home: Path) -> Callable[[], Any]:
    """A call to the workspace by one of the clients."""
    settings = Settings(
        home=home,
        tracking={"uri": "databricks", "registry_uri": "databricks-uc", "experiment": "/Shared/car-damage"},
        serving={"host": "databricks"},
    )
    target = Target(settings)
    return {
        "jobs": lambda: Jobs().find(JOB),
        "start": lambda: start(1, {}, "token"),
        "endpoint": target.serving.state,
        "registry": target.registry.champion,
    }[name]


@pytest.fixture(params=["token", "service principal"])
def _identity(request: pytest.FixtureRequest, twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "token":
        monkeypatch.delenv("DATABRICKS_TOKEN")
        for name, value in {"CLIENT_ID": CLIENT, "CLIENT_SECRET": SECRET, "AUTH_TYPE": "oauth-m2m"}.items():
            monkeypatch.setenv(f"DATABRICKS_{name}", value)


@pytest.mark.usefixtures("_identity")
@pytest.mark.parametrize("client", ["start", "endpoint", "registry"])
def test_a_port_on_which_nobody_listens_is_told_as_such(twin: Twin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: str) -> None:
    port = free_port()
    monkeypatch.setenv("DATABRICKS_HOST", f"https://127.0.0.1:{port}")
    with pytest.raises(Unavailable, match=rf"does not answer at 127\.0\.0\.1:{port}: \[Errno \d+\] Connection refused"):
        uses(client, tmp_path)()


@pytest.mark.parametrize("client", ["jobs", "registry"])
def test_a_port_that_accepts_and_says_nothing_is_told_as_such(
    twin: Twin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        monkeypatch.setenv("DATABRICKS_HOST", f"https://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(Unavailable, match=r"does not answer at 127\.0\.0\.1:\d+: .*timed out"):
            uses(client, tmp_path)()


@pytest.mark.usefixtures("_identity")
@pytest.mark.parametrize("client", ["jobs", "registry"])
def test_another_host_s_certificate_is_refused_at_once_and_told_as_such(
    twin: Twin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    monkeypatch.setenv("DATABRICKS_HOST", twin.host.replace("127.0.0.1", "localhost"))
    monkeypatch.setenv("MLFLOW_DATABRICKS_ENDPOINT_HTTP_RETRY_TIMEOUT", "3600")
    with pytest.raises(
        (RequestRefused, RegistryError), match=r"certificate is not valid here at localhost:\d+: .*CERTIFICATE_VERIFY_FAILED"
    ):
        uses(client, tmp_path)()


ANSWERS = [
    (503, None, "HTTP 503: not now"),
    (429, None, "HTTP 429: not now"),
    (503, b"", "HTTP 503: Service Unavailable"),
    (503, PAGE, "HTTP 503 from a proxy or a gateway, and not from Databricks (its title: Access denied)"),
    (502, b"upstream connect error", "HTTP 502 from a proxy or a gateway, and not from Databricks"),
]


@pytest.mark.parametrize(("status", "page", "told"), ANSWERS)
@pytest.mark.parametrize(("client", "method", "path"), [("jobs", "GET", "/jobs/list"), ("start", "POST", "/jobs/run-now")])
def test_the_last_answer_is_told(  # noqa: PLR0917 - the answer, and to whom
    twin: Twin, tmp_path: Path, client: str, method: str, path: str, status: int, page: bytes | None, told: str
) -> None:
    twin.fault(method, path, status, times=100, page=page)
    with pytest.raises(Unavailable) as raised:
        uses(client, tmp_path)()
    assert str(raised.value).endswith(f": the workspace is temporarily unavailable: {told}")


def test_an_empty_reason_is_none() -> None:
    from databricks.sdk.errors import DatabricksError

    with pytest.raises(Unavailable, match=r"^asking: the workspace is temporarily unavailable$"), workspace.translated("asking", needs=""):
        raise DatabricksError(None)


def test_what_a_workspace_began_and_could_not_do_is_told() -> None:
    from databricks.sdk.errors import OperationFailed

    told = "^deploying failed in the workspace: got FAILED: no requirements$"
    with pytest.raises(Terminal, match=told), workspace.translated("deploying", needs=""):
        raise OperationFailed("got FAILED: no requirements")


def test_a_proxy_s_page_is_neither_a_missing_permission_nor_a_missing_object_nor_a_bug_of_the_sdk(twin: Twin, tmp_path: Path) -> None:
    told = r"HTTP {} from a proxy or a gateway, and not from Databricks \(its title: Access denied\)"
    twin.fault("GET", "/jobs/list", 403, times=2, page=PAGE)
    with pytest.raises(RequestRefused, match=told.format(403) + "; check that this machine may reach the workspace"):
        uses("jobs", tmp_path)()
    with pytest.raises(RequestRefused, match=told.format(403)) as raised, permitted("listing", needs="CAN VIEW", command="grant"):
        list(workspace.client().jobs.list())
    assert not isinstance(raised.value, NeedsAdministrator)
    twin.fault("GET", "/unity-catalog/schemas", 404, times=1, page=PAGE)
    with pytest.raises(RequestRefused, match=told.format(404)):
        absent("reading the schema", "USE SCHEMA", lambda: workspace.client().schemas.get("insurance_uc.gold"))
    twin.fault("POST", "/jobs/run-now", 403, page=PAGE)
    with pytest.raises(RequestRefused, match=told.format(403)):
        uses("start", tmp_path)()
    twin.fault("GET", "/mlflow/unity-catalog", 403, times=100, page=PAGE)
    with pytest.raises(Unavailable, match=told.format(403)):
        uses("registry", tmp_path)()


@pytest.mark.parametrize(("client", "method", "path"), [("jobs", "GET", "/jobs/list"), ("start", "POST", "/jobs/run-now")])
def test_a_wait_that_the_workspace_asks_for_is_taken_if_patience_lasts_so_long(
    twin: Twin, tmp_path: Path, client: str, method: str, path: str
) -> None:
    clock, call = Time(), uses(client, tmp_path)
    fault = twin.fault(method, path, 429, times=1, retry_after=90)
    job = next(iter(twin.jobs))
    patiently = Patience(clock, [10.0], 100.0)
    patiently(call if client == "jobs" else lambda: start(job, {}, "token"))
    assert (clock.seconds, fault.seen) == (90.0, 1)
    fault = twin.fault(method, path, 429, times=5, retry_after=900)
    with pytest.raises(Unavailable, match=r"HTTP 429: not now; it asks to wait 900 s$"):
        patiently(call)
    assert (clock.seconds, fault.seen) == (90.0, 1)


def test_a_short_wait_is_taken_by_the_sdk(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DATABRICKS_ENDPOINT_HTTP_RETRY_TIMEOUT", "15")
    twin.fault("GET", "/jobs/list", 429, times=1, retry_after=1)
    assert Jobs().find(JOB) == next(iter(twin.jobs))


def test_without_a_limit_a_wait_must_fit_into_those_that_are_left() -> None:
    def busy() -> None:
        error = Unavailable("busy")
        error.retry_after = 20.0
        raise error

    clock = Time()
    with pytest.raises(Unavailable):
        Patience(clock, [10.0, 10.0, 10.0])(busy)
    assert clock.seconds == 40.0


def test_doctor_asks_the_workspace_nothing_else_once_its_credentials_have_failed(twin: Twin, tmp_path: Path) -> None:
    twin.pats.clear()
    settings = Settings(
        home=tmp_path,
        landing={"folder": "/Volumes/insurance_uc/landing/raw_data/"},
        tracking={"uri": "databricks", "registry_uri": "databricks-uc"},
        serving={"host": "databricks"},
    )
    looked: list[str] = []
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        found = {finding.name: finding for finding in doctor(settings, Target(settings), looked.append)}
    assert [call for call in twin.asked if "/api/" in call] == ["GET /api/2.0/preview/scim/v2/Me"]
    told = "not asked, because its credentials failed: landing folder, registry, champion, endpoint"
    assert (found["Databricks credentials"].state, found["rest of the workspace"].detail) == (FAIL, told)
    assert looked == ["Prefect server", "Databricks credentials", "home folder", "tables", "photos elsewhere", "backbone"]
