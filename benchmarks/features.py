"""The network transfer: what a training costs whose features are in the table already, and how long a head takes for 10,000 photos.

Both are processor time, and without evaluation and export, which cost the same each time. The baseline is the training that computes
all features. The backbone is EfficientNetV2B0 with random weights: the numbers of an untrained network take as long.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from car_damage.model.networks import backbone, heads
from car_damage.model.pixels.photos import Photos, PhotoSet
from car_damage.platform import Target
from car_damage.settings import Settings, Training
from car_damage.stage import silent
from car_damage.stages import transfer

PHOTOS = 1000
MANY = 10_000


def run(photos: int = PHOTOS, many: int = MANY) -> list[dict[str, object]]:
    with tempfile.TemporaryDirectory() as root:
        settings = Settings(home=Path(root), training=Training(network="transfer", weights="none"))
        target = Target(settings)
        seeing = backbone.load(settings.training, target.files)
        seeing.features(np.zeros((backbone.BATCH, 224, 224, 3), np.uint8))  # the first call compiles
        shown, rows = _photos(photos)
        before = round(photos * 0.99)
        known = PhotoSet(shown.splits[:before], shown.photos.only(np.arange(photos) < before))
        first = _seconds(lambda: transfer.train(rows, known, seeing, target, silent))
        again = _seconds(lambda: transfer.train(rows, shown, seeing, target, silent))
    head = _seconds(lambda: _head(many))
    return [
        _row(f"transfer: training after 1 % new photos, of {photos}", again, f"all features, {first:.0f} s", first),
        _row(
            f"transfer: head of {many:,} photos in two views", head, f"their features, {first / before * many:.0f} s", first / before * many
        ),
    ]


def _row(name: str, value: float, baseline: str, of: float) -> dict[str, object]:
    return {"name": name, "value": value, "unit": "s", "baseline": baseline, "ratio": value / of}


def _seconds(work: Callable[[], Any]) -> float:
    """Of all processors."""
    start = time.process_time()
    work()
    return time.process_time() - start


def _photos(count: int) -> tuple[PhotoSet, pa.Table]:
    """Noise, each in a group of its own."""
    random = np.random.default_rng(0)
    sha256s = tuple(f"{number:064x}" for number in range(count))
    photos = Photos(random.integers(0, 256, (count, 224, 224, 3), np.uint8), np.arange(count) % 3, sha256s, sha256s)
    hashes = random.integers(-(2**63), 2**63 - 1, count)
    return PhotoSet(np.array(["train"] * count, object), photos), pa.table({"sha256": sha256s, "phash": hashes})


def _head(photos: int, length: int = 1280) -> heads.Fitted:
    """Features that tell the classes apart about as well as those of real photos do."""
    random = np.random.default_rng(0)
    labels = np.arange(photos) % 3
    features = random.normal(size=(photos, 1, length)) @ random.normal(size=(length, length)) / np.sqrt(length)
    features = np.maximum(features + random.normal(size=(photos, 2, length)) / 4, 0)
    features[:, :, 0] += 0.5 * labels[:, None]
    return heads.fit(features.astype(np.float32), labels, np.arange(photos), 3, "ordinal", 1)
