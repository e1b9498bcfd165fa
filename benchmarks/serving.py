"""One photo through the local endpoint, against the work itself and against the usual way.

- "decode + one TensorFlow call in process": this project's decoder and the compiled network, nothing around them.
- "decode + Keras predict in process": the same with the network's own `predict`, as most people call it.
- "a JSON tensor to mlflow models serve": the same network as a plain Keras model, asked with the photo as
  224x224x3 numbers, which is what the usual tutorial does.

They are asked in turns, so that whatever else the machine does falls on all of them. Client: one kept connection
of http.client and a body made beforehand, so neither databricks-sdk nor base64 on the caller's side is in the figures.
The best of all rounds stands beside the median, because it hardly depends on what else the machine does.
"""

import base64
import http.client
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from car_damage.server.state import token
from car_damage.serving import DatabricksServing
from car_damage.settings import Serving, Settings, Tracking
from deployments.processes import free_port, service

ROUNDS = 150
USUAL_ROUNDS = 15
PATIENCE = 120.0
"""Seconds that a server may take to start."""
CLASSES = ("minor", "moderate", "major")


def run() -> list[dict[str, Any]]:
    """Median times, in milliseconds."""
    with tempfile.TemporaryDirectory(prefix="car-damage-bench-") as temporary, ExitStack() as stack:
        home = Path(temporary)
        photo = _photo()
        network = _network(home)
        endpoint = stack.enter_context(_endpoint(home, network, photo))
        usual = stack.enter_context(_mlflow_models_serve(home, network, photo))
        bare, keras_predict = _in_process(network, photo)
        for ask in (endpoint, bare, keras_predict, usual) * 3:
            ask()
        times: dict[str, list[float]] = {"endpoint": [], "bare": [], "predict": [], "usual": []}
        for index in range(ROUNDS):
            times["endpoint"].append(_timed(endpoint))
            times["bare"].append(_timed(bare))
            times["predict"].append(_timed(keras_predict))
            if index < USUAL_ROUNDS:
                times["usual"].append(_timed(usual))
    ours, own, predicted, theirs = (statistics.median(times[name]) * 1000 for name in ("endpoint", "bare", "predict", "usual"))
    least, own_least = (min(times[name]) * 1000 for name in ("endpoint", "bare"))
    name = f"serving one 1000x667 JPEG of {len(photo) // 1000} kB, a demo photo enlarged and noisy"
    return [
        _row(f"{name}, p50", ours, f"decode + one TensorFlow call in process, {own:.1f} ms", ours / own),
        _row(f"{name}, best", least, f"decode + one TensorFlow call in process, {own_least:.1f} ms", least / own_least),
        _row(f"{name}, p50", ours, f"decode + Keras predict in process, {predicted:.1f} ms", ours / predicted),
        _row(f"{name}, p50", ours, f"a JSON tensor to mlflow models serve, {theirs:.1f} ms", ours / theirs),
    ]


def _row(name: str, value: float, baseline: str, ratio: float) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": "ms", "baseline": baseline, "ratio": ratio}


def _timed(ask: Callable[[], Any]) -> float:
    start = time.perf_counter()
    ask()
    return time.perf_counter() - start


def _photo() -> bytes:
    """A demo photo enlarged to 1000x667 with the noise of a camera, at quality 88: about 150 kB."""
    import numpy as np
    from PIL import Image

    from car_damage import demo_photos

    drawn = Image.open(io.BytesIO(demo_photos.photo("major", 7))).convert("RGB")
    large = np.asarray(drawn.resize((1000, 667), Image.Resampling.BICUBIC), np.float32)
    noisy = (large + np.random.default_rng(0).normal(0, 6, large.shape)).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "JPEG", quality=88)
    return file.getvalue()


def _network(home: Path) -> Path:
    from car_damage.networks import build

    path = home / "network.keras"
    build("cnn", len(CLASSES)).save(path)
    return path


def _in_process(network: Path, photo: bytes) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Decode and answer by a compiled call, and by Keras' own predict."""
    import keras
    import tensorflow as tf

    from car_damage.images import SIZE, decode

    model = keras.saving.load_model(network, compile=False)
    call = tf.function(
        lambda photos: model(photos, training=False), input_signature=[tf.TensorSpec((None, SIZE, SIZE, 3), tf.uint8)], autograph=False
    ).get_concrete_function()
    return (
        lambda: call(tf.constant(decode(photo).pixels[None])).numpy(),
        lambda: model.predict(decode(photo).pixels[None], verbose=0),
    )


@contextmanager
def _endpoint(home: Path, network: Path, photo: bytes) -> Iterator[Callable[[], Any]]:
    import mlflow

    from car_damage import model_package

    port = free_port()
    settings = Settings(
        home=home, tracking=Tracking(uri=f"sqlite:///{home / 'mlflow.db'}"), serving=Serving(host=f"http://127.0.0.1:{port}")
    )
    mlflow.set_tracking_uri(settings.tracking_uri)
    experiment = mlflow.create_experiment("bench", artifact_location=(home / "artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment):
        uri = model_package.log(network, photo, CLASSES)
    client = mlflow.MlflowClient()
    client.create_registered_model(settings.tracking.model)
    client.create_model_version(settings.tracking.model, uri, model_id=uri.removeprefix("models:/"))
    environment = os.environ | {
        "CAR_DAMAGE_HOME": str(home),
        "CAR_DAMAGE_TRACKING__URI": settings.tracking_uri,
        "CAR_DAMAGE_SERVING__HOST": str(settings.serving.host),
    }
    command = [sys.executable, "-m", "car_damage.cli", "serve"]
    with service("endpoint server", command, home / "endpoint.log", f"{settings.serving.host}/health", environment) as server:
        server.await_ready(PATIENCE)
        serving = DatabricksServing(settings)
        serving.put(1)
        end = time.monotonic() + PATIENCE
        while serving.state().served != 1:
            if time.monotonic() > end:
                raise SystemExit("the endpoint did not get ready in time")
            time.sleep(0.2)
        body = json.dumps({"dataframe_records": [{"image": base64.b64encode(photo).decode()}]}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token(home)}"}
        yield _asking(port, f"/serving-endpoints/{settings.serving.endpoint}/invocations", body, headers)


@contextmanager
def _mlflow_models_serve(home: Path, network: Path, photo: bytes) -> Iterator[Callable[[], Any]]:
    import keras
    import mlflow

    from car_damage.images import decode

    mlflow.keras.save_model(keras.saving.load_model(network, compile=False), str(home / "plain"))
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(home / "plain"), "--env-manager", "local", "-p", str(port)]
    # It starts uvicorn by name.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    with service("mlflow models serve", command, home / "plain.log", f"http://127.0.0.1:{port}/health", {"PATH": path}) as server:
        server.await_ready(PATIENCE)
        body = json.dumps({"inputs": decode(photo).pixels[None].tolist()}).encode()
        yield _asking(port, "/invocations", body, {"Content-Type": "application/json"})


def _asking(port: int, path: str, body: bytes, headers: dict[str, str]) -> Callable[[], Any]:
    """Ask over one kept connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def ask() -> Any:
        try:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            raise
        assert response.status == 200, answer[:500]
        return json.loads(answer)

    return ask


if __name__ == "__main__":
    for row in run():
        print(f"{row['name']}: {row['value']:.1f} {row['unit']}, {row['ratio']:.2f}x of {row['baseline']}")
