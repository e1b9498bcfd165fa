"""A server's life: restarts, second servers, and ends of every kind."""

import json
import signal

import psutil
import pytest

from car_damage.errors import Unavailable
from car_damage.server.state import folder, token
from tests.server.conftest import Models, Server, until


def test_a_second_server_on_the_same_home_refuses_to_start(ready: Server) -> None:
    second = ready.spawn()
    output, _ = second.communicate(timeout=60)
    assert second.returncode != 0
    assert f"an endpoint server (process {ready.pid}) already serves from" in output


def test_a_server_on_a_port_in_use_refuses_to_start_and_names_the_setting(
    ready: Server, models: Models, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Server(tmp_path_factory.mktemp("other"), models.uri)
    other.settings = other.settings.model_copy(update={"serving": ready.settings.serving})
    process = other.spawn()
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "serving.host cannot be used" in output


def test_no_credentials_reach_a_model_process(ready: Server) -> None:
    (model,) = ready.model_processes()
    assert {"MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "PATH"} <= set(model.environ())
    assert not [name for name in model.environ() if name.startswith(("DATABRICKS_", "ARM_", "AWS_", "CAR_DAMAGE_"))]


def test_a_model_process_that_dies_is_started_again(ready: Server, photo: bytes) -> None:
    served = ready.settled().served
    (model,) = ready.model_processes()
    model.kill()
    until(lambda: not ready.serving.state().ready, "the loss of the process")
    assert ready.call("GET", "/health").status_code == 200
    assert until(lambda: ready.serving.state().served, "the return of the process") == served
    assert ready.serving.ask([photo])[0].served_by == f"car_damage_classifier-{served}"
    assert [process.pid for process in ready.model_processes()] != [model.pid]


def test_an_endpoint_that_is_deleted_while_it_starts_is_gone_with_its_process(ready: Server) -> None:
    before = set(ready.model_processes())
    entity = {
        "entity_name": ready.settings.tracking.model,
        "entity_version": "1",
        "workload_size": "Small",
        "scale_to_zero_enabled": True,
    }
    created = ready.call("POST", "/api/2.0/serving-endpoints", json={"name": "other", "config": {"served_entities": [entity]}}).json()
    assert created["state"] == {"ready": "NOT_READY", "config_update": "IN_PROGRESS"}
    (started,) = until(lambda: set(ready.model_processes()) - before, "the start of a process")
    assert ready.call("DELETE", "/api/2.0/serving-endpoints/other").status_code == 200
    assert not psutil.wait_procs([started], timeout=30)[1]
    assert ready.call("GET", "/api/2.0/serving-endpoints/other").status_code == 404
    assert ready.serving.state().ready


def test_a_stop_ends_every_process_and_a_restart_brings_the_endpoint_back(ready: Server, photo: bytes) -> None:
    served = ready.settled().served
    before = ready.serving.ask([photo])[0].probabilities
    key = token(ready.settings.home)
    processes = ready.model_processes()
    ready.end(signal.SIGTERM)
    assert processes
    assert not psutil.wait_procs(processes, timeout=30)[1]
    assert json.loads((folder(ready.settings.home) / "endpoints.json").read_text())["endpoints"][0]["name"] == "car_damage_model_ep"

    ready.start()
    assert token(ready.settings.home) == key
    assert until(lambda: ready.serving.state().served, "the return of the endpoint") == served
    assert ready.serving.ask([photo])[0].probabilities == pytest.approx(before)


def test_a_server_that_is_killed_leaves_no_model_process(ready: Server) -> None:
    processes = ready.model_processes()
    ready.end(signal.SIGKILL)
    assert processes
    assert not psutil.wait_procs(processes, timeout=30)[1]
    with pytest.raises(Unavailable, match=r"nothing answers at .* start it with `car-damage serve`"):
        ready.serving.state()
