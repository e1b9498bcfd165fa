"""How a command in another terminal finds the Prefect server of `make up`."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from tasks import local_server

VARIABLES = {"PREFECT_API_URL": "http://127.0.0.1:9/api", "PREFECT_API_AUTH_STRING": "a secret"}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home folder with a process that has the environment of its Prefect server."""
    own = {local_server.SERVICE_LOG: str(local_server.prefect_log(tmp_path))}
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"], stdin=-1, stdout=-1, env=os.environ | VARIABLES | own
    ) as server:
        assert server.stdout is not None
        server.stdout.readline()
        yield tmp_path
        server.kill()


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import prefect.context

    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that it is put back after the test
        monkeypatch.delenv(name)
    yield
    monkeypatch.undo()
    prefect.context.refresh_global_settings_context()


def test_it_is_found_by_the_home_folder_only(home: Path, tmp_path: Path) -> None:
    assert local_server.variables(home) == VARIABLES
    assert local_server.variables(tmp_path / "another") == {}


def test_a_process_of_another_user_is_not_believed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4242)  # root can read every environment
    assert local_server.variables(home) == {}


def test_a_command_uses_it_for_itself_and_for_the_processes_that_it_starts(home: Path) -> None:
    local_server.use(home)
    assert PREFECT_API_URL.value() == VARIABLES["PREFECT_API_URL"]
    assert PREFECT_API_AUTH_STRING.value() == VARIABLES["PREFECT_API_AUTH_STRING"]
    assert os.environ.items() >= VARIABLES.items()


def test_a_server_that_a_profile_names_is_kept(home: Path) -> None:
    with temporary_settings(updates={PREFECT_API_URL: "https://prefect.example/api"}):
        local_server.use(home)
        assert PREFECT_API_URL.value() == "https://prefect.example/api"
    assert "PREFECT_API_URL" not in os.environ
