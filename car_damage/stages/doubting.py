"""Finds the labels that look wrong after a training. A part of the stage train."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data.doubts import Doubt, Doubts
from car_damage.data.silver import REVIEW
from car_damage.model.pixels.photos import Photos
from car_damage.model.quality.doubt import doubted
from car_damage.model.quality.plots import Tile


@dataclass(frozen=True)
class Asked:
    """Photos, and what a model says that has not learned from them."""

    photos: Photos
    probabilities: npt.NDArray[np.float64]
    """(n, classes)"""


def doubts(asked: Sequence[Asked], rows: pa.Table, classes: Sequence[str], most: int, now: str) -> tuple[Doubts, list[Tile]]:
    """The photos whose labels look wrong, most doubtful first. A label that a person has said is not doubted.

    Args:
        asked: photos that the training has not learned from, or in cross-validation only.
        rows: of silver: sha256 and label_from.
        classes: names, in the order of the columns.
        most: photos at most.
        now: in ISO 8601.

    Returns:
        The doubts, and the photos for a contact sheet.
    """
    said = {*rows["sha256"].filter(pc.fill_null(pc.equal(rows["label_from"], REVIEW), False)).to_pylist()}
    places = [(part, row) for part in asked for row, sha256 in enumerate(part.photos.sha256s) if sha256 not in said]
    if not places:
        return Doubts(now), []
    labels = np.array([part.photos.labels[row] for part, row in places])
    found, tiles = [], []
    for place in doubted(labels, np.stack([part.probabilities[row] for part, row in places]), most).tolist():
        part, row = places[place]
        chances = dict(zip(classes, part.probabilities[row].tolist(), strict=True))
        doubt = Doubt(part.photos.sha256s[row], part.photos.paths[row], classes[labels[place]], chances)
        tiles.append(
            Tile(part.photos.pixels[row], f"labelled {doubt.label}\nmodel says {doubt.says} ({chances[doubt.says]:.0%})", doubt.path)
        )
        found.append(doubt)
    return Doubts(now, tuple(found), len(places)), tiles
