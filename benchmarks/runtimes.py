"""Time of the network alone, with ONNX Runtime and with Keras, in batches of 1, 8, 32 and 256 photos.

The registered model answers by ONNX Runtime. The baseline is one call of the compiled Keras network, which TensorFlow runs. Both take
turns in this process, with their default numbers of threads. The processor's time is that of all threads.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.endpoint import compiled, network
from car_damage.model.onnx_network import OnnxNetwork

BATCHES = (1, 8, 32, 256)
PHOTOS = 768
"""Photos that each of the two answers at each batch size, in rounds of one batch; 12 rounds at least."""


def run() -> list[dict[str, Any]]:
    """Milliseconds a photo, the median of all rounds. The ratio compares times, so less is better."""
    with tempfile.TemporaryDirectory(prefix="car-damage-bench-") as folder:
        files = network(Path(folder))
        assert files.onnx is not None
        onnx, keras = OnnxNetwork(files.onnx), compiled(files)
        return [row for batch in BATCHES for row in _measured(onnx, keras, batch)]


def _measured(onnx: Callable[[Any], Any], keras: Callable[[Any], Any], batch: int) -> list[dict[str, Any]]:
    pixels = np.random.default_rng(0).integers(0, 256, (batch, 224, 224, 3), np.uint8)
    assert np.abs(onnx(pixels) - keras(pixels)).max() < 1e-5
    rounds = [(_times(onnx, pixels), _times(keras, pixels)) for _ in range(max(12, PHOTOS // batch))]
    rows = []
    for index, name in enumerate(("", ", processor")):
        ours, baseline = (statistics.median(one[runtime][index] for one in rounds) / batch * 1000 for runtime in (0, 1))
        against = f"the same network by TensorFlow, {baseline:.2f} ms"
        named = f"cnn by ONNX Runtime, a photo in a batch of {batch}{name}"
        rows.append({"name": named, "value": ours, "unit": "ms", "baseline": against, "ratio": ours / baseline})
    return rows


def _times(call: Callable[[Any], Any], pixels: Any) -> tuple[float, float]:
    """Seconds, and seconds of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    call(pixels)
    return time.perf_counter() - wall, time.process_time() - processor
