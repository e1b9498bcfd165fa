"""Time to classify one photo with the local endpoint, compared with four baselines.

- "decode + one call of ONNX Runtime in process": this project's decoder and the network that answers, without a server.
- "decode + one compiled TensorFlow call in process": the same with the Keras network that it was made from.
- "decode + Keras predict in process": the same with the network's `predict`, which most people call.
- "a JSON tensor to mlflow models serve": the same network as a plain Keras model, which gets the photo as 224x224x3 numbers,
  as in most tutorials.

All take turns, so that other load on the machine affects all of them. The client keeps one connection of http.client open and
sends a prepared body, so the figures contain neither databricks-sdk nor the client's base64 encoding. Besides the median there
is the best of all rounds, because it hardly depends on other load.
"""

import http.client
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.endpoint import BARE, BARE_TENSORFLOW, TIMEOUT, bare, bare_tensorflow, endpoint, network, photo
from deployments.processes import free_port, service

ROUNDS = 150
USUAL_ROUNDS = 15


def run() -> list[dict[str, Any]]:
    """Median and best times, in milliseconds."""
    with tempfile.TemporaryDirectory(prefix="car-damage-bench-") as temporary, ExitStack() as stack:
        home = Path(temporary)
        data = photo()
        files = network(home)
        served = stack.enter_context(endpoint(home, files, data))
        usual = stack.enter_context(_mlflow_models_serve(home, files.keras, data))
        calls = {
            "endpoint": client(served.port, served.path, [served.body], served.headers),
            "bare": bare(files, data),
            "tensorflow": bare_tensorflow(files, data),
            "predict": _keras_predict(files.keras, data),
            "usual": usual,
        }
        for call in [*calls.values()] * 3:
            call()
        times: dict[str, list[float]] = {name: [] for name in calls}
        for index in range(ROUNDS):
            for name, call in calls.items():
                if name != "usual" or index < USUAL_ROUNDS:
                    times[name].append(timed(call))
    ours, own, compiled, predicted, usual_ms = (statistics.median(times[name]) * 1000 for name in calls)
    least, own_least = (min(times[name]) * 1000 for name in ("endpoint", "bare"))
    name = f"serving one 1000x667 JPEG of {len(data) // 1000} kB, a demo photo enlarged and noisy"
    return [
        _row(f"{name}, p50", ours, f"{BARE}, {own:.1f} ms", ours / own),
        _row(f"{name}, best", least, f"{BARE}, {own_least:.1f} ms", least / own_least),
        _row(f"{name}, p50", ours, f"{BARE_TENSORFLOW}, {compiled:.1f} ms", ours / compiled),
        _row(f"{name}, p50", ours, f"decode + Keras predict in process, {predicted:.1f} ms", ours / predicted),
        _row(f"{name}, p50", ours, f"a JSON tensor to mlflow models serve, {usual_ms:.1f} ms", ours / usual_ms),
    ]


def _row(name: str, value: float, baseline: str, ratio: float) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": "ms", "baseline": baseline, "ratio": ratio}


def timed(call: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _keras_predict(keras_file: Path, data: bytes) -> Callable[[], Any]:
    import keras

    from car_damage.photo.decoder import decode

    model = keras.saving.load_model(keras_file, compile=False)
    return lambda: model.predict(decode(data).pixels[None], verbose=0)


@contextmanager
def _mlflow_models_serve(home: Path, keras_file: Path, data: bytes) -> Iterator[Callable[[], Any]]:
    import keras
    import mlflow

    from car_damage.photo.decoder import decode

    mlflow.keras.save_model(keras.saving.load_model(keras_file, compile=False), str(home / "plain"))
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(home / "plain"), "--env-manager", "local", "-p", str(port)]
    # On the PATH, because mlflow starts uvicorn by its name.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    with service("mlflow models serve", command, home / "plain.log", f"http://127.0.0.1:{port}/health", {"PATH": path}) as server:
        server.await_ready(TIMEOUT)
        body = json.dumps({"inputs": decode(data).pixels[None].tolist()}).encode()
        yield client(port, "/invocations", [body], {"Content-Type": "application/json"})


def client(port: int, path: str, bodies: Sequence[bytes], headers: dict[str, str]) -> Callable[[], Any]:
    """A function that sends the requests in turn over one open connection and returns the response's JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    turns = itertools.cycle(bodies)

    def call() -> Any:
        try:
            connection.request("POST", path, next(turns), headers)
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            raise
        assert response.status == 200, answer[:500]
        return json.loads(answer)

    return call


if __name__ == "__main__":
    for row in run():
        print(f"{row['name']}: {row['value']:.1f} {row['unit']}, {row['ratio']:.2f}x of {row['baseline']}")
