"""How many labels that are wrong on purpose are among the first that look wrong, on real photos and by the recipe of the service.

2 % of all labels become another class at random. The photos of train/ are asked in cross-validation, those of val/ of the head that
learned from train/, wrong labels included. The baseline is what chance finds.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks import real_features, real_photos
from benchmarks.real_features import RealFeatures
from car_damage.model.networks import heads
from car_damage.model.quality.doubt import SHARE, doubted

WRONG = 0.02
SEEDS = range(10)


def run() -> list[dict[str, object]]:
    place = real_photos.folder()
    if place is None:
        print(f"no photos at {real_photos.FOLDER}: skipped")
        return []
    found = list(shares(place, SEEDS))
    print(f"found, by seed: {', '.join(f'{share:.2f}' for share in found)}")
    mean = float(np.mean(found))
    name = f"doubt: wrong labels among the {SHARE:.0%} that are asked about"
    return [{"name": name, "value": mean, "unit": "share", "baseline": f"chance: {SHARE:g}", "ratio": mean / SHARE}]


def shares(place: Path, seeds: range) -> Iterator[float]:
    """The share of the wrong labels that is found, by seed."""
    real = real_features.of(place)
    for seed in seeds:
        random = np.random.default_rng(seed)
        true = real.photos.labels
        wrong = random.choice(len(true), round(WRONG * len(true)), replace=False)
        labels = true.copy()
        labels[wrong] = (labels[wrong] + random.integers(1, 3, len(wrong))) % 3
        looks_wrong = doubted(labels, _said(real, labels), len(labels))
        yield float(np.isin(wrong, looks_wrong).mean())


def _said(real: RealFeatures, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """(n, classes), of heads that have not learned from the photo."""
    photos = real.photos
    fitted = heads.fit(real.train.features, labels[photos.train], photos.near[photos.train], 3, real.settings.head, 1)
    assert fitted.out_of_fold is not None
    said = np.zeros((len(labels), 3))
    said[photos.train], said[photos.val] = fitted.out_of_fold, fitted.head.probabilities(real.val.plain)
    return said
