"""Updates of an endpoint on a running server: swaps, refusals, failures."""

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from car_damage.errors import Unavailable, UpdateInProgress
from car_damage.photo.decoder import decode
from car_damage.server.address import folder
from car_damage.server.state import State
from tests.server.conftest import ANSWERING, CLASSES, Models, Server, network_answer, own_answer


def test_a_swap_under_load_loses_no_request_and_every_answer_names_the_version_that_gave_it(
    ready: Server, models: Models, photo: bytes
) -> None:
    own = {f"car_damage_classifier-{version}": own_answer(models.keras_files[version], photo) for version in (1, 2)}
    served_at_first = ready.settled().served
    stop = threading.Event()
    body = json.dumps({"dataframe_records": [{"image": base64.b64encode(photo).decode()}]})

    def ask_on_and_on() -> list[httpx.Response]:
        responses = []
        while not stop.is_set():
            responses.append(ready.invoke(content=body, headers={"Content-Type": "application/json"}))
        return responses

    with ThreadPoolExecutor(3) as clients:
        asking = [clients.submit(ask_on_and_on) for _ in range(3)]
        try:
            ready.serving.put(2)
            # A different update is refused; the same update sent again is accepted.
            with pytest.raises(UpdateInProgress, match="being updated"):
                ready.serving.put(1)
            ready.serving.put(2)
            during = ready.serving.state()
            assert (during.updating, during.ready, during.served, during.pending) == (True, True, served_at_first, 2)
            after = ready.settled()
        finally:
            stop.set()
        responses = [response for client in asking for response in client.result()]

    assert (after.served, after.entity, after.pending, after.failed) == (2, "car_damage_classifier-2", None, False)
    assert {response.status_code for response in responses} == {200}
    assert {response.headers["served-model-name"] for response in responses} == set(own)
    for response in responses:
        row = response.json()["predictions"][0]
        given = [row["probability_minor"], row["probability_moderate"], row["probability_major"]]
        assert given == pytest.approx(own[response.headers["served-model-name"]], abs=1e-4)


def test_a_coverage_of_the_endpoint_raises_that_of_answers_and_not_that_of_requests_that_ask_for_another(
    ready: Server, photo: bytes
) -> None:
    body = {"dataframe_records": [{"image": base64.b64encode(photo).decode()}]}

    def classes(**params: float) -> list[str]:
        [row] = ready.invoke(json=body | {"params": params}).json()["predictions"]
        assert row["classes"] == said(row, params.get("coverage", 0.99))
        return list(row["classes"])

    def said(row: dict[str, Any], coverage: float | None) -> list[str]:
        [sets] = ANSWERING.sets(np.array([[row[f"probability_{name}"] for name in CLASSES]]), coverage)
        return [name for name, there in zip(CLASSES, sets, strict=True) if there]

    ready.serving.put(1, 0.99)
    assert ready.settled().coverage == 0.99
    raised = classes()
    assert classes(coverage=0.25) != raised
    [row] = ready.invoke(json=body).json()["predictions"]
    assert row["classes"] == raised
    ready.serving.put(1)
    assert ready.settled().coverage is None
    [row] = ready.invoke(json=body).json()["predictions"]
    assert row["classes"] == said(row, None) != raised


def test_a_version_that_does_not_load_fails_with_its_log_and_the_old_one_still_serves(ready: Server, models: Models, photo: bytes) -> None:
    served = ready.settled().served
    ready.serving.put(models.broken)
    state = ready.settled()
    assert (state.failed, state.ready, state.served, state.updating) == (True, True, served, False)
    assert "did not start (exit 1): onnxruntime" in state.message
    assert "Protobuf parsing failed" in ready.serving.build_log(models.broken)
    assert ready.serving.query([photo])[0].served_by == f"car_damage_classifier-{served}"


def test_a_version_that_is_not_registered_fails_and_says_so(ready: Server) -> None:
    ready.serving.put(99)
    state = ready.settled()
    assert (state.failed, state.ready) == (True, True)
    assert "could not be fetched" in state.message
    assert "version=99" in state.message
    assert "99" in ready.serving.build_log(99)
    assert ready.serving.build_log(98) == ""


def test_an_update_whose_log_cannot_be_opened_fails_and_says_so_and_does_not_hang(ready: Server) -> None:
    served = ready.settled().served
    deployed = json.loads((folder(ready.settings.home) / "endpoints.json").read_text())["endpoints"][0]["facts"]["config_version"]
    log = State(ready.settings.home).log(ready.settings.serving.endpoint, deployed + 1)
    log.mkdir()
    ready.serving.put(2)
    state = ready.settled()
    log.rmdir()
    assert (state.failed, state.ready, state.served) == (True, True, served)
    assert f"could not be started with its files in {ready.settings.home}" in state.message
    assert "Is a directory" in state.message


def test_what_cannot_be_written_down_is_refused_and_changes_nothing(ready: Server) -> None:
    entity = {"entity_name": "m", "entity_version": "1", "workload_size": "Small", "scale_to_zero_enabled": True}
    before = ready.settled()
    draft = folder(ready.settings.home) / "endpoints.draft"
    draft.mkdir()
    try:
        with pytest.raises(Unavailable, match=r"endpoints\.json cannot be written"):
            ready.serving.put(2)
        created = ready.call("POST", "/api/2.0/serving-endpoints", json={"name": "other", "config": {"served_entities": [entity]}})
        deleted = ready.call("DELETE", f"/api/2.0/serving-endpoints/{ready.settings.serving.endpoint}")
    finally:
        draft.rmdir()
    assert (created.status_code, deleted.status_code) == (500, 500)
    assert ready.call("GET", "/api/2.0/serving-endpoints/other").status_code == 404
    assert ready.serving.state() == before


def test_a_version_is_served_with_the_decoder_that_it_brought_along(ready: Server, models: Models, photo: bytes) -> None:
    ready.serving.put(models.altered)
    assert ready.settled().served == models.altered
    (answer,) = ready.serving.query([photo])
    pixels = decode(photo).pixels
    assert list(answer.probabilities.values()) == pytest.approx(network_answer(models.keras_files[models.altered], 255 - pixels), abs=1e-4)
    assert list(answer.probabilities.values()) != pytest.approx(network_answer(models.keras_files[models.altered], pixels), abs=1e-3)


def test_only_the_version_that_is_served_has_a_copy_on_this_disk(ready: Server) -> None:
    assert [copy.name.rpartition(".")[0] for copy in (folder(ready.settings.home) / "models").iterdir()] == ["car_damage_model_ep"]


def test_only_the_process_that_serves_has_a_socket(ready: Server) -> None:
    (process,) = ready.model_processes()
    assert [file.name for file in Path(process.cmdline()[-1]).parent.iterdir()] == [Path(process.cmdline()[-1]).name]
