"""A registry with tiny models, and endpoint servers in separate processes."""

import contextlib
import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from car_damage.adapters.clock import SystemClock
from car_damage.adapters.databricks.serving import DatabricksServing
from car_damage.adapters.folder import Folder
from car_damage.data.answers import inference_log
from car_damage.data.people.desk import Desk
from car_damage.model.answering import Answering, Nonconformity
from car_damage.server.address import token
from car_damage.server.hosting.model_server import AT_ONCE
from car_damage.settings import Answers, Monitoring, Serving, Settings, Tracking
from deployments.processes import free_port

CLASSES = ("minor", "moderate", "major")
SECRET = "known to the server alone"  # noqa: S105 - not a real credential
LIMIT = 100
"""Pixels that versions 2 and 3 require for the shorter side of a photo."""
DEADLINE = 120.0
"""Seconds to wait for a condition before the test fails."""
LOG_SECONDS = 1.0
"""Seconds between two files of the request log."""


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until a condition returns a true value; return that value."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen in {DEADLINE:g} seconds")


@pytest.fixture(scope="session")
def photo() -> bytes:
    """A JPEG of 320x240 pixels with a gradient and an edge."""
    return jpeg(320, 240)


def jpeg(width: int, height: int, turn: int = 0) -> bytes:
    """A JPEG with a gradient in two channels and an edge in the third."""
    import io

    import numpy as np
    from PIL import Image

    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([(x + turn) % 256, (y * 2) % 256, np.where(x > width // 2, 200, 40)], axis=-1).astype("uint8")
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


@contextlib.contextmanager
def emptied(server: "Server") -> Iterator[Desk]:
    """The desk of a server, empty before and afterwards."""
    answers = server.settings.answers

    def empty() -> None:
        for folder in (answers.corrections, answers.keep_for_review):
            shutil.rmtree(str(folder), ignore_errors=True)

    empty()
    yield Desk(Folder(), answers, SystemClock())
    empty()


ANSWERING = Answering(
    scores=(
        Nonconformity(3, (0.1, 0.2, 0.3)),  # too few photos: minor is in every set
        Nonconformity(20, tuple(number / 40 for number in range(20))),
        Nonconformity(20, tuple(number / 20 for number in range(20))),
    )
)
"""What version 1 does to its network's probabilities. The other versions can exclude no class."""


def network(folder: Path, seed: int) -> Path:
    """A .keras file whose network takes uint8 pixels and returns a softmax, and beside it the .onnx file. The seed gives the weights."""
    import keras

    from car_damage.model.networks import export

    keras.utils.set_random_seed(seed)
    layers = [
        keras.layers.Input((224, 224, 3), dtype="uint8"),
        keras.layers.Rescaling(1 / 255),
        keras.layers.AveragePooling2D(32),
        keras.layers.Flatten(),
        keras.layers.Dense(len(CLASSES), activation="softmax"),
    ]
    path = folder / f"{seed}.keras"
    small = keras.Sequential(layers)
    small.save(path)
    export.write(small, path.with_suffix(".onnx"))
    return path


def own_answer(keras_file: Path, data: bytes) -> list[float]:
    """The probabilities that Keras computes for an image file."""
    from car_damage.photo.decoder import decode

    return network_answer(keras_file, decode(data).pixels)


def network_answer(keras_file: Path, pixels: Any) -> list[float]:
    """The probabilities that Keras computes for pixels, (224, 224, 3) uint8."""
    import keras

    return [float(p) for p in keras.saving.load_model(keras_file, compile=False).predict(pixels[None], verbose=0)[0]]


@dataclasses.dataclass(frozen=True)
class Models:
    """A registry, with the .keras file and the model folder of each version."""

    uri: str
    keras_files: dict[int, Path]
    folders: dict[int, Path]
    altered: int
    """The version whose own decoder inverts the pixels. It was logged with min_side LIMIT. The config of version 1 has
    neither limits nor a preparation, as in models from earlier releases."""
    broken: int
    """The version whose network cannot be loaded."""


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, photo: bytes) -> Models:
    import mlflow
    import yaml

    from car_damage.model.served import package
    from car_damage.photo.limits import Limits

    folder = tmp_path_factory.mktemp("registry")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    name = Settings().tracking.model
    client = mlflow.MlflowClient(uri, uri)
    client.create_registered_model(name)
    experiment = client.create_experiment("tests", artifact_location=(folder / "artifacts").as_uri())
    files, folders = {}, {}
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        for version in (1, 2):
            files[version] = network(folder, version)
            limits = Limits(min_side=LIMIT) if version == 2 else Limits()
            with mlflow.start_run(experiment_id=experiment):
                answering = folder / "answering.json" if version == 1 else None
                if answering:
                    ANSWERING.write(answering)
                network_files = package.NetworkFiles(files[version], files[version].with_suffix(".onnx"), answering, small=True)
                model_uri = package.log(network_files, photo, CLASSES, "model", limits=limits)
            client.create_model_version(name, model_uri, model_id=model_uri.removeprefix("models:/"))
            folders[version] = Path(client.get_logged_model(model_uri.removeprefix("models:/")).artifact_location.removeprefix("file://"))
    finally:
        mlflow.set_tracking_uri(before)
    described = yaml.safe_load((folders[1] / "MLmodel").read_text())
    for later in ("limits", "preparation"):
        del described["flavors"]["python_function"]["config"][later]
    (folders[1] / "MLmodel").write_text(yaml.safe_dump(described))
    for version in (3, 4):
        files[version], folders[version] = files[2], folder / str(version)
        shutil.copytree(folders[2], folders[version])
        client.create_model_version(name, folders[version].as_uri())
    with (folders[3] / "code" / "car_damage" / "photo" / "decoder.py").open("a") as decoder:
        decoder.write(
            "\n\n_ours = decode\n\n\n"
            "def decode(data, *given):\n"
            "    from dataclasses import replace\n\n"
            "    photo = _ours(data, *given)\n"
            "    return replace(photo, pixels=255 - photo.pixels)\n"
        )
    next((folders[4] / "artifacts").glob("*.onnx")).write_bytes(b"not a network")
    return Models(uri, files, folders, altered=3, broken=4)


SERVE = """
from car_damage.platform import Target
from car_damage.server.command import serve
from car_damage.settings_sources import load

target = Target(load())
serve(target.settings, target.files, target.clock)
"""
"""As `car-damage serve`, but for a home that was never opened: these registries have their place elsewhere."""


class Server:
    """An endpoint server in its own process, with the settings and calls of a client."""

    def __init__(self, home: Path, uri: str, **serving: Any) -> None:
        self.settings = Settings(
            home=home,
            tracking=Tracking(uri=uri),
            serving=Serving(host=f"http://127.0.0.1:{free_port()}", **serving),
            answers=Answers(corrections=str(home / "corrections"), keep_for_review=str(home / "kept")),
            monitoring=Monitoring(log_folder=str(home / "requests"), log_seconds=LOG_SECONDS),
        )
        self._process: subprocess.Popen[str] | None = None
        self._said = home / "server.out"

    def spawn(self, registry: str | None = None, output: int = subprocess.PIPE) -> "subprocess.Popen[str]":
        """Start a server process without waiting until it answers."""
        serving = self.settings.serving.model_dump(exclude_unset=True)
        environment = os.environ | {
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "DATABRICKS_TOKEN": SECRET,
            "MLFLOW_TRACKING_PASSWORD": SECRET,
            "CAR_DAMAGE_HOME": str(self.settings.home),
            "CAR_DAMAGE_TRACKING__URI": registry or self.settings.tracking_uri,
            "CAR_DAMAGE_MONITORING__LOG_SECONDS": str(LOG_SECONDS),
            "CAR_DAMAGE_ANSWERS__KEEP_FOR_REVIEW": str(self.settings.answers.keep_for_review),
            **{f"CAR_DAMAGE_SERVING__{key.upper()}": str(value) for key, value in serving.items()},
        }
        return subprocess.Popen([sys.executable, "-c", SERVE], env=environment, stdout=output, stderr=subprocess.STDOUT, text=True)

    def start(self, registry: str | None = None) -> "Server":
        # The output goes to a file: a pipe that nobody reads fills up and then blocks the server.
        self._said.parent.mkdir(parents=True, exist_ok=True)
        with self._said.open("w") as output:
            self._process = self.spawn(registry, output.fileno())
        until(self._answers, "the server's first answer")
        return self

    def _answers(self) -> bool:
        import httpx

        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"the server ended: {self._said.read_text()}")
        try:
            return httpx.get(f"{self.url}/health").status_code == 200
        except httpx.TransportError:
            return False

    @property
    def url(self) -> str:
        return str(self.settings.serving.host)

    @property
    def said(self) -> str:
        """What the process has written since its start."""
        return self._said.read_text()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def serving(self) -> DatabricksServing:
        return DatabricksServing(self.settings)

    def call(self, method: str, path: str, *, bearer: str | None = None, **more: Any) -> Any:
        """Send one HTTP request. `bearer` replaces the valid token."""
        import httpx

        headers = {"Authorization": f"Bearer {bearer or token(self.settings.home)}"} | more.pop("headers", {})
        return httpx.request(method, self.url + path, headers=headers, timeout=120, **more)

    def invoke(self, **more: Any) -> Any:
        return self.call("POST", f"/serving-endpoints/{self.settings.serving.endpoint}/invocations", **more)

    @contextlib.contextmanager
    def full_queue(self) -> Iterator[None]:
        """Fill the endpoint's queue with slow senders until the block ends."""
        serving = self.settings.serving
        head = (
            f"POST /serving-endpoints/{serving.endpoint}/invocations HTTP/1.1\r\nHost: here\r\n"
            f"Authorization: Bearer {token(self.settings.home)}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
        )
        with contextlib.ExitStack() as slow_senders:
            for _ in range(serving.max_queue + AT_ONCE):
                # Each connection holds a place because it never sends its body.
                connection = socket.create_connection(("127.0.0.1", urlsplit(self.url).port))
                slow_senders.enter_context(connection).sendall(head.encode())
            until(lambda: self.invoke(json={}).status_code == 429, "a full queue")
            yield

    def logged(self) -> list[dict[str, Any]]:
        """The rows of the files of the request log, in the order of time."""
        folder = Path(self.settings.monitoring.log_folder)
        rows = [row for file in folder.glob("[!.]*.parquet") for row in inference_log.from_file(file.read_bytes()).to_pylist()]
        return sorted(rows, key=lambda row: row["request_id"])

    def settled(self) -> Any:
        """Wait until no update is in progress and the endpoint is ready or has failed; return its state."""

        def state() -> Any:
            now = self.serving.state()
            return now if not now.updating and (now.ready or now.failed) else None

        return until(state, "the end of the update")

    def model_processes(self) -> list[Any]:
        import psutil

        return [process for process in psutil.Process(self.pid).children(recursive=True) if process.is_running()]

    def end(self, how: signal.Signals = signal.SIGTERM) -> str:
        """End the process; return everything that it wrote since its start."""
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(timeout=DEADLINE)
        return self.said


# All tests of this package that run in one process share a server, because a model's process takes seconds to start. Each module
# sets up the state that it needs, so modules can run in any order or alone.
@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory, models: Models) -> Iterator[Server]:
    """A running server with no endpoints."""
    running = Server(tmp_path_factory.mktemp("home"), models.uri, max_request_bytes=1 << 20, max_queue=8).start()
    yield running
    if running.is_running:
        running.end()


@pytest.fixture(scope="package")
def sleepy(tmp_path_factory: pytest.TempPathFactory, models: Models) -> Iterator[Server]:
    """Another server that starts version 1. Its endpoint scales to zero after two seconds; all other settings are defaults."""
    running = Server(tmp_path_factory.mktemp("sleepy"), models.uri, idle_timeout=2.0).start()
    running.serving.put(1)
    yield running
    running.end()


@pytest.fixture(scope="module")
def live(server: Server) -> Server:
    """The same server with any version live. If an earlier module ended it, it is started again."""
    if not server.is_running:
        server.start()
    if not server.serving.state().exists:
        server.serving.put(1)
    assert server.settled().ready
    return server


@pytest.fixture(scope="module")
def ready(live: Server) -> Server:
    """The same server with version 1 live."""
    if live.settled().served != 1:
        live.serving.put(1)
    assert live.settled().served == 1
    return live
