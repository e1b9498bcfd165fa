"""What a map of where the damage was seen costs, in plain answers of the same photo by the same endpoint.

The network cnn is asked again with parts of the photo hidden. A head on a backbone says it in one more call; the backbone here is
MobileNetV2 with random weights, which take as long as trained ones. Plain answers and maps take turns.
"""

import base64
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.endpoint import CLASSES, endpoint, network, photo
from benchmarks.serving import client, timed
from car_damage.adapters.folder import Folder
from car_damage.model.networks import backbone, heads
from car_damage.model.networks.activation import with_places
from car_damage.model.networks.export import write
from car_damage.model.served.package import NetworkFiles
from car_damage.settings import Training

ROUNDS = 40
AT_MOST = 10
"""Plain answers that a map may cost."""


def run() -> list[dict[str, Any]]:
    return [row for name, make in (("cnn", network), ("transfer", transfer)) for row in _cost(name, make)]


def transfer(home: Path) -> NetworkFiles:
    """Save a backbone with a head."""
    seeing = backbone.load(Training(network="transfer", backbone="MobileNetV2", weights="none"), Folder())
    random = np.random.default_rng(0)
    kernel, bias = random.normal(size=(seeing.length, 2)).astype(np.float32), np.zeros(2, np.float32)
    built = heads.Head(kernel, bias, "ordinal").on(seeing.network)
    files = NetworkFiles(home / "network.keras", home / "network.onnx")
    built.save(files.keras)
    write(with_places(built) or built, files.onnx)
    return files


def _cost(name: str, make: Any) -> list[dict[str, Any]]:
    data = photo()
    asked = json.dumps({"dataframe_records": [{"image": base64.b64encode(data).decode()}], "params": {"explain": True}}).encode()
    with tempfile.TemporaryDirectory(prefix="car-damage-bench-") as home, endpoint(Path(home), make(Path(home)), data) as served:
        calls = {"plain": client(served.port, served.path, [served.body], served.headers)}
        calls["map"] = client(served.port, served.path, [asked], served.headers)
        times: dict[str, list[float]] = {which: [] for which in calls}
        for turn in range(ROUNDS + 3):
            for which, call in calls.items():
                seconds = timed(call)
                if turn >= 3:
                    times[which].append(seconds * 1000)
    plain, mapped = (statistics.median(times[which]) for which in ("plain", "map"))
    return [
        {
            "name": f"explain, {name} of {len(CLASSES)} classes: an answer with a map, p50",
            "value": mapped,
            "unit": "ms",
            "baseline": f"a plain answer, {plain:.1f} ms; at most {AT_MOST} of them",
            "ratio": mapped / plain,
        }
    ]
