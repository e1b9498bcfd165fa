"""Shared by the benchmarks of serving: a photo, a network, a local endpoint that serves it, and the baselines without a server."""

import base64
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from car_damage.adapters.databricks.serving import DatabricksServing
from car_damage.model.answering import Answering, Nonconformity
from car_damage.model.served.package import NetworkFiles
from car_damage.server.address import token
from car_damage.settings import Serving, Settings, Tracking
from deployments.processes import free_port, service

TIMEOUT = 120.0
"""Seconds that a server may take to start, or a version to go live."""
CLASSES = ("minor", "moderate", "major")
BARE = "decode + one call of ONNX Runtime in process"
BARE_TENSORFLOW = "decode + one compiled TensorFlow call in process"


@dataclass(frozen=True)
class Endpoint:
    """A running endpoint with version 1 live. Version 2 is the same model."""

    port: int
    path: str
    headers: dict[str, str]
    body: bytes
    pid: int
    """Process id of the endpoint server."""
    serving: DatabricksServing

    def write_request(self, file: Path) -> None:
        """Write the request's bytes, for clients in another process."""
        head = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        file.write_bytes(f"POST {self.path} HTTP/1.1\r\nHost: here\r\n{head}Content-Length: {len(self.body)}\r\n\r\n".encode() + self.body)

    def take_live(self, version: int) -> None:
        """Update the endpoint to a version and wait until it serves that."""
        self.serving.put(version)
        end = time.monotonic() + TIMEOUT
        while (state := self.serving.state()).served != version or state.updating or not state.ready:
            if time.monotonic() > end:
                raise SystemExit(f"version {version} did not go live within {TIMEOUT:.0f} s")
            time.sleep(0.1)


def request(data: bytes) -> bytes:
    """The body that asks about a photo."""
    return json.dumps({"dataframe_records": [{"image": base64.b64encode(data).decode()}]}).encode()


def photo() -> bytes:
    """A demo photo enlarged to 1000x667 pixels, with camera noise, as a JPEG of quality 88: about 150 kB."""
    import numpy as np
    from PIL import Image

    from deployments import demo_photos

    drawn = Image.open(io.BytesIO(demo_photos.photo("major", 7))).convert("RGB")
    large = np.asarray(drawn.resize((1000, 667), Image.Resampling.BICUBIC), np.float32)
    noisy = (large + np.random.default_rng(0).normal(0, 6, large.shape)).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "JPEG", quality=88)
    return file.getvalue()


def network(home: Path) -> NetworkFiles:
    """Save an untrained network, all of whose answers ask for a person."""
    from car_damage.model.networks.cnn import build
    from car_damage.model.networks.export import write

    files = NetworkFiles(home / "network.keras", home / "network.onnx", home / "answering.json", small=True)
    Answering(scores=(Nonconformity(1, (0.5,)),) * len(CLASSES)).write(home / "answering.json")
    built = build("cnn", len(CLASSES))
    built.save(files.keras)
    write(built, files.onnx)
    return files


def bare(files: NetworkFiles, data: bytes) -> Callable[[], Any]:
    """The baseline: this project's decoder and one call of ONNX Runtime with its default settings."""
    import onnxruntime

    from car_damage.photo.decoder import decode

    session = onnxruntime.InferenceSession(str(files.onnx), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: decode(data).pixels[None]})


def bare_tensorflow(files: NetworkFiles, data: bytes) -> Callable[[], Any]:
    """The same with one call of the compiled Keras network."""
    from car_damage.photo.decoder import decode

    call = compiled(files)
    return lambda: call(decode(data).pixels[None])


def compiled(files: NetworkFiles) -> Callable[[Any], Any]:
    """The compiled Keras network, (n, 224, 224, 3) uint8 -> (n, classes) float32, with TensorFlow's default settings."""
    import keras
    import tensorflow as tf

    from car_damage.photo.limits import SIZE

    model = keras.saving.load_model(files.keras, compile=False)
    call = tf.function(
        lambda photos: model(photos, training=False), input_signature=[tf.TensorSpec((None, SIZE, SIZE, 3), tf.uint8)], autograph=False
    ).get_concrete_function()
    return lambda photos: call(tf.constant(photos)).numpy()


@contextmanager
def endpoint(home: Path, files: NetworkFiles, data: bytes, **variables: str) -> Iterator[Endpoint]:
    """Register the network as two versions, run an endpoint server during the block and take version 1 live.

    Args:
        home: of the server.
        files: the network.
        data: the photo of the prepared request.
        variables: more of the server's environment.
    """
    import mlflow

    from car_damage.model.served import package

    home.mkdir(exist_ok=True)
    port = free_port()
    settings = Settings(
        home=home, tracking=Tracking(uri=f"sqlite:///{home / 'mlflow.db'}"), serving=Serving(host=f"http://127.0.0.1:{port}")
    )
    mlflow.set_tracking_uri(settings.tracking_uri)
    experiment = mlflow.create_experiment("bench", artifact_location=(home / "artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment):
        uri = package.log(files, data, CLASSES, "model")
    client = mlflow.MlflowClient()
    client.create_registered_model(settings.tracking.model)
    for _ in range(2):
        client.create_model_version(settings.tracking.model, uri, model_id=uri.removeprefix("models:/"))
    environment = os.environ | {
        "CAR_DAMAGE_HOME": str(home),
        "CAR_DAMAGE_TRACKING__URI": settings.tracking_uri,
        "CAR_DAMAGE_SERVING__HOST": str(settings.serving.host),
        **variables,
    }
    command = [sys.executable, "-m", "car_damage.cli", "serve"]
    with service("endpoint server", command, home / "endpoint.log", f"{settings.serving.host}/health", environment) as server:
        server.await_ready(TIMEOUT)
        running = Endpoint(
            port,
            f"/serving-endpoints/{settings.serving.endpoint}/invocations",
            {"Content-Type": "application/json", "Authorization": f"Bearer {token(home)}"},
            request(data),
            server.process.pid,
            DatabricksServing(settings),
        )
        running.take_live(1)
        yield running
