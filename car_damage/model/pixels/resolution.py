"""Learns a model's preparation from its training photos: the resolution and the compression that most of them have.

Training photos are often thumbnails of a web page, and the photos to be answered come from a camera. At a common resolution both look
alike to the network.
"""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data.photos.checked import read_checked
from car_damage.data.photos.splits import TRAIN
from car_damage.machine import cores
from car_damage.model.pixels.reading import failures
from car_damage.photo.compression import jpeg_quality
from car_damage.photo.limits import SIZE
from car_damage.photo.preparation import MOST, Preparation
from car_damage.ports import Clock, Files
from car_damage.stage import silent

LEAST = SIZE * SIZE // 4
"""Pixels: half the width and half the height of the square. In smaller photos a scratch would no longer be seen, so no other photo is
brought to less, however small the training photos are."""
SAMPLE = 128
"""Training photos whose compression is looked at, at most: a median of more would be the same within one or two steps of quality."""
FEWEST = 10
"""JPEGs among them, at least. A median of fewer is chance."""
_STEPS = 4
"""Areas between one and its double: a step is 9 % of the width and the height."""
_STEP = 5
"""Of the quality."""


def learn(rows: pa.Table, files: Files, workers: int, clock: Clock) -> Preparation:
    """The preparation that brings larger photos to what most training photos are like.

    The area is the median of width times height. Both numbers are rounded, so that some new photos seldom change them: features of the
    photos are kept for one preparation (see car_damage.data.photos.features). Where the area is above `preparation.MOST`, the square
    hides how large a photo was, and nothing has to be done. The quality is the median over the JPEGs among the first SAMPLE training
    photos, in the order of their sha256, which is as good as chance. Photos that cannot be read do not count.

    Args:
        rows: path, sha256, split, width and height of silver, in any order; at least one training photo.
        files: the sample is read through it.
        workers: threads, 0 for one a core.
        clock: waits before photos are read again.
    """
    train = rows.filter(pc.equal(rows["split"], TRAIN)).sort_by("sha256")
    area = int(np.median(pc.multiply(train["width"], train["height"]).to_numpy()))
    if area > MOST:
        return Preparation()
    rounded = round(2 ** (round(math.log2(area) * _STEPS) / _STEPS))
    return Preparation(min(max(LEAST, rounded), MOST), _quality(train.slice(0, SAMPLE), files, workers, clock))


def _quality(sample: pa.Table, files: Files, workers: int, clock: Clock) -> int | None:
    paths, sha256s = sample["path"].to_pylist(), sample["sha256"].to_pylist()
    qualities: dict[int, int | None] = {}

    def look(number: int) -> None:
        qualities[number] = jpeg_quality(read_checked(files, paths[number], sha256s[number]))

    with ThreadPoolExecutor(workers or cores(), thread_name_prefix="resolution") as pool:
        failures(pool, look, len(paths), clock, silent)
    of_jpegs = [quality for quality in qualities.values() if quality is not None]
    return round(float(np.median(of_jpegs)) / _STEP) * _STEP or 1 if len(of_jpegs) >= FEWEST else None
