"""What a map of where the damage was seen costs, in plain answers of the same photo by the same endpoint.

The network cnn is asked again with parts of the photo hidden. A head on the maps of a backbone says it in one more call; the backbone here
is MobileNetV2. A head on tokens cannot say it, so its network is asked again, too, but less often; the backbone here is a vision
transformer with 4 of the 12 blocks of DINOv2's smallest one. Random weights take as long as trained ones. Plain answers and maps take
turns.
"""

import base64
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.endpoint import CLASSES, endpoint, network, photo
from benchmarks.serving import client, timed
from car_damage.adapters.folder import Folder
from car_damage.model.networks import backbone, heads, startup
from car_damage.model.networks.activation import with_places
from car_damage.model.networks.export import write
from car_damage.model.served.package import NetworkFiles
from car_damage.photo.limits import SIZE
from car_damage.settings import Training

ROUNDS = 40
AT_MOST = 10
"""Plain answers that a map may cost."""
WIDTH, HEADS, BLOCKS, PATCH = 384, 6, 4, 16


def run() -> list[dict[str, Any]]:
    """Ends this process if a map costs more than `AT_MOST` answers."""
    rows = [_cost(name, make) for name, make in (("cnn", network), ("transfer on maps", on_maps), ("transfer on tokens", on_tokens))]
    if dear := [f"{row['name']}: {row['ratio']:.1f} answers" for row in rows if row["ratio"] > AT_MOST]:
        raise SystemExit(f"a map may cost {AT_MOST} answers: {'; '.join(dear)}")
    return rows


def on_maps(home: Path) -> NetworkFiles:
    """Save a head on a backbone of maps."""
    return _with_head(home, "MobileNetV2")


def on_tokens(home: Path) -> NetworkFiles:
    """Save a head on a backbone of tokens."""
    startup.import_quietly()
    import keras
    from keras import layers

    photo = keras.Input((SIZE, SIZE, 3))
    patches = layers.Conv2D(WIDTH, PATCH, strides=PATCH)(layers.Rescaling(1 / 255)(photo))
    tokens = layers.Reshape((-1, WIDTH))(patches)
    for _ in range(BLOCKS):
        seen = layers.LayerNormalization()(tokens)
        tokens = layers.Add()([tokens, layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(seen, seen)])
        # gelu, which such networks have, is not exported to ONNX.
        wide = layers.Dense(4 * WIDTH, activation="relu")(layers.LayerNormalization()(tokens))
        tokens = layers.Add()([tokens, layers.Dense(WIDTH)(wide)])
    keras.Model(photo, tokens).save(home / "backbone.keras")
    return _with_head(home, str(home / "backbone.keras"))


def _with_head(home: Path, of: str) -> NetworkFiles:
    seeing = backbone.load(Training(network="transfer", backbone=of, weights="none"), Folder())
    random = np.random.default_rng(0)
    kernel, bias = random.normal(size=(seeing.length, 2)).astype(np.float32), np.zeros(2, np.float32)
    built = heads.Head(kernel, bias, "ordinal").on(seeing.network)
    files = NetworkFiles(home / "network.keras", home / "network.onnx")
    built.save(files.keras)
    write(with_places(built) or built, files.onnx)
    return files


def _cost(name: str, make: Callable[[Path], NetworkFiles]) -> dict[str, Any]:
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
    return {
        "name": f"explain, {name} of {len(CLASSES)} classes: an answer with a map, p50",
        "value": mapped,
        "unit": "ms",
        "baseline": f"a plain answer, {plain:.1f} ms; at most {AT_MOST} of them",
        "ratio": mapped / plain,
    }
