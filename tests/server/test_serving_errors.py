"""Every foreign error that the serving port translates. A scripted server sends it over a real socket."""

import base64
import json
import os
import re
import socket
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from car_damage.adapters.databricks.serving import DatabricksServing
from car_damage.errors import CarDamageError, PhotoRefused, RequestRefused, Unavailable, UpdateInProgress
from car_damage.server.address import token
from car_damage.server.state import State
from car_damage.settings import Serving, Settings
from car_damage.settings_sources import load
from deployments.processes import free_port

NAME = "car_damage_model_ep"


class Script:
    """The answer to each HTTP method, and all requests received so far with their bodies."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[tuple[str, str, Any]] = []

    def error(self, method: str, status: int, code: str, message: str = "told so") -> None:
        self.answers[method] = (status, {"error_code": code, "message": message})


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def serving(script: Script, tmp_path: Path) -> Iterator[DatabricksServing]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            pass

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, answer = (200, {}) if "well-known" in self.path else script.answers[self.command]
            if "well-known" not in self.path:
                script.asked.append((self.command, self.path, json.loads(body) if body else None))
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Retry-After", "1")
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = _answer  # noqa: N815 - the base class calls these names

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    (tmp_path / "endpoint").mkdir()
    State(tmp_path).token()
    yield DatabricksServing(Settings(home=tmp_path, serving=Serving(host=f"http://127.0.0.1:{server.server_port}")))
    server.shutdown()
    server.server_close()


def entity(version: int, deployment: str = "DEPLOYMENT_READY", **more: Any) -> dict[str, Any]:
    return {
        "name": f"car_damage_classifier-{version}",
        "entity_name": "insurance_uc.models.car_damage_classifier",
        "entity_version": str(version),
        "state": {"deployment": deployment, "deployment_state_message": f"{deployment} of {version}"},
    } | more


def endpoint(update: str, ready: str = "READY", active: Any = None, pending: Any = None) -> dict[str, Any]:
    described: dict[str, Any] = {"name": NAME, "state": {"ready": ready, "config_update": update}}
    if active:
        described["config"] = {"served_entities": [active]}
    if pending:
        described["pending_config"] = {"served_entities": [pending]}
    return described


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "INVALID_PARAMETER_VALUE", PhotoRefused),
        (400, "BAD_REQUEST", PhotoRefused),
        (401, "UNAUTHENTICATED", RequestRefused),
        (403, "PERMISSION_DENIED", RequestRefused),
        (404, "RESOURCE_DOES_NOT_EXIST", RequestRefused),
        (409, "RESOURCE_CONFLICT", UpdateInProgress),
        (413, "MAX_REQUEST_SIZE_EXCEEDED", PhotoRefused),
        (500, "INTERNAL_ERROR", Unavailable),
        (501, "NOT_IMPLEMENTED", RequestRefused),
        (502, "BAD_GATEWAY", Unavailable),
        (504, "DEADLINE_EXCEEDED", Unavailable),
    ],
)
def test_an_error_of_the_service_becomes_one_of_ours_and_keeps_its_words(
    serving: DatabricksServing, script: Script, status: int, code: str, kind: type[CarDamageError]
) -> None:
    script.error("POST", status, code)
    with pytest.raises(kind, match=f"{NAME}.*told so") as raised:
        serving.query([b"photo"])
    assert raised.value.__cause__ is not None
    assert isinstance(raised.value, PhotoRefused) == (kind is PhotoRefused), "a claim would go on without this photo"


@pytest.mark.parametrize(
    "answer", [b"<html><body>Access denied</body></html>", b"upstream connect error", b""], ids=["HTML", "text", "empty"]
)
@pytest.mark.parametrize("status", [400, 403, 429, 503])
def test_what_a_gateway_answers_is_one_of_our_errors_and_repeats_neither_photo_nor_token(
    serving: DatabricksServing, script: Script, tmp_path: Path, status: int, answer: bytes
) -> None:
    script.answers["POST"] = (status, answer)
    photo = bytes(range(256)) * 40
    with pytest.raises(CarDamageError) as raised:
        serving.query([photo])
    printed = "".join(traceback.format_exception(raised.value))  # as Prefect's log has it
    assert base64.b64encode(photo).decode()[:40] not in printed
    assert token(tmp_path) not in printed
    assert len(str(raised.value)) < 400


def test_neither_photo_nor_token_goes_to_a_proxy(serving: DatabricksServing, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0)
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.delenv("no_proxy")
        monkeypatch.setenv("NO_PROXY", "example.com")
        load()
        script.error("POST", 400, "BAD_REQUEST", "told so by the endpoint")
        with pytest.raises(RequestRefused, match="told so by the endpoint"):
            serving.query([b"photo"])
        with pytest.raises(BlockingIOError):
            proxy.accept()
        assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "example.com,127.0.0.1,localhost"


def test_without_any_proxy_for_any_host_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "*")
    load()
    assert os.environ["no_proxy"] == "*"


@pytest.mark.parametrize(("status", "code"), [(429, "RESOURCE_EXHAUSTED"), (503, "TEMPORARILY_UNAVAILABLE")])
def test_a_service_that_goes_on_asking_for_patience_is_unavailable(
    serving: DatabricksServing, script: Script, status: int, code: str
) -> None:
    script.error("POST", status, code)
    with pytest.raises(Unavailable, match=rf"sending a photo to endpoint {NAME}: .* is temporarily unavailable: HTTP {status}: told so$"):
        serving.query([b"photo"])


def test_a_service_that_answers_no_json_is_unavailable(serving: DatabricksServing, script: Script) -> None:
    script.answers["POST"] = (200, b"<html>a proxy's login page</html>")
    with pytest.raises(Unavailable):
        serving.query([b"photo"])


@pytest.mark.parametrize("answer", [{}, {"predictions": [{"score": 1}]}, {"predictions": 3}, {"predictions": []}])
def test_an_answer_that_no_car_damage_model_gives_is_refused(serving: DatabricksServing, script: Script, answer: Any) -> None:
    script.answers["POST"] = (200, answer)
    with pytest.raises(RequestRefused, match=NAME):
        serving.query([b"photo"])


def test_a_dead_local_server_is_unavailable_and_the_message_says_how_to_start_it(tmp_path: Path) -> None:
    (tmp_path / "endpoint").mkdir()
    State(tmp_path).token()
    dead = DatabricksServing(Settings(home=tmp_path, serving=Serving(host=f"http://127.0.0.1:{free_port()}")))
    with pytest.raises(Unavailable, match=r"nothing answers at http://127\.0\.0\.1:\d+; start the endpoint server \(`car-damage serve`"):
        dead.state()


def test_a_home_without_a_token_is_unavailable_and_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="start the endpoint server"):
        DatabricksServing(Settings(home=tmp_path)).state()


def test_a_workspace_without_credentials_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", "")
    nowhere = DatabricksServing(Settings(home=tmp_path, serving=Serving(host=None)))
    with pytest.raises(RequestRefused, match="credentials"):
        nowhere.state()


def test_an_endpoint_that_is_not_there_is_a_state(serving: DatabricksServing, script: Script) -> None:
    script.error("GET", 404, "RESOURCE_DOES_NOT_EXIST")
    assert not serving.state().exists


@pytest.mark.parametrize("body", [b"<html><h1>404 File not found</h1></html>", b'{"detail": "Not Found"}', b""])
def test_another_program_at_the_endpoint_s_address_is_not_an_endpoint_that_is_missing(
    serving: DatabricksServing, script: Script, body: bytes
) -> None:
    script.answers["GET"] = (404, body)
    told = "answers with HTTP 404 and is not an endpoint server: another program listens there; check serving.host"
    for call in (serving.state, lambda: serving.put(3)):
        with pytest.raises(RequestRefused, match=rf"^http://127\.0\.0\.1:\d+ {re.escape(told)}$"):
            call()
    assert {method for method, _, _ in script.asked} == {"GET"}


def test_a_program_that_cannot_be_posted_to_is_another_one(serving: DatabricksServing, script: Script) -> None:
    script.answers["POST"] = (501, b"<html>Unsupported method ('POST')</html>")
    told = "answers with HTTP 501 and is not an endpoint server: another program listens there; check serving.host"
    with pytest.raises(RequestRefused, match=rf"^http://127\.0\.0\.1:\d+ {re.escape(told)}$"):
        serving.query([b"photo"])


def test_a_missing_build_log_is_empty(serving: DatabricksServing, script: Script) -> None:
    script.error("GET", 404, "RESOURCE_DOES_NOT_EXIST")
    assert serving.build_log(3) == ""


def test_a_failed_update_is_a_state_with_the_old_version_still_served(serving: DatabricksServing, script: Script) -> None:
    script.answers["GET"] = (200, endpoint("UPDATE_FAILED", active=entity(3), pending=entity(4, "DEPLOYMENT_FAILED")))
    state = serving.state()
    assert (state.failed, state.ready, state.served, state.pending, state.updating) == (True, True, 3, None, False)
    assert state.message == "DEPLOYMENT_FAILED of 4"


@pytest.mark.parametrize(
    "described",
    [
        endpoint("NOT_UPDATING", ready="NOT_READY", active=entity(3)),
        endpoint("NOT_UPDATING", active=entity(3, "DEPLOYMENT_RECOVERING")),
        endpoint("NOT_UPDATING", active=entity(3, entity_name="insurance_uc.models.other")),
        endpoint("NOT_UPDATING"),
        {"name": NAME},
    ],
)
def test_nothing_is_said_to_be_served_that_does_not_answer_with_our_model(
    serving: DatabricksServing, script: Script, described: dict[str, Any]
) -> None:
    script.answers["GET"] = (200, described)
    assert serving.state().served is None


def test_an_absent_endpoint_is_created_with_the_whole_config(serving: DatabricksServing, script: Script) -> None:
    script.error("GET", 404, "RESOURCE_DOES_NOT_EXIST")
    script.answers["POST"] = (200, {"name": NAME})
    serving.put(3)
    method, path, body = script.asked[-1]
    config = {
        "served_entities": [
            {
                "name": "car_damage_classifier-3",
                "entity_name": "insurance_uc.models.car_damage_classifier",
                "entity_version": "3",
                "workload_size": "Small",
                "workload_type": "CPU",
                "scale_to_zero_enabled": True,
            }
        ],
        "traffic_config": {"routes": [{"served_entity_name": "car_damage_classifier-3", "traffic_percentage": 100}]},
    }
    tags = [{"key": "service", "value": "car-damage"}]
    assert (method, path, body) == ("POST", "/api/2.0/serving-endpoints", {"name": NAME, "config": {"name": NAME, **config}, "tags": tags})


def test_an_update_sends_the_whole_config_anew_with_scaling_to_zero_as_the_settings_want_it(
    serving: DatabricksServing, script: Script
) -> None:
    script.answers["GET"] = (200, endpoint("NOT_UPDATING", active=entity(3)))
    script.answers["PUT"] = (200, endpoint("IN_PROGRESS", active=entity(3)))
    settings = serving._settings
    for wanted in (True, False):
        changed = settings.model_copy(update={"serving": settings.serving.model_copy(update={"scale_to_zero": wanted})})
        DatabricksServing(changed).put(4)
        method, path, body = script.asked[-1]
        assert (method, path) == ("PUT", f"/api/2.0/serving-endpoints/{NAME}/config")
        (served,) = body["served_entities"]
        assert (served["entity_version"], served["workload_size"], served["workload_type"]) == ("4", "Small", "CPU")
        assert served["scale_to_zero_enabled"] is wanted
        assert body["traffic_config"] == {"routes": [{"served_entity_name": served["name"], "traffic_percentage": 100}]}


def test_a_put_that_meets_its_own_update_is_content_and_another_one_is_not(serving: DatabricksServing, script: Script) -> None:
    script.answers["GET"] = (200, endpoint("IN_PROGRESS", active=entity(3), pending=entity(4, "DEPLOYMENT_CREATING")))
    script.error("PUT", 409, "RESOURCE_CONFLICT")
    serving.put(4)
    assert script.asked[-2][0] == "PUT"
    with pytest.raises(UpdateInProgress, match="told so"):
        serving.put(5)
