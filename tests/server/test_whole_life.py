"""The life cycle of a server: restarts, a second server on the same home, and every kind of end."""

import json
import signal
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from car_damage.errors import Unavailable
from car_damage.platform import Target
from car_damage.server.address import folder, token
from car_damage.stage import silent
from car_damage.stages.monitoring import requests
from tests.server.conftest import SECRET, Models, Server, until


def test_a_second_server_on_the_same_home_refuses_to_start(live: Server) -> None:
    second = live.spawn()
    output, _ = second.communicate(timeout=120)
    assert second.returncode != 0
    assert f"another endpoint server (process {live.pid}) uses" in output


def test_a_server_on_a_port_in_use_refuses_to_start_and_names_the_setting(
    live: Server, models: Models, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Server(tmp_path_factory.mktemp("other"), models.uri)
    other.settings = other.settings.model_copy(update={"serving": live.settings.serving})
    process = other.spawn()
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "serving.host cannot be used" in output


def test_no_credentials_reach_a_model_process(live: Server) -> None:
    (model,) = live.model_processes()
    assert SECRET in psutil.Process(live.pid).environ().values()
    assert "PATH" in model.environ()
    assert SECRET not in model.environ().values()
    assert not [name for name in model.environ() if name.startswith(("CAR_DAMAGE_", "MLFLOW_TRACKING_", "MLFLOW_REGISTRY_"))]


def test_a_model_process_loads_nothing_that_only_training_needs(live: Server) -> None:
    (model,) = live.model_processes()
    loaded = [Path(area.path).parts for area in model.memory_maps()]
    assert any("onnxruntime" in parts for parts in loaded)
    assert not any({"tensorflow", "sklearn", "matplotlib", "pyarrow"} & set(parts) for parts in loaded)


def test_a_model_process_that_dies_is_started_again_and_its_log_stays(live: Server, photo: bytes) -> None:
    served = live.settled().served
    logs = folder(live.settings.home) / "logs"
    starts = sum(log.read_text().count("its example") for log in logs.iterdir())
    (model,) = live.model_processes()
    model.kill()
    until(lambda: not live.serving.state().ready, "the loss of the process")
    assert live.call("GET", "/health").status_code == 200
    assert until(lambda: live.serving.state().served, "the return of the process") == served
    assert live.serving.query([photo])[0].served_by == f"car_damage_classifier-{served}"
    assert [process.pid for process in live.model_processes()] != [model.pid]
    assert sum(log.read_text().count("its example") for log in logs.iterdir()) == starts + 1
    assert live.serving.build_log(served).count("its example") == 1


def test_a_model_process_that_is_stopped_in_its_tracks_is_replaced(live: Server, photo: bytes) -> None:
    served = live.settled().served
    (model,) = live.model_processes()
    model.suspend()
    until(lambda: not live.serving.state().ready, "the discovery that the process hangs")
    assert until(lambda: live.serving.state().served, "another process") == served
    assert live.serving.query([photo])[0].served_by == f"car_damage_classifier-{served}"
    assert not psutil.wait_procs([model], timeout=120)[1]


def test_an_endpoint_that_is_deleted_while_it_starts_is_gone_with_its_process(live: Server) -> None:
    before = set(live.model_processes())
    entity = {
        "entity_name": live.settings.tracking.model,
        "entity_version": "1",
        "workload_size": "Small",
        "scale_to_zero_enabled": True,
    }
    created = live.call("POST", "/api/2.0/serving-endpoints", json={"name": "other", "config": {"served_entities": [entity]}}).json()
    assert created["state"] == {"ready": "NOT_READY", "config_update": "IN_PROGRESS"}
    (started,) = until(lambda: set(live.model_processes()) - before, "the start of a process")
    assert live.call("DELETE", "/api/2.0/serving-endpoints/other").status_code == 200
    assert not psutil.wait_procs([started], timeout=120)[1]
    assert live.call("GET", "/api/2.0/serving-endpoints/other").status_code == 404
    assert live.serving.state().ready


def test_a_stop_ends_every_process_and_a_restart_brings_the_endpoint_back_without_its_registry(live: Server, photo: bytes) -> None:
    served, at = live.settled().served, datetime.now(UTC)
    before = live.serving.query([photo])[0].probabilities
    key = token(live.settings.home)
    processes = live.model_processes()
    live.end(signal.SIGTERM)
    assert processes
    assert not psutil.wait_procs(processes, timeout=120)[1]
    assert json.loads((folder(live.settings.home) / "endpoints.json").read_text())["endpoints"][0]["name"] == "car_damage_model_ep"
    assert [row["status"] for row in live.logged() if row["answered"] >= at] == [200], "the end of a server loses no request of the log"

    live.start(registry="http://127.0.0.1:9")
    assert token(live.settings.home) == key
    assert until(lambda: live.serving.state().served, "the return of the endpoint") == served
    assert live.serving.query([photo])[0].probabilities == pytest.approx(before)


def test_a_server_that_is_killed_in_an_update_leaves_no_process_and_the_next_one_goes_on_with_it(live: Server, photo: bytes) -> None:
    coming = 1 if live.settled().served == 2 else 2
    live.serving.put(coming)
    processes = until(lambda: len(live.model_processes()) == 2 and live.model_processes(), "the start of the update")
    at = datetime.now(UTC)
    live.serving.query([photo])
    live.end(signal.SIGKILL)
    assert not psutil.wait_procs(processes, timeout=120)[1]
    assert len([row for row in live.logged() if row["answered"] >= at]) <= 1, "the request log may lose what came in its last seconds"
    with pytest.raises(Unavailable, match=r"nothing answers at .* start the endpoint server \(`car-damage serve`\)"):
        live.serving.state()

    state = live.start().serving.state()
    assert (state.updating, state.pending, state.failed) == (True, coming, False)
    after = live.settled()
    assert (after.served, after.failed) == (coming, False)
    assert live.serving.query([photo])[0].served_by == f"car_damage_classifier-{coming}"


def test_what_servers_have_noted_is_taken_up_once_however_they_ended(live: Server) -> None:
    live.end(signal.SIGTERM)
    target, noted = Target(live.settings), len(live.logged())
    assert noted
    taken = requests.take_up(target, silent)
    rows, _ = target.tables.read(live.settings.tables.inference_log, ["request_id", "sha256"])
    assert (rows.num_rows, len(set(rows["request_id"].to_pylist()))) == (taken, taken)
    assert taken >= noted
    assert requests.take_up(target, silent) == len(live.logged()) == 0
