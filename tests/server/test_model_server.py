"""How the endpoint server fetches a model's files to its disk."""

import asyncio
import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from car_damage.errors import ModelRefused
from car_damage.server.hosting.model_server import DeploymentFiles, ModelLimits, ModelServer


class Registry:
    """A remote registry without models. It records the Authorization header of each request."""

    def __init__(self, url: str, asked: list[str | None]) -> None:
        self.url, self.asked = url, asked


@pytest.fixture
def registry() -> Iterator[Registry]:
    asked: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            pass

        def do_GET(self) -> None:
            asked.append(self.headers.get("Authorization"))
            body = b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such version"}'
            self.send_response(404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield Registry(f"http://127.0.0.1:{server.server_port}", asked)
    server.shutdown()
    server.server_close()


def test_a_remote_registry_is_asked_with_the_servers_credentials_and_its_answer_is_told(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "worker")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    files = DeploymentFiles(tmp_path / "models" / "ep.1", tmp_path / "logs" / "ep.1.log")
    variables = {"MLFLOW_TRACKING_URI": registry.url, "MLFLOW_REGISTRY_URI": registry.url}
    of = ModelServer("models:/m/1", tmp_path / "socket", files, variables, ModelLimits(60, 4 << 30))
    with pytest.raises(ModelRefused, match=r"models:/m/1 could not be fetched .*no such version"):
        asyncio.run(of.start(120))
    assert set(registry.asked) == {"Basic " + base64.b64encode(b"worker:secret").decode()}
    assert list(files.model.parent.iterdir()) == []
