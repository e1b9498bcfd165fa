"""What `training.int8` changes on real photos: a cnn is trained once, and answers with 32-bit numbers and with 8-bit integers."""

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import real_photos
from benchmarks.endpoint import CLASSES
from car_damage.model.networks import export, training
from car_damage.model.pixels.photos import Photos
from car_damage.model.quality.evaluation import evaluate
from car_damage.settings import Training
from car_damage.stage import silent

ROUNDS = 200


@dataclass(frozen=True)
class Answers:
    """How one of the networks answers."""

    probabilities: npt.NDArray[np.float32]
    milliseconds: float
    kilobytes: float


def run() -> list[dict[str, Any]]:
    """Scores on the photos of val/, which neither network was trained with."""
    place = real_photos.folder()
    if place is None:
        print(f"int8 is skipped: {real_photos.FOLDER} is not there")
        return []
    train, validation = real_photos.split(real_photos.photos(place / "train"), 0.1, seed=1)
    val = real_photos.photos(place / "val")
    trained = training.train(train, validation, len(CLASSES), Training(), silent)
    with tempfile.TemporaryDirectory() as folder:
        served = export.served(trained.network, Path(folder, "network.onnx"), val)
        by_float = _answers(served, val)
        by_int8 = _answers(export.int8(served, train), val)
    same = float((by_float.probabilities.argmax(1) == by_int8.probabilities.argmax(1)).mean())
    scores = [evaluate(val.labels, answers.probabilities, CLASSES).macro_f1 for answers in (by_float, by_int8)]
    difference = float(np.abs(by_float.probabilities - by_int8.probabilities).max())
    return [
        _row(f"macro-F1 of int8 on {len(val)} photos", scores[1], "", scores[0]),
        _row("photos of the same class", same, "", 1.0),
        _row("largest difference of a probability", difference, "", 1.0),
        _row("one photo with int8", by_int8.milliseconds, "ms", by_float.milliseconds),
        _row("file of int8", by_int8.kilobytes, "kB", by_float.kilobytes),
    ]


def _answers(served: export.ServedNetwork, val: Photos) -> Answers:
    assert served.file is not None
    one = np.asarray(val.pixels[:1])
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        served.network(one)
        took.append(time.perf_counter() - began)
    size = served.file.stat().st_size / 1000
    return Answers(training.predict(served.network, val), statistics.median(took) * 1000, size)


def _row(name: str, value: float, unit: str, base: float) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "baseline": f"with 32-bit numbers: {base:.3g} {unit}", "ratio": value / base}
