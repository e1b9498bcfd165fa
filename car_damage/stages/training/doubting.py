"""Finds the labels that look wrong after a training. A part of the stage train."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data.people.doubts import Doubt, Doubts
from car_damage.data.photos.silver import REVIEW
from car_damage.model.pixels.photos import Photos
from car_damage.model.quality.doubt import doubted
from car_damage.model.quality.plots import Tile
from car_damage.photo.decoder import Pixels
from car_damage.stages.training.baselining import UnseenPhotos

SHOWN = 40
"""Photos on the contact sheet, at most: with these it has 5 MB, and Prefect keeps it in its database."""


@dataclass(frozen=True)
class DoubtfulPhotos:
    """The labels that look wrong."""

    doubts: Doubts
    places: Sequence[tuple[Photos, int]] = ()
    """For each of them the photos among which it is, and its row there."""

    def tiles(self) -> list[Tile]:
        """The first `SHOWN` photos, as far as they can still be read, for a contact sheet."""
        shown = self.places[:SHOWN]
        pixels: dict[int, Pixels] = {}
        for part in {id(photos): photos for photos, _ in shown}.values():
            places = np.array([place for place, (photos, _) in enumerate(shown) if photos is part])
            seen, there = part.look(np.array([shown[place][1] for place in places]))
            pixels |= dict(zip(places[there].tolist(), seen, strict=True))
        return [Tile(pixels[place], _words(one), one.path) for place, one in enumerate(self.doubts.photos[:SHOWN]) if place in pixels]


def _words(one: Doubt) -> str:
    return f"labelled {one.label}\nmodel says {one.says} ({one.probabilities[one.says]:.0%})"


def found(asked: Sequence[UnseenPhotos], rows: pa.Table, classes: Sequence[str], most: int, now: str) -> DoubtfulPhotos:
    """The photos whose labels look wrong, most doubtful first. A label that a person has said is not doubted.

    Args:
        asked: photos that the training has not learned from, or in cross-validation only.
        rows: of silver: sha256 and label_from.
        classes: names, in the order of the columns.
        most: photos at most.
        now: in ISO 8601.
    """
    said = {*rows["sha256"].filter(pc.fill_null(pc.equal(rows["label_from"], REVIEW), False)).to_pylist()}
    places = [(part, row) for part in asked for row, sha256 in enumerate(part.photos.sha256s) if sha256 not in said]
    if not places:
        return DoubtfulPhotos(Doubts(now))
    labels = np.array([part.photos.labels[row] for part, row in places])
    probabilities = np.stack([part.probabilities[row] for part, row in places])
    wrong = [(place, *places[place]) for place in doubted(labels, probabilities, most).tolist()]
    photos = tuple(
        Doubt(part.photos.sha256s[row], part.photos.paths[row], classes[labels[place]], _by_class(classes, probabilities[place]))
        for place, part, row in wrong
    )
    return DoubtfulPhotos(Doubts(now, photos, len(places)), [(part.photos, row) for _, part, row in wrong])


def _by_class(classes: Sequence[str], probabilities: npt.NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(classes, probabilities.tolist(), strict=True))
