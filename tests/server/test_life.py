"""A server's life: restarts, second servers, and ends of every kind."""

import json
import signal
from collections.abc import Iterator

import psutil
import pytest

from car_damage.errors import RequestRefused, Unavailable
from car_damage.server.state import folder, token
from tests.server.conftest import Models, Server, until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, models: Models) -> Iterator[Server]:
    """A server whose last life served version 1: it finds the endpoint on its disk."""
    served = Server(tmp_path_factory.mktemp("home"), models.uri)
    served.start()
    served.serving.put(1)
    assert served.settled().served == 1
    yield served
    if psutil.pid_exists(served.pid):
        served.end()


def test_a_second_server_on_the_same_home_refuses_to_start(server: Server) -> None:
    second = server.spawn()
    output, _ = second.communicate(timeout=60)
    assert second.returncode != 0
    assert f"an endpoint server (process {server.pid}) already serves from" in output


def test_a_server_on_a_port_in_use_refuses_to_start_and_names_the_setting(
    server: Server, models: Models, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Server(tmp_path_factory.mktemp("other"), models.uri)
    other.settings = other.settings.model_copy(update={"serving": server.settings.serving})
    process = other.spawn()
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "serving.host cannot be used" in output


def test_no_credentials_reach_a_model_process(server: Server) -> None:
    (model,) = server.model_processes()
    assert {"MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "PATH"} <= set(model.environ())
    assert not [name for name in model.environ() if name.startswith(("DATABRICKS_", "ARM_", "AWS_", "CAR_DAMAGE_"))]


def test_a_model_process_that_dies_is_started_again(server: Server, photo: bytes) -> None:
    (model,) = server.model_processes()
    model.kill()
    until(lambda: not server.serving.state().ready, "the loss of the process")
    assert server.call("GET", "/health").status_code == 200
    state = server.settled()
    assert state.served == 1
    assert server.serving.ask([photo])[0].served_by == "car_damage_classifier-1"
    assert [process.pid for process in server.model_processes()] != [model.pid]


def test_a_stop_ends_every_process_and_a_restart_brings_the_endpoint_back(server: Server, photo: bytes) -> None:
    before = server.serving.ask([photo])[0].probabilities
    key = token(server.settings.home)
    processes = server.model_processes()
    server.end(signal.SIGTERM)
    assert processes
    assert not psutil.wait_procs(processes, timeout=30)[1]
    assert json.loads((folder(server.settings.home) / "endpoints.json").read_text())["endpoints"][0]["name"] == "car_damage_model_ep"

    server.start()
    assert token(server.settings.home) == key
    assert server.settled().served == 1
    assert server.serving.ask([photo])[0].probabilities == pytest.approx(before)


def test_a_server_that_is_killed_leaves_no_model_process(server: Server) -> None:
    processes = server.model_processes()
    server.end(signal.SIGKILL)
    assert processes
    assert not psutil.wait_procs(processes, timeout=30)[1]
    with pytest.raises(Unavailable, match=r"nothing answers at .* start it with `car-damage serve`"):
        server.serving.state()


def test_an_endpoint_that_is_deleted_is_gone_with_its_process(server: Server) -> None:
    server.start()
    server.settled()
    processes = server.model_processes()
    assert server.call("DELETE", "/api/2.0/serving-endpoints/car_damage_model_ep").status_code == 200
    assert processes
    assert not psutil.wait_procs(processes, timeout=30)[1]
    assert not server.serving.state().exists
    with pytest.raises(RequestRefused, match="does not exist"):
        server.serving.ask([b"x"])
