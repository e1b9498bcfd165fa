"""Real photos for benchmarks: shared/data/vehicle-damage beside the checkout, with train/ and val/, and in each a folder for each class.

They are those of VDS-2.5k (MIT licence). The variable CAR_DAMAGE_REAL_PHOTOS names another folder of this kind.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from car_damage.model.pixels.photos import Photos
from car_damage.photo.decoder import decode

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "vehicle-damage"
FOLDERS = ("minor", "moderate", "severe")
"""From mildest to worst."""


def folder() -> Path | None:
    """Where they are; None where they are not."""
    place = Path(os.environ.get("CAR_DAMAGE_REAL_PHOTOS", FOLDER))
    return place if place.is_dir() else None


def photos(part: Path, each: int | None = None) -> Photos:
    """The photos of train/ or val/, decoded; of each class at most so many."""
    files = [(file, label) for label, name in enumerate(FOLDERS) for file in sorted((part / name).iterdir())[:each]]
    return _decoded([file for file, _ in files], [label for _, label in files])


def split(all_photos: Photos, share: float, seed: int) -> tuple[Photos, Photos]:
    """Two parts at random, of which the second one has this share."""
    second = np.random.default_rng(seed).random(len(all_photos)) < share
    return all_photos.only(~second), all_photos.only(second)


def _decoded(files: Sequence[Path], labels: Sequence[int]) -> Photos:
    with ThreadPoolExecutor() as pool:
        pixels = np.stack(list(pool.map(lambda file: decode(file.read_bytes()).pixels, files)))
    names = tuple(file.name for file in files)
    return Photos(pixels, np.asarray(labels, np.int64), names, tuple(map(str, files)))
