"""One photo through the local endpoint, against the work itself and against the usual way.

- "decode + one TensorFlow call in process": this project's decoder and the compiled network, nothing around them.
- "decode + Keras predict in process": the same with the network's own `predict`, as most people call it.
- "a JSON tensor to mlflow models serve": the same network as a plain Keras model, asked with the photo as
  224x224x3 numbers, which is what the usual tutorial does.

They are asked in turns, so that whatever else the machine does falls on all of them. Client: one kept connection
of http.client and a body made beforehand, so neither databricks-sdk nor base64 on the caller's side is in the figures.
The best of all rounds stands beside the median, because it hardly depends on what else the machine does.
"""

import http.client
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

from benchmarks.endpoint import BARE, PATIENCE, bare, endpoint, network, photo
from deployments.processes import free_port, service

ROUNDS = 150
USUAL_ROUNDS = 15


def run() -> list[dict[str, Any]]:
    """Median times, in milliseconds."""
    with tempfile.TemporaryDirectory(prefix="car-damage-bench-") as temporary, ExitStack() as stack:
        home = Path(temporary)
        data = photo()
        keras_file = network(home)
        served = stack.enter_context(endpoint(home, keras_file, data))
        usual = stack.enter_context(_mlflow_models_serve(home, keras_file, data))
        asks = {
            "endpoint": _asking(served.port, served.path, served.body, served.headers),
            "bare": bare(keras_file, data),
            "predict": _keras_predict(keras_file, data),
            "usual": usual,
        }
        for ask in [*asks.values()] * 3:
            ask()
        times: dict[str, list[float]] = {name: [] for name in asks}
        for index in range(ROUNDS):
            for name, ask in asks.items():
                if name != "usual" or index < USUAL_ROUNDS:
                    times[name].append(_timed(ask))
    ours, own, predicted, theirs = (statistics.median(times[name]) * 1000 for name in ("endpoint", "bare", "predict", "usual"))
    least, own_least = (min(times[name]) * 1000 for name in ("endpoint", "bare"))
    name = f"serving one 1000x667 JPEG of {len(data) // 1000} kB, a demo photo enlarged and noisy"
    return [
        _row(f"{name}, p50", ours, f"{BARE}, {own:.1f} ms", ours / own),
        _row(f"{name}, best", least, f"{BARE}, {own_least:.1f} ms", least / own_least),
        _row(f"{name}, p50", ours, f"decode + Keras predict in process, {predicted:.1f} ms", ours / predicted),
        _row(f"{name}, p50", ours, f"a JSON tensor to mlflow models serve, {theirs:.1f} ms", ours / theirs),
    ]


def _row(name: str, value: float, baseline: str, ratio: float) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": "ms", "baseline": baseline, "ratio": ratio}


def _timed(ask: Callable[[], Any]) -> float:
    start = time.perf_counter()
    ask()
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
    # It starts uvicorn by name.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    with service("mlflow models serve", command, home / "plain.log", f"http://127.0.0.1:{port}/health", {"PATH": path}) as server:
        server.await_ready(PATIENCE)
        body = json.dumps({"inputs": decode(data).pixels[None].tolist()}).encode()
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
