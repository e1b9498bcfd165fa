"""How many labels that are wrong on purpose are among the first that look wrong, on real photos and by the recipe of the service.

2 % of all labels become another class at random. The photos of train/ are asked in cross-validation, those of val/ of the head that
learned from train/, wrong labels included. The baseline is what chance finds. Features are kept in build/trials.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks import real_photos, trials_features
from benchmarks.trials_features import WIDTHS, Library, library
from car_damage.model.networks import heads
from car_damage.model.quality.doubt import SHARE, doubted

WRONG = 0.02
SEEDS = range(10)
_VIEWS = ("common", "mirrored")
_SEEN = sum(WIDTHS[:3])
"""Features of the output and of two earlier layers, as the service has them."""


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


def kept() -> bool:
    """Whether the features are there, which cost minutes."""
    return all((trials_features.KEPT / f"{view}.npz").exists() for view in _VIEWS)


def shares(place: Path, seeds: range) -> Iterator[float]:
    """The share of the wrong labels that is found, by seed."""
    photos, features = _photos(place)
    for seed in seeds:
        random = np.random.default_rng(seed)
        wrong = random.choice(len(photos.labels), round(WRONG * len(photos.labels)), replace=False)
        labels = photos.labels.copy()
        labels[wrong] = (labels[wrong] + random.integers(1, 3, len(wrong))) % 3
        looks_wrong = doubted(labels, _said(photos, features, labels), len(labels))
        yield float(np.isin(wrong, looks_wrong).mean())


@cache
def _photos(place: Path) -> tuple[Library, npt.NDArray[np.float32]]:
    """(n, views, d)."""
    photos = library(place)
    return photos, np.stack([trials_features.features(photos, view)[0][:, :_SEEN] for view in _VIEWS], axis=1)


def _said(photos: Library, features: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """(n, classes), of heads that have not learned from the photo."""
    fitted = heads.fit(features[photos.train], labels[photos.train], photos.near[photos.train], 3, "ordinal", 1)
    assert fitted.out_of_fold is not None
    said = np.zeros((len(labels), 3))
    said[photos.train], said[photos.val] = fitted.out_of_fold, fitted.head.probabilities(features[photos.val, 0])
    return said
