"""The network transfer: what a training costs that finds the features of nearly all photos in the table, and the head of many photos.

Both are processor time. The first is that of the whole stage: silver is read, new photos are seen, the head is chosen, evaluated,
exported and logged. The baseline is the first training, which has to compute all features. The photos are real ones where there are
some, and drawn otherwise. The backbone is EfficientNetV2B0 with random weights: the numbers of an untrained network take as long.
"""

import hashlib
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks import real_photos
from car_damage.model.networks import heads, startup
from car_damage.photo.decoder import inspect
from car_damage.pipeline import TrainRequest
from car_damage.platform import Target
from car_damage.settings import Settings, Training
from car_damage.stage import silent
from car_damage.stages.train import STAGE as TRAIN
from deployments import demo_photos

PHOTOS = 1_590
"""As many as the real photos have, with equally many of each class."""
MANY = 10_000
SPLITS = ("train",) * 14 + ("validation",) * 3 + ("test",) * 3
"""Of 20 photos of a class, with the shares that the settings have by default."""


def run(photos: int = PHOTOS, many: int = MANY) -> list[dict[str, object]]:
    startup.import_quietly()
    with tempfile.TemporaryDirectory() as root:
        settings = Settings(home=Path(root, "home"), training=Training(network="transfer", weights="none"))
        target = Target(settings)
        rows = list(itertools.islice(_photos(Path(root, "photos"), settings.labels.classes), photos))
        known, more = (_silver(target, rows[: round(photos * share)]) for share in (0.99, 1.0))
        first, again = (_seconds(partial(TRAIN.work, request, target, silent)) for request in (known, more))
    head = _seconds(partial(heads.fit, *_drawn(many), 3, "ordinal", 1))
    return [
        _row(f"transfer: training after 1 % new photos, of {photos:,}", again, f"the first training, {first:.0f} s", first),
        _row(f"transfer: head of {many:,} photos in two views", head, "a minute", 60.0),
    ]


def _row(name: str, value: float, baseline: str, of: float) -> dict[str, object]:
    return {"name": name, "value": value, "unit": "s", "baseline": baseline, "ratio": value / of}


def _seconds(work: Callable[[], Any]) -> float:
    """Of all processors, those of child processes included."""
    start = sum(os.times()[:4])
    work()
    return sum(os.times()[:4]) - start


def _silver(target: Target, rows: list[dict[str, Any]]) -> TrainRequest:
    version = target.tables.merge(target.settings.tables.silver, pa.Table.from_pylist(rows), ["sha256"])
    return replace(TrainRequest("benchmark", version, "f" * 64, "key"), training_key=f"key-{version}")


def _photos(folder: Path, classes: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Rows of silver, the classes in turn."""
    for number, files in enumerate(zip(*(_files(folder, label, place) for place, label in enumerate(classes)), strict=False)):
        for label, file in zip(classes, files, strict=True):
            data = file.read_bytes()
            found = inspect(data)
            size = {"height": found.height, "width": found.width}
            hashes = {"sha256": hashlib.sha256(data).hexdigest(), "phash": found.phash}
            yield {"path": str(file), "label": label, **size, **hashes, "split": SPLITS[number % len(SPLITS)]}


def _files(folder: Path, label: str, place: int) -> Iterator[Path]:
    """The photos of a class."""
    if (real := real_photos.folder()) is not None:
        yield from sorted((real / "train" / real_photos.FOLDERS[place]).iterdir())
        return
    (folder / label).mkdir(parents=True)
    for number in itertools.count():
        file = folder / label / f"{number}.jpg"
        file.write_bytes(demo_photos.photo(label, number))
        yield file


def _drawn(photos: int, length: int = 1280) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Features (n, 2, d) that tell the classes apart about as well as those of real photos do, labels (n,) and groups (n,)."""
    random = np.random.default_rng(0)
    labels = np.arange(photos) % 3
    features = random.normal(size=(photos, 1, length)) @ random.normal(size=(length, length)) / np.sqrt(length)
    features = np.maximum(features + random.normal(size=(photos, 2, length)) / 4, 0)
    features[:, :, 0] += 0.5 * labels[:, None]
    return features.astype(np.float32), labels, np.arange(photos)
