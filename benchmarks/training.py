"""Training speed in photos a second, and the cores that it keeps busy, from the second epoch on.

The baseline is the usual way: keras.utils.image_dataset_from_directory on the folder, with the same network and the same
augmentation. It decodes every photo in every epoch; this project decodes each photo once, before training.
"""

import hashlib
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from car_damage.adapters.clock import SystemClock
from car_damage.adapters.folder import Folder
from car_damage.machine import cores
from car_damage.model.networks import cnn, startup, training
from car_damage.model.pixels.photos import Photos, PhotoSet, load
from car_damage.photo.limits import Limits
from car_damage.settings import Training
from car_damage.stage import silent
from deployments import demo_photos

CLASSES = ("minor", "moderate", "major")
PHOTOS = 96
SIZE = (1000, 667)
EPOCHS = 4
"""Epochs of each round; the first is not counted."""


def run(photos: int = PHOTOS, epochs: int = EPOCHS, real: Path | None = None) -> list[dict[str, object]]:
    with tempfile.TemporaryDirectory() as root:
        _draw(Path(root), photos)
        rows = _measured(Path(root), f"cnn training, {photos} photos of 1000x667", epochs)
    if real is not None:
        rows += _measured(real, f"cnn training, photos of {real}", epochs, limit=photos)
    return rows


def _measured(folder: Path, name: str, epochs: int, limit: int | None = None) -> list[dict[str, object]]:
    startup.import_quietly()
    import keras
    import tensorflow as tf

    settings = Training()
    classes = sorted(place.name for place in folder.iterdir())
    files = [(file, place) for place in classes for file in sorted((folder / place).iterdir())[: limit and limit // len(classes)]]
    with tempfile.TemporaryDirectory() as linked, _loaded(files, classes) as loaded:
        for file, place in files:
            (Path(linked) / place).mkdir(exist_ok=True)
            (Path(linked) / place / file.name).symlink_to(file.absolute())
        photos: Photos = loaded.part("train")
        usual = keras.utils.image_dataset_from_directory(
            linked, image_size=(224, 224), batch_size=settings.batch_size, seed=settings.seed, verbose=False
        ).map(lambda pixels, labels: (tf.cast(pixels, tf.uint8), labels))
        ours = training.batches(photos, settings.batch_size, settings.seed)
        # In turns, so that other load on the machine affects both alike.
        rounds = [(_pace(usual, len(photos), epochs, settings), _pace(ours, len(photos), epochs, settings)) for _ in range(2)]
    theirs, mine = zip(*rounds, strict=True)
    baseline, value = (statistics.median(rate for pace in of for rate in pace.rates) for of in (theirs, mine))
    busy = statistics.mean(pace.cores for pace in mine)
    usual_way = f"image_dataset_from_directory, {baseline:.0f}/s"
    return [
        {"name": name, "value": value, "unit": "photos/s", "baseline": usual_way, "ratio": value / baseline},
        {"name": f"{name}: cores in use", "value": busy, "unit": "cores", "baseline": f"{cores()} cores", "ratio": busy / cores()},
    ]


@dataclass(frozen=True)
class _Pace:
    """Of a training, without its first epoch."""

    rates: list[float]
    """Photos a second in each epoch."""
    cores: float
    """Processor seconds of this process for each second of the clock."""


def _pace(batches: object, photos: int, epochs: int, settings: Training) -> _Pace:
    import keras

    keras.utils.set_random_seed(settings.seed)
    learner = cnn.augmented(cnn.cnn(len(CLASSES)), settings.seed)
    learner.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    seconds: list[float] = []
    busy: list[float] = []
    learner.fit(batches, epochs=epochs, shuffle=False, verbose=0, callbacks=[_stopwatch(seconds), _stopwatch(busy, time.process_time)])
    return _Pace([photos / taken for taken in seconds[1:]], sum(busy[1:]) / sum(seconds[1:]))


def _stopwatch(seconds: list[float], clock: Callable[[], float] = time.perf_counter) -> object:
    import keras

    start = 0.0

    def begin(*_: object) -> None:
        nonlocal start
        start = clock()

    def end(*_: object) -> None:
        seconds.append(clock() - start)

    return keras.callbacks.LambdaCallback(on_epoch_begin=begin, on_epoch_end=end)


def _loaded(files: Sequence[tuple[Path, str]], classes: Sequence[str]) -> PhotoSet:
    rows = [
        {"path": str(file), "label": label, "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "split": "train"}
        for file, label in files
    ]
    return load(pa.Table.from_pylist(rows), Folder(), Limits(), classes, 0, silent, 1 << 40, SystemClock())


def _draw(folder: Path, photos: int) -> None:
    grain = np.random.default_rng(0)
    for number in range(photos):
        label = CLASSES[number % len(CLASSES)]
        drawn = Image.open(io.BytesIO(demo_photos.photo(label, number))).resize(SIZE, Image.Resampling.BICUBIC)
        noisy = np.clip(np.asarray(drawn) + grain.normal(0.0, 12.0, (SIZE[1], SIZE[0], 3)), 0, 255).astype(np.uint8)
        (folder / label).mkdir(exist_ok=True)
        Image.fromarray(noisy).save(folder / label / f"{number}.jpg", quality=90)


if __name__ == "__main__":
    # python -m benchmarks.training [FOLDER]: FOLDER has a subfolder of photos for each class, and is measured too.
    for row in run(real=Path(sys.argv[1]) if len(sys.argv) > 1 else None):
        print(row)
